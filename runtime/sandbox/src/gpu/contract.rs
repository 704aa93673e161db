//! The types of `quern:ml/gpu`. Its functions are linked by hand, so that elements need not be
//! copied on their way through the bindings.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package quern:host;
        world devices {
            import quern:ml/gpu@0.1.0;
            import quern:ml/gpu-models@0.1.0;
        }
    ",
    world: "quern:host/devices",
    // As those of the models are, which are among them.
    imports: { default: async | trappable },
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "quern:ml/models": crate::contract::quern::ml::models,
        "quern:ml/tensors": crate::contract::quern::ml::tensors,
    },
});

pub(super) use self::quern::ml::{
    gpu::{
        self as types, Description as GuestDescription, Dtype as GuestDtype, Error as GuestError,
        Operator as GuestOperator, Usage as GuestUsage,
    },
    gpu_models::Error as GuestCallError,
};
