//! How a shadow looks from outside: what came of its copies, and examples of what was different.

use quern_dispatcher::{ShadowExample, ShadowReport};
use quern_types::{InvocationId, Latencies, Shadow, VersionNumber};
use schemars::JsonSchema;
use serde::Serialize;

use crate::timestamp::Timestamp;

/// A version that gets copies of requests, and what came of them since the server started.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShadowReply {
    /// The version.
    version: VersionNumber,
    /// Of a hundred requests, how many it gets a copy of.
    percent: u8,
    /// It answered the same, to the bit.
    same: u64,
    /// It answered something else.
    different: u64,
    /// It gave no answer, though the caller got one.
    failed: u64,
    /// There was no room for the copy, or nothing whole to compare.
    dropped: u64,
    /// The greatest absolute difference of two numbers in answers of inference; null of none.
    max_abs_difference: Option<f64>,
    /// How long the requests took that were compared.
    answered: TimesReply,
    /// And their copies.
    shadowed: TimesReply,
    /// What was different, the newest last; ten at most.
    examples: Vec<ExampleReply>,
}

/// How long requests took.
#[derive(Debug, Serialize, JsonSchema)]
struct TimesReply {
    /// Their median, in µs; null of none.
    p50_us: Option<u64>,
    /// Their 99th percentile, in µs.
    p99_us: Option<u64>,
}

/// Two answers to the same request.
#[derive(Debug, Serialize, JsonSchema)]
struct ExampleReply {
    /// The request, as in the logs.
    invocation: InvocationId,
    /// When they were compared.
    time: Timestamp,
    /// What the caller got, where it differs, or the beginning of it.
    answered: String,
    /// What the shadow gave instead.
    shadowed: String,
}

impl ShadowReply {
    pub(super) fn new(shadow: Shadow, report: ShadowReport) -> Self {
        let Shadow { version, percent } = shadow;
        let ShadowReport { same, different, failed, dropped, max_abs_difference, .. } = report;
        let example = |example: ShadowExample| ExampleReply {
            invocation: example.id,
            time: example.time.into(),
            answered: example.answered,
            shadowed: example.shadowed,
        };
        Self {
            version,
            percent,
            same,
            different,
            failed,
            dropped,
            max_abs_difference,
            answered: (&report.answered).into(),
            shadowed: (&report.shadowed).into(),
            examples: report.examples.into_iter().map(example).collect(),
        }
    }
}

impl From<&Latencies> for TimesReply {
    fn from(latencies: &Latencies) -> Self {
        let (p50_us, p99_us) = (latencies.quantile_us(0.5), latencies.quantile_us(0.99));
        Self { p50_us, p99_us }
    }
}
