//! The export of functions of kind "inference".

use crate::{
    Error, Inputs, Outputs,
    bindings::quern::ml::tensors,
    error::{ErrorKind, into_contract},
};

/// Makes `fn(Inputs) -> Result<Outputs, Error>` the function of this component, of kind
/// "inference". The host has checked the inputs against the signature in the manifest, and checks
/// the outputs before they are sent.
///
/// ```
/// use quern_sdk::{Error, Inputs, Outputs, Tensor};
///
/// quern_sdk::inference!(mean);
///
/// fn mean(inputs: Inputs) -> Result<Outputs, Error> {
///     let values = inputs.get("values")?.to_f32()?;
///     if values.is_empty() {
///         return Err(Error::invalid_input("no values: their mean is undefined"));
///     }
///     let mean = values.iter().sum::<f32>() / values.len() as f32;
///     Ok(Tensor::f32("mean", [], &[mean])?.into())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! inference {
    ($handler:path) => {
        const _: () = {
            struct Function;

            impl $crate::bindings::exports::quern::ml::inference::Guest for Function {
                fn infer(
                    inputs: Vec<$crate::bindings::quern::ml::tensors::Tensor>,
                ) -> Result<
                    Vec<$crate::bindings::quern::ml::tensors::Tensor>,
                    $crate::bindings::quern::ml::tensors::Error,
                > {
                    $crate::inference::answer(inputs, $handler)
                }
            }

    $crate::bindings::export_inference!(Function with_types_in $crate::bindings);
        };
    };
}

/// Runs a handler on the contract's types; a failure is logged unless the caller is at fault.
#[doc(hidden)]
pub fn answer(
    inputs: Vec<tensors::Tensor>,
    handler: fn(Inputs) -> Result<Outputs, Error>,
) -> Result<Vec<tensors::Tensor>, tensors::Error> {
    match handler(Inputs::from_contract(inputs)) {
        Ok(outputs) => Ok(outputs.into_contract()),
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge) {
                eprintln!("error: {error}");
            }
            Err(into_contract(error))
        }
    }
}
