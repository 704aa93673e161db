//! Models called with tensors of a device, which don't pass through the function's memory.

use std::fmt;

use super::{Error, Session, Tensor};
use crate::{Model, bindings::quern::ml::gpu_models as contract, error::from_contract};

/// The outputs of a model on the device, in the order of its signature.
#[derive(Debug, Clone)]
pub struct Outputs(Vec<(String, Tensor)>);

/// Why a call with tensors of a device has no outputs.
///
/// `?` makes an error of the function of it, as of the errors in it.
#[derive(Debug)]
pub enum CallError {
    /// The session, its tensors, or room for the outputs.
    Device(Error),
    /// The model, as [`Model::infer`] says it.
    Model(crate::Error),
}

impl Session {
    /// Calls a model with tensors of this session, by their names in its signature, and waits for
    /// its outputs, which are tensors of this session. Neither pass through the function's memory.
    ///
    /// ```no_run
    /// # use quern_sdk::{Error, Model, gpu::Session};
    /// /// The most probable class of each image.
    /// fn classify(session: &Session, pixels: &[f32]) -> Result<Vec<i64>, Error> {
    ///     let images = session.tensor([pixels.len() as u64 / 64, 64], pixels)?;
    ///     let model = Model::open("digits-mlp")?;
    ///     let mut outputs = session.infer(&model, &[("image", &images)])?;
    ///     Ok(outputs.take("probabilities")?.arg_max(-1)?.to_vec()?)
    /// }
    /// ```
    pub fn infer(&self, model: &Model, inputs: &[(&str, &Tensor)]) -> Result<Outputs, CallError> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.handle())).collect();
        let outputs = contract::infer(model.handle(), self.handle(), &inputs);
        let outputs = outputs.map_err(CallError::from_contract)?.into_iter();
        Ok(Outputs(outputs.map(|(name, handle)| (name, Tensor::new(handle, self))).collect()))
    }
}

impl Outputs {
    /// The output of this name.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| self.missing(name))
    }

    /// Takes the output of this name out.
    pub fn take(&mut self, name: &str) -> Result<Tensor, Error> {
        match self.0.iter().position(|(known, _)| known == name) {
            Some(index) => Ok(self.0.remove(index).1),
            None => Err(self.missing(name)),
        }
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (&**name, tensor))
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<_> = self.iter().map(|(name, _)| name).collect();
        Error::invalid(format!("there is no output {name:?} among {names:?}"))
    }
}

impl CallError {
    fn from_contract(error: contract::Error) -> Self {
        match error {
            contract::Error::Device(error) => Self::Device(Error::from_contract(error)),
            contract::Error::Model(error) => Self::Model(from_contract(error)),
        }
    }

    /// What happened.
    pub fn message(&self) -> &str {
        match self {
            Self::Device(error) => error.message(),
            Self::Model(error) => error.message(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl From<CallError> for crate::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Device(error) => error.into(),
            CallError::Model(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ErrorKind,
        bindings::quern::ml::{gpu, tensors},
    };

    #[test]
    fn errors_of_a_call_are_those_of_whoever_refused_it() {
        let device = contract::Error::Device(gpu::Error::Exhausted("full".into()));
        let device = CallError::from_contract(device);
        assert_eq!(device.to_string(), "full");
        let CallError::Device(error) = &device else { panic!("{device:?}") };
        assert_eq!(error.kind(), super::super::ErrorKind::Exhausted);
        let model = contract::Error::Model(tensors::Error::TimedOut("late".into()));
        let model = CallError::from_contract(model);
        assert_eq!(model.message(), "late");
        assert_eq!(crate::Error::from(model).kind(), ErrorKind::TimedOut);
        assert_eq!(crate::Error::from(device).kind(), ErrorKind::Internal);
    }
}
