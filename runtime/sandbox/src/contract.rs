//! The host's side of `quern:ml`: generated bindings, and the way between their types and ours.

use quern_types::{DataType, GuestFault, InvokeError, ModelError, Tensor, TensorSpec};

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package quern:host;
        world contract {
            import quern:ml/models@0.1.0;
            export quern:ml/inference@0.1.0;
        }
    ",
    world: "quern:host/contract",
    imports: {
        "quern:ml/models.[static]model.open": trappable,
        "quern:ml/models.[method]model.inputs": trappable,
        "quern:ml/models.[method]model.outputs": trappable,
        "quern:ml/models.[method]model.infer": async | trappable,
        "quern:ml/models.[method]model.start": trappable,
        "quern:ml/models.[method]pending.subscribe": trappable,
        "quern:ml/models.[method]pending.get": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "quern:ml/models.model": crate::models::OpenModel,
        "quern:ml/models.pending": crate::models::PendingCall,
    },
});

pub(crate) use self::quern::ml::{
    models::{self as models_import, TensorSpec as GuestTensorSpec},
    tensors::{DataType as GuestDataType, Error as GuestError, Tensor as GuestTensor},
};

/// A tensor of a guest, checked: its data must be as long as its shape says.
fn to_host(tensor: GuestTensor) -> Result<Tensor, String> {
    Tensor::new(tensor.name, dtype_to_host(tensor.data_type), tensor.shape, tensor.data)
        .map_err(|error| error.to_string())
}

/// A tensor for a guest.
fn to_guest(tensor: &Tensor) -> GuestTensor {
    GuestTensor {
        name: tensor.name().to_string(),
        data_type: dtype_to_guest(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        data: tensor.data().to_vec(),
    }
}

/// Tensors of a guest, all checked; otherwise what is wrong with the first bad one.
pub(crate) fn all_to_host(tensors: Vec<GuestTensor>) -> Result<Vec<Tensor>, String> {
    tensors.into_iter().map(to_host).collect()
}

/// Tensors for a guest.
pub(crate) fn all_to_guest(tensors: &[Tensor]) -> Vec<GuestTensor> {
    tensors.iter().map(to_guest).collect()
}

/// Specifications for a guest.
pub(crate) fn specs_to_guest(specs: &[TensorSpec]) -> Vec<GuestTensorSpec> {
    let convert = |spec: &TensorSpec| GuestTensorSpec {
        name: spec.name.to_string(),
        data_type: dtype_to_guest(spec.dtype),
        shape: spec.shape.clone(),
    };
    specs.iter().map(convert).collect()
}

/// A failed model call, for the guest that made it.
pub(crate) fn model_error_to_guest(error: &ModelError) -> GuestError {
    let text = error.to_string();
    match error {
        ModelError::NotFound { .. }
        | ModelError::NotShared { .. }
        | ModelError::VersionNotFound { .. }
        | ModelError::Unloaded { .. } => GuestError::NotFound(text),
        ModelError::Signature { .. } | ModelError::Rows { .. } => GuestError::InvalidInput(text),
        ModelError::QueueFull { .. }
        | ModelError::QueueMemory { .. }
        | ModelError::TooLate { .. } => GuestError::Overloaded(text),
        ModelError::DeadlineExceeded { .. } => GuestError::TimedOut(text),
        ModelError::Device { .. } | ModelError::Unavailable { .. } => GuestError::Internal(text),
    }
}

/// The error that a guest answered with, for its caller.
pub(crate) fn guest_error_to_host(error: GuestError) -> InvokeError {
    let (fault, message) = match error {
        GuestError::InvalidInput(message) => (GuestFault::Input, message),
        GuestError::Overloaded(message) => (GuestFault::Overload, message),
        GuestError::TimedOut(message) => (GuestFault::Time, message),
        GuestError::NotFound(message) | GuestError::Internal(message) => {
            (GuestFault::Internal, message)
        }
    };
    InvokeError::Guest { fault, message }
}

macro_rules! data_types {
    ($($name:ident),*) => {
        fn dtype_to_host(dtype: GuestDataType) -> DataType {
            match dtype { $(GuestDataType::$name => DataType::$name,)* }
        }
        fn dtype_to_guest(dtype: DataType) -> GuestDataType {
            match dtype { $(DataType::$name => GuestDataType::$name,)* }
        }
    };
}
data_types!(
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes
);
