//! The Open Inference Protocol over HTTP, with the extensions of Triton that `metadata` lists. What
//! can be called, and what was counted of it, is the dispatcher's.

mod classes;
mod compression;
mod config;
mod data;
mod decode;
mod encode;
mod fields;
mod infer;
mod json;
mod metadata;
mod outputs;
mod parameters;
mod raw;
mod receive;
mod regions;
mod repository;
mod settings;
mod statistics;

pub(crate) use classes::{ClassError, class_count};
pub(crate) use compression::{Coding, CodingError};
pub(crate) use config::{DynamicBatching, InstanceGroup, ModelConfig, TensorConfig, model_config};
#[cfg(any(test, fuzzing))]
pub(crate) use decode::InferenceRequest;
pub(crate) use decode::{MAX_DIMENSIONS, MAX_NAME, MAX_TENSORS};
pub(crate) use encode::EncodeError;
pub(crate) use fields::DecodeError;
pub(crate) use infer::{HeaderError, describe, infer};
pub(crate) use metadata::{
    extensions, live, model_metadata, model_ready, platform, ready, server_metadata,
};
pub(crate) use outputs::{Form, Output, OutputError, RequestedOutput, Wanted, put_away};
pub(crate) use parameters::{NO_SEQUENCES, NO_SHARED_CLASSES};
pub(crate) use raw::RawError;
pub(crate) use receive::off_thread;
pub(crate) use regions::{no_cuda_region, region_status, register_region, unregister_regions};
pub(crate) use repository::{load_model, repository_index, state, unload_model};
pub(crate) use settings::{SettingError, agree, change_settings, settings};
pub(crate) use statistics::statistics;
