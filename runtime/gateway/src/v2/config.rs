//! The model configuration extension: what is known of a model, in the fields of Triton's
//! `ModelConfig`. Fields that mean nothing here are left out.

use std::sync::Arc;

use quern_dispatcher::Found;
use quern_types::{Caller, DataType, DeviceDescription, DeviceId, QualifiedName, TensorSpec};
use serde::Serialize;
use serde_json::json;

use super::metadata::platform;
use crate::{
    Gateway,
    body::{self, Reply},
    errors::Failure,
    route::Target,
};

/// `GET /v2/models/{name}[/versions/{version}]/config`
pub(crate) fn model_config(
    gateway: &Gateway,
    caller: &Caller,
    target: &Target,
) -> Result<Reply, Failure> {
    let found = gateway.find(caller, target)?;
    let config = ModelConfig::new(&target.name, &found, &gateway.dispatcher.model_devices());
    Ok(body::json(&json!(config)))
}

/// The configuration of a version.
#[derive(Debug, Serialize)]
pub(crate) struct ModelConfig {
    pub(crate) name: QualifiedName,
    pub(crate) platform: String,
    /// The engine, or `wasm`.
    pub(crate) backend: &'static str,
    pub(crate) version_policy: VersionPolicy,
    /// 0 where calls run one by one.
    pub(crate) max_batch_size: u32,
    pub(crate) input: Vec<TensorConfig>,
    pub(crate) output: Vec<TensorConfig>,
    /// There where calls share runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dynamic_batching: Option<DynamicBatching>,
    /// Where models are computed, and how many runs at a time; none for a function, whose
    /// instances are made as they are needed.
    pub(crate) instance_group: Vec<InstanceGroup>,
    pub(crate) model_transaction_policy: TransactionPolicy,
}

/// Every kept version can be called.
#[derive(Debug, Serialize)]
pub(crate) struct VersionPolicy {
    pub(crate) all: Empty,
}

/// An object without fields.
#[derive(Debug, Serialize)]
pub(crate) struct Empty {}

/// An input or output. The dimension that counts rows is not among `dims`.
#[derive(Debug, Serialize)]
pub(crate) struct TensorConfig {
    pub(crate) name: Arc<str>,
    pub(crate) data_type: &'static str,
    pub(crate) dims: Vec<i64>,
}

/// How calls share runs: those that wait for the same lane do, and nobody waits otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct DynamicBatching {
    pub(crate) max_queue_delay_microseconds: u64,
}

/// A device that computes models.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceGroup {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    pub(crate) gpus: Vec<u16>,
}

/// Each request has one answer.
#[derive(Debug, Serialize)]
pub(crate) struct TransactionPolicy {
    pub(crate) decoupled: bool,
}

impl ModelConfig {
    pub(crate) fn new(name: &QualifiedName, found: &Found, devices: &[DeviceDescription]) -> Self {
        let max_rows = found.max_rows();
        let tensors = |specs: &[TensorSpec]| {
            specs.iter().map(|spec| TensorConfig::new(spec, max_rows.is_some())).collect()
        };
        let groups = devices.iter().filter(|_| found.engine().is_some()).map(InstanceGroup::new);
        Self {
            name: name.clone(),
            platform: platform(found.engine()),
            backend: found.engine().map_or("wasm", |engine| engine.as_str()),
            version_policy: VersionPolicy { all: Empty {} },
            max_batch_size: max_rows.unwrap_or(0),
            input: tensors(found.signature().inputs()),
            output: tensors(found.signature().outputs()),
            dynamic_batching: max_rows.map(|_| DynamicBatching { max_queue_delay_microseconds: 0 }),
            instance_group: groups.collect(),
            model_transaction_policy: TransactionPolicy { decoupled: false },
        }
    }
}

impl TensorConfig {
    fn new(spec: &TensorSpec, has_rows: bool) -> Self {
        let dims = spec.shape.iter().skip(usize::from(has_rows)).copied().collect();
        Self { name: spec.name.clone(), data_type: type_name(spec.dtype), dims }
    }
}

