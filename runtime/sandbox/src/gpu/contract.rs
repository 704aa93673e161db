//! The types of `quern:ml/gpu`. Its functions are linked by hand, so that elements need not be
//! copied on their way through the bindings.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package quern:host;
        world devices {
            import quern:ml/gpu@0.1.0;
        }
    ",
    world: "quern:host/devices",
    imports: { default: trappable },
});

pub(super) use self::quern::ml::gpu::{
    self as types, Description as GuestDescription, Dtype as GuestDtype, Error as GuestError,
    Operator as GuestOperator, Usage as GuestUsage,
};
