//! What the protocol says about the server and about models, without running anything: the same as
//! over HTTP, in its messages.

use std::time::SystemTime;

use http::StatusCode;
use quern_dispatcher::{BatchStatistics, Found, Tally};
use quern_types::{Caller, QualifiedName, TensorSpec, VersionNumber};

use super::protocol::{
    self, DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelDynamicBatching,
    ModelInput, ModelInstanceGroup, ModelMetadataResponse, ModelOutput, ModelStatistics,
    ModelStatisticsResponse, ModelTransactionPolicy, ModelVersionPolicy, ServerMetadataResponse,
    StatisticDuration,
    model_config::SchedulingChoice,
    model_instance_group::Kind,
    model_metadata_response::TensorMetadata,
    model_version_policy::{All, PolicyChoice},
};
use crate::{
    Gateway,
    errors::Failure,
    route::Target,
    sharing::{Reached, ShareError},
    v2,
};

pub(super) fn server_metadata(gateway: &Gateway) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "quern".into(),
        version: gateway.config.version.into(),
        extensions: v2::extensions(gateway).into_iter().map(str::to_owned).collect(),
    }
}

/// Whether a model takes calls. One that is not there doesn't, which is no error.
pub(super) fn model_ready(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<bool, Failure> {
    let target = Target::parse(name, version)?;
    match gateway.reach_target(caller, &target) {
        Ok(Reached { owner, routes }) => {
            let Target { name, version } = target;
            Ok(gateway.dispatcher.readiness(&routes, &owner, &name.name, version).is_ok())
        }
        Err(failure) if failure.status() == StatusCode::NOT_FOUND => Ok(false),
        Err(failure) => Err(failure),
    }
}

pub(super) fn model_metadata(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<ModelMetadataResponse, Failure> {
    let (name, found) = find(gateway, caller, name, version)?;
    let describe = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.dtype.to_string(),
        shape: spec.shape.clone(),
    };
    let signature = found.signature();
    Ok(ModelMetadataResponse {
        name: name.to_string(),
        versions: found.versions().iter().map(VersionNumber::to_string).collect(),
        platform: v2::platform(found.engine()),
        inputs: signature.inputs().iter().map(describe).collect(),
        outputs: signature.outputs().iter().map(describe).collect(),
    })
}

pub(super) fn model_config(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<ModelConfig, Failure> {
    let (name, found) = find(gateway, caller, name, version)?;
    Ok(v2::ModelConfig::new(&name, &found, &gateway.dispatcher.model_devices()).into())
}

/// Statistics of one version, of all of one name, or of all there is.
pub(super) fn statistics(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<ModelStatisticsResponse, Failure> {
    let (name, version) = match (name, version) {
        ("", "") => (None, None),
        (name, version) => {
            let Target { name, version } = Target::parse(name, version)?;
            if name.owner.is_some() {
                // What was counted is its owner's alone.
                return Err(ShareError::NotShared { name, tenant: caller.tenant.clone() }.into());
            }
            (Some(name.name), version)
        }
    };
    let counted = gateway.dispatcher.statistics(&caller.tenant, name.as_ref(), version)?;
    Ok(ModelStatisticsResponse { model_stats: counted.into_iter().map(Into::into).collect() })
}

fn find(
    gateway: &Gateway,
    caller: &Caller,
    name: &str,
    version: &str,
) -> Result<(QualifiedName, Found), Failure> {
    let target = Target::parse(name, version)?;
    let found = gateway.find(caller, &target)?;
    Ok((target.name, found))
}

impl From<v2::ModelConfig> for ModelConfig {
    fn from(config: v2::ModelConfig) -> Self {
        let data_type = |name| DataType::from_str_name(name).unwrap_or_default().into();
        let input = |tensor: v2::TensorConfig| ModelInput {
            name: tensor.name.to_string(),
            data_type: data_type(tensor.data_type),
            dims: tensor.dims,
        };
        let output = |tensor: v2::TensorConfig| ModelOutput {
            name: tensor.name.to_string(),
            data_type: data_type(tensor.data_type),
            dims: tensor.dims,
        };
        let group = |group: v2::InstanceGroup| ModelInstanceGroup {
            name: group.name,
            count: count(group.count),
            gpus: group.gpus.into_iter().map(i32::from).collect(),
            kind: Kind::from_str_name(group.kind).unwrap_or_default().into(),
        };
        let batching = |batching: v2::DynamicBatching| {
            SchedulingChoice::DynamicBatching(ModelDynamicBatching {
                max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
            })
        };
        let decoupled = config.model_transaction_policy.decoupled;
        Self {
            name: config.name.to_string(),
            platform: config.platform,
            backend: config.backend.into(),
            version_policy: Some(ModelVersionPolicy {
                policy_choice: Some(PolicyChoice::All(All {})),
            }),
            max_batch_size: count(config.max_batch_size),
            input: config.input.into_iter().map(input).collect(),
            output: config.output.into_iter().map(output).collect(),
            instance_group: config.instance_group.into_iter().map(group).collect(),
            scheduling_choice: config.dynamic_batching.map(batching),
            model_transaction_policy: Some(ModelTransactionPolicy { decoupled }),
        }
    }
}

fn count(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

impl From<quern_dispatcher::ModelStatistics> for ModelStatistics {
    fn from(model: quern_dispatcher::ModelStatistics) -> Self {
        let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let last = model.last_inference.and_then(since_epoch).unwrap_or_default();
        Self {
            name: model.name.to_string(),
            version: model.version.to_string(),
            last_inference: u64::try_from(last.as_millis()).unwrap_or(u64::MAX),
            inference_count: model.inferences,
            execution_count: model.executions,
            inference_stats: Some(InferStatistics {
                success: tally(model.success),
                fail: tally(model.failure),
                queue: tally(model.queue),
                compute_input: tally(model.parts.input),
                compute_infer: tally(model.parts.compute),
                compute_output: tally(model.parts.output),
                cache_hit: tally(Tally::default()),
                cache_miss: tally(Tally::default()),
            }),
            batch_stats: model.batches.into_iter().map(batch).collect(),
            ..Self::default()
        }
    }
}

fn batch(batch: BatchStatistics) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: batch.rows.into(),
        compute_input: tally(batch.parts.input),
        compute_infer: tally(batch.parts.compute),
        compute_output: tally(batch.parts.output),
    }
}

fn tally(Tally { count, ns }: Tally) -> Option<protocol::StatisticDuration> {
    Some(StatisticDuration { count, ns })
}