impl InstanceGroup {
    fn new(device: &DeviceDescription) -> Self {
        let (kind, gpus) = match device.id {
            DeviceId::Cpu(_) => ("KIND_CPU", vec![]),
            DeviceId::Cuda(ordinal) => ("KIND_GPU", vec![ordinal]),
        };
        Self { name: device.id.to_string(), kind, count: device.lanes, gpus }
    }
}

fn type_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Bf16 => "TYPE_BF16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::SystemTime};

    use quern_types::{
        BatchAxis, Deployed, Digest, Engine, FunctionKind, FunctionSpec, ModelSpec, Signature,
        Version, VersionNumber,
    };

    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, dtype, shape: &[i64]| TensorSpec {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            range: None,
        };
        let inputs = vec![spec("image", DataType::Fp32, &[-1, 64])];
        Signature::new(inputs, vec![spec("word", DataType::Bytes, &[-1])]).expect("valid")
    }

    fn version<Spec: Clone>(spec: Spec) -> (Arc<Deployed<Spec>>, Arc<Version<Spec>>) {
        let number = VersionNumber::FIRST;
        let (digest, content) = (Digest::of(b"version"), Digest::of(b"content"));
        let created = SystemTime::UNIX_EPOCH;
        let version = Arc::new(Version { number, digest, content, spec: Arc::new(spec), created });
        let versions = BTreeMap::from([(number, version.clone())]);
        (Arc::new(Deployed::new(versions, number).expect("is live")), version)
    }

    fn config(found: &Found) -> serde_json::Value {
        let device = |id, lanes| DeviceDescription {
            id,
            name: "a device".into(),
            lanes,
            engines: vec![],
            replicas: 0,
            residents: vec![],
            tensors: None,
            down: None,
            worker: None,
        };
        let devices = [device(DeviceId::Cpu(0), 2), device(DeviceId::Cuda(1), 4)];
        json!(ModelConfig::new(&"m".parse().expect("a name"), found, &devices))
    }

    #[test]
    fn a_model_whose_calls_share_runs_has_dimensions_without_rows() {
        let spec = |batch| ModelSpec::new(signature(), Engine::Tract, batch);
        let (deployed, live) = version(spec(BatchAxis::Rows { max: 8 }));
        let expected = json!({
            "name": "m", "platform": "tract_onnx", "backend": "tract",
            "version_policy": {"all": {}}, "max_batch_size": 8,
            "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [64]}],
            "output": [{"name": "word", "data_type": "TYPE_STRING", "dims": []}],
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
            "instance_group": [
                {"name": "cpu:0", "kind": "KIND_CPU", "count": 2, "gpus": []},
                {"name": "cuda:1", "kind": "KIND_GPU", "count": 4, "gpus": [1]},
            ],
            "model_transaction_policy": {"decoupled": false},
        });
        assert_eq!(config(&Found::Model(deployed, live)), expected);

        let (deployed, live) = version(spec(BatchAxis::None { reason: "stateful".into() }));
        let alone = config(&Found::Model(deployed, live));
        assert_eq!(
            (&alone["max_batch_size"], &alone["input"][0]["dims"]),
            (&json!(0), &json!([-1, 64]))
        );
        assert_eq!(alone.get("dynamic_batching"), None);
    }

    #[test]
    fn a_function_has_no_instances_of_its_own() {
        let (deployed, live) = version(FunctionSpec::new(FunctionKind::Inference(signature())));
        let config = config(&Found::Function(deployed, live));
        assert_eq!((&config["backend"], &config["instance_group"]), (&json!("wasm"), &json!([])));
    }

    #[test]
    fn every_datatype_has_its_name() {
        for dtype in DataType::ALL {
            let expected = match dtype {
                DataType::Bytes => "TYPE_STRING".into(),
                other => format!("TYPE_{other}"),
            };
            assert_eq!(type_name(dtype), expected);
        }
    }
}
