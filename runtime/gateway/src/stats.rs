//! What the caller's functions and models have done since the server started, and do now. It shows
//! counters; rates and quantiles are for whoever asks twice.

use std::time::SystemTime;

use quern_dispatcher::{Distribution, FunctionActivity, ModelActivity};
use quern_types::{Caller, DeviceId, Engine, Name};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Gateway,
    body::{self, Reply},
    timestamp::Timestamp,
};

/// Functions, and models, in one answer.
const MOST: usize = 2_000;

/// What functions and models have done since the server started, and do now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stats {
    /// When it was read.
    time: Timestamp,
    /// Functions that were loaded since the start, by name.
    functions: Vec<FunctionStats>,
    /// Models that were loaded since the start, by name and device.
    models: Vec<ModelStats>,
    /// Whether there are more, which are left out.
    truncated: bool,
}

/// A function.
#[derive(Debug, Serialize, JsonSchema)]
struct FunctionStats {
    /// Its name.
    name: Name,
    /// Requests by how they ended.
    requests: RequestCounts,
    /// Requests that had to load it first.
    cold_starts: u64,
    /// How long requests took, in seconds.
    seconds: HistogramCounts,
    /// Requests under way.
    running: u64,
    /// Requests that may be under way at a time; null while it is not loaded.
    concurrency: Option<u32>,
    /// Memory of its instances.
    memory_bytes: u64,
}

/// Requests to a function.
#[derive(Debug, Serialize, JsonSchema)]
struct RequestCounts {
    /// That ended well.
    ok: u64,
    /// That it failed.
    failed: u64,
    /// Whose clients left.
    cancelled: u64,
    /// That found no place.
    refused: u64,
}

/// A model on a device.
#[derive(Debug, Serialize, JsonSchema)]
struct ModelStats {
    /// Its name.
    name: Name,
    /// What computes it.
    engine: Engine,
    /// Where.
    device: DeviceId,
    /// Calls by how they ended.
    calls: CallCounts,
    /// How long calls took that succeeded, in seconds.
    seconds: HistogramCounts,
    /// How many rows its runs had.
    batch_rows: HistogramCounts,
    /// Calls that wait.
    waiting: u64,
    /// Bytes of their inputs.
    waiting_bytes: u64,
}

/// Calls of a model.
#[derive(Debug, Serialize, JsonSchema)]
struct CallCounts {
    /// That succeeded.
    ok: u64,
    /// Runs that failed, each with all its calls.
    failed_runs: u64,
    /// That the queue refused.
    refused: u64,
}

/// How often something had which value, as Prometheus counts it.
#[derive(Debug, Serialize, JsonSchema)]
struct HistogramCounts {
    /// How often there was one.
    count: u64,
    /// All values together.
    sum: f64,
    /// Without the last one, which has them all.
    buckets: Vec<BucketCount>,
}

/// How often a value was at most its bound.
#[derive(Debug, Serialize, JsonSchema)]
struct BucketCount {
    /// The bound.
    le: f64,
    /// How often.
    count: u64,
}

/// `GET /v1/stats`
pub(crate) fn stats(gateway: &Gateway, caller: &Caller) -> Reply {
    let mut functions = gateway.dispatcher.function_activity(&caller.tenant);
    let mut models = gateway.dispatcher.model_activity(&caller.tenant);
    let truncated = functions.len() > MOST || models.len() > MOST;
    functions.truncate(MOST);
    models.truncate(MOST);
    let stats = Stats {
        time: SystemTime::now().into(),
        functions: functions.into_iter().map(FunctionStats::from).collect(),
        models: models.into_iter().map(ModelStats::from).collect(),
        truncated,
    };
    body::json(&stats)
}

impl From<FunctionActivity> for FunctionStats {
    fn from(activity: FunctionActivity) -> Self {
        let FunctionActivity { name, ok, failed, cancelled, refused, cold_starts, .. } = activity;
        let FunctionActivity { seconds, running, concurrency, memory_bytes, .. } = activity;
        let requests = RequestCounts { ok, failed, cancelled, refused };
        let seconds = seconds.into();
        Self { name, requests, cold_starts, seconds, running, concurrency, memory_bytes }
    }
}

impl From<ModelActivity> for ModelStats {
    fn from(activity: ModelActivity) -> Self {
        let calls = CallCounts {
            ok: activity.seconds.count,
            failed_runs: activity.failed_runs,
            refused: activity.refused,
        };
        Self {
            name: activity.name,
            engine: activity.engine,
            device: activity.device,
            calls,
            seconds: activity.seconds.into(),
            batch_rows: activity.batch_rows.into(),
            waiting: activity.waiting,
            waiting_bytes: activity.waiting_bytes,
        }
    }
}

impl From<Distribution> for HistogramCounts {
    fn from(distribution: Distribution) -> Self {
        let Distribution { count, sum, buckets } = distribution;
        // The last bound is that of everything, which is not a number in JSON: it is the count.
        let bounded = buckets.into_iter().filter(|(le, _)| le.is_finite());
        Self { count, sum, buckets: bounded.map(|(le, count)| BucketCount { le, count }).collect() }
    }
}
