//! The statistics extension: the dispatcher's counters in the protocol's fields. Counts nothing.

use std::time::SystemTime;

use quern_dispatcher::{BatchStatistics, ModelStatistics, Tally};
use quern_types::Caller;
use serde_json::{Value, json};

use crate::{
    Gateway,
    body::{self, Reply},
    errors::Failure,
    route::Target,
};

/// `GET /v2/models[/{name}[/versions/{version}]]/stats`
pub(crate) fn statistics(
    gateway: &Gateway,
    caller: &Caller,
    target: Option<&Target>,
) -> Result<Reply, Failure> {
    let (name, version) =
        target.map_or((None, None), |target| (Some(&target.name.name), target.version));
    let statistics = gateway.dispatcher.statistics(&caller.tenant, name, version)?;
    let models: Vec<_> = statistics.iter().map(describe).collect();
    Ok(body::json(&json!({ "model_stats": models })))
}

fn describe(model: &ModelStatistics) -> Value {
    let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let last = model.last_inference.and_then(since_epoch).unwrap_or_default();
    json!({
        "name": model.name,
        "version": model.version.to_string(),
        "last_inference": u64::try_from(last.as_millis()).unwrap_or(u64::MAX),
        "inference_count": model.inferences,
        "execution_count": model.executions,
        "inference_stats": {
            "success": tally(model.success),
            "fail": tally(model.failure),
            "queue": tally(model.queue),
            "compute_input": tally(model.parts.input),
            "compute_infer": tally(model.parts.compute),
            "compute_output": tally(model.parts.output),
            "cache_hit": tally(Tally::default()),
            "cache_miss": tally(Tally::default()),
        },
        "batch_stats": model.batches.iter().map(describe_batch).collect::<Vec<_>>(),
    })
}

fn describe_batch(batch: &BatchStatistics) -> Value {
    json!({
        "batch_size": batch.rows,
        "compute_input": tally(batch.parts.input),
        "compute_infer": tally(batch.parts.compute),
        "compute_output": tally(batch.parts.output),
    })
}

fn tally(tally: Tally) -> Value {
    json!({"count": tally.count, "ns": tally.ns})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quern_dispatcher::RunTally;
    use quern_types::VersionNumber;

    use super::*;

    #[test]
    fn counters_have_the_protocols_fields() {
        let of = |count, ns| Tally { count, ns };
        let parts = RunTally { input: of(1, 1), compute: of(1, 7), output: of(1, 2) };
        let statistics = ModelStatistics {
            name: "m".parse().expect("a name"),
            version: VersionNumber::FIRST,
            last_inference: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_234)),
            inferences: 5,
            executions: 1,
            success: of(2, 20),
            failure: of(1, 3),
            queue: of(2, 4),
            parts: RunTally { input: of(2, 2), compute: of(2, 14), output: of(2, 3) },
            batches: vec![BatchStatistics { rows: 5, parts }],
        };
        let json = |count: u64, ns: u64| json!({"count": count, "ns": ns});
        let expected = json!({
            "name": "m", "version": "1", "last_inference": 1_234,
            "inference_count": 5, "execution_count": 1,
            "inference_stats": {
                "success": json(2, 20), "fail": json(1, 3), "queue": json(2, 4),
                "compute_input": json(2, 2), "compute_infer": json(2, 14),
                "compute_output": json(2, 3), "cache_hit": json(0, 0), "cache_miss": json(0, 0),
            },
            "batch_stats": [{
                "batch_size": 5, "compute_input": json(1, 1), "compute_infer": json(1, 7),
                "compute_output": json(1, 2),
            }],
        });
        assert_eq!(describe(&statistics), expected);
    }
}
