//! What the caller's functions and models have done since the server started, and do now. It shows
//! counters; rates and quantiles are for whoever asks twice.

use std::time::SystemTime;

use quern_dispatcher::{Distribution, FunctionActivity, ModelActivity};
use quern_types::{Caller, Engine, Name};
use serde::Serialize;
use serde_json::json;

use crate::{
    Gateway,
    body::{self, Reply},
    inspection::timestamp,
};

/// Functions, and models, in one answer.
const MOST: usize = 2_000;

#[derive(Debug, Serialize)]
struct Stats {
    time: String,
    functions: Vec<FunctionStats>,
    models: Vec<ModelStats>,
    /// Whether there are more, which are left out.
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct FunctionStats {
    name: Name,
    requests: Requests,
    cold_starts: u64,
    seconds: Histogram,
    running: u64,
    concurrency: Option<u32>,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Requests {
    ok: u64,
    failed: u64,
    cancelled: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct ModelStats {
    name: Name,
    engine: Engine,
    device: String,
    calls: Calls,
    seconds: Histogram,
    batch_rows: Histogram,
    waiting: u64,
    waiting_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Calls {
    ok: u64,
    failed_runs: u64,
    refused: u64,
}

/// As a histogram of Prometheus: each bucket has how often the value was at most its bound.
#[derive(Debug, Serialize)]
struct Histogram {
    count: u64,
    sum: f64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    le: f64,
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
        time: timestamp(SystemTime::now()),
        functions: functions.into_iter().map(FunctionStats::from).collect(),
        models: models.into_iter().map(ModelStats::from).collect(),
        truncated,
    };
    body::json(&json!(stats))
}

impl From<FunctionActivity> for FunctionStats {
    fn from(activity: FunctionActivity) -> Self {
        let FunctionActivity { name, ok, failed, cancelled, refused, cold_starts, .. } = activity;
        let FunctionActivity { seconds, running, concurrency, memory_bytes, .. } = activity;
        let requests = Requests { ok, failed, cancelled, refused };
        let seconds = seconds.into();
        Self { name, requests, cold_starts, seconds, running, concurrency, memory_bytes }
    }
}

impl From<ModelActivity> for ModelStats {
    fn from(activity: ModelActivity) -> Self {
        let calls = Calls {
            ok: activity.seconds.count,
            failed_runs: activity.failed_runs,
            refused: activity.refused,
        };
        Self {
            name: activity.name,
            engine: activity.engine,
            device: activity.device.to_string(),
            calls,
            seconds: activity.seconds.into(),
            batch_rows: activity.batch_rows.into(),
            waiting: activity.waiting,
            waiting_bytes: activity.waiting_bytes,
        }
    }
}

impl From<Distribution> for Histogram {
    fn from(distribution: Distribution) -> Self {
        let Distribution { count, sum, buckets } = distribution;
        // The last bound is that of everything, which is not a number in JSON: it is the count.
        let bounded = buckets.into_iter().filter(|(le, _)| le.is_finite());
        Self { count, sum, buckets: bounded.map(|(le, count)| Bucket { le, count }).collect() }
    }
}
