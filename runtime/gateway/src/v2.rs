//! The Open Inference Protocol over HTTP, in JSON. It has no extensions: no binary tensors, no
//! repository control.

mod data;
mod decode;
mod encode;
mod infer;
mod json;
mod metadata;

pub(crate) use decode::DecodeError;
#[cfg(any(test, fuzzing))]
pub(crate) use decode::InferenceRequest;
pub(crate) use encode::EncodeError;
pub(crate) use infer::{RequestError, infer};
pub(crate) use metadata::{model_metadata, model_ready, server_metadata};
