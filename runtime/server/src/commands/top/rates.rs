//! What has happened between two looks at the server's counters: rates, and quantiles of how long
//! things took. It asks and prints nothing.

use std::{cmp::Ordering, collections::HashMap, time::Duration};

use serde::Serialize;

use crate::client::{Bucket, FunctionStats, Histogram, ModelStats, Stats};

/// One function or model, over the time between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    /// Requests under way, of a function.
    pub(super) running: Option<u64>,
    /// Requests that may be, of a function that is loaded.
    pub(super) concurrency: Option<u32>,
    /// Calls that wait, of a model.
    pub(super) waiting: Option<u64>,
    pub(super) memory_bytes: u64,
    /// Rows of a run, on average.
    pub(super) batch_rows: Option<f64>,
}

/// What rows are ordered by; names are ascending, everything else descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    Requests,
    Errors,
    P99,
    Running,
    Memory,
    Name,
}

/// The rows between two looks.
pub(super) fn rows(before: &Stats, now: &Stats, passed: Duration, order: Order) -> Vec<Row> {
    let seconds = passed.as_secs_f64().max(f64::MIN_POSITIVE);
    let functions: HashMap<_, _> = before.functions.iter().map(|one| (&one.name, one)).collect();
    let models: HashMap<_, _> =
        before.models.iter().map(|one| ((&one.name, &one.device), one)).collect();
    let of_functions = now
        .functions
        .iter()
        .map(|one| function_row(functions.get(&one.name).copied(), one, seconds));
    let of_models = now
        .models
        .iter()
        .map(|one| model_row(models.get(&(&one.name, &one.device)).copied(), one, seconds));
    let mut rows: Vec<_> = of_functions.chain(of_models).collect();
    rows.sort_by(|one, other| compare(one, other, order).then_with(|| one.name.cmp(&other.name)));
    rows
}

fn compare(one: &Row, other: &Row, order: Order) -> Ordering {
    let by = |value: fn(&Row) -> f64| value(other).total_cmp(&value(one));
    match order {
        Order::Requests => by(|row| row.requests_per_second),
        Order::Errors => by(|row| row.errors_per_second),
        Order::P99 => by(|row| row.p99_seconds.unwrap_or(-1.0)),
        Order::Running => by(|row| (row.running.unwrap_or(0) + row.waiting.unwrap_or(0)) as f64),
        Order::Memory => by(|row| row.memory_bytes as f64),
        Order::Name => Ordering::Equal,
    }
}

fn function_row(before: Option<&FunctionStats>, now: &FunctionStats, seconds: f64) -> Row {
    let ended = |one: &FunctionStats| one.requests.ok + one.requests.cancelled;
    let failed = |one: &FunctionStats| one.requests.failed + one.requests.refused;
    let more = |count: &dyn Fn(&FunctionStats) -> u64| grown(before.map(count), count(now));
    let errors = more(&failed);
    let took = since(before.map(|one| &one.seconds), &now.seconds);
    Row {
        name: now.name.clone(),
        kind: "function",
        requests_per_second: (more(&ended) + errors) as f64 / seconds,
        errors_per_second: errors as f64 / seconds,
        p50_seconds: quantile(&took, 0.5),
        p99_seconds: quantile(&took, 0.99),
        running: Some(now.running),
        concurrency: now.concurrency,
        waiting: None,
        memory_bytes: now.memory_bytes,
        batch_rows: None,
    }
}

fn model_row(before: Option<&ModelStats>, now: &ModelStats, seconds: f64) -> Row {
    let failed = |one: &ModelStats| one.calls.failed_runs + one.calls.refused;
    let more = |count: &dyn Fn(&ModelStats) -> u64| grown(before.map(count), count(now));
    let errors = more(&failed);
    let took = since(before.map(|one| &one.seconds), &now.seconds);
    let rows = since(before.map(|one| &one.batch_rows), &now.batch_rows);
    Row {
        name: now.name.clone(),
        kind: "model",
        requests_per_second: (more(&|one| one.calls.ok) + errors) as f64 / seconds,
        errors_per_second: errors as f64 / seconds,
        p50_seconds: quantile(&took, 0.5),
        p99_seconds: quantile(&took, 0.99),
        running: None,
        concurrency: None,
        waiting: Some(now.waiting),
        memory_bytes: now.waiting_bytes,
        batch_rows: (rows.count > 0).then(|| rows.sum / rows.count as f64),
    }
}

/// What a counter has grown by; one that is less than before has begun anew.
fn grown(before: Option<u64>, now: u64) -> u64 {
    now.checked_sub(before.unwrap_or(0)).unwrap_or(now)
}

/// What a histogram has taken in since.
fn since(before: Option<&Histogram>, now: &Histogram) -> Histogram {
    let Some(before) = before.filter(|before| before.count <= now.count) else {
        return now.clone();
    };
    let both = now.buckets.iter().zip(&before.buckets);
    Histogram {
        count: now.count - before.count,
        sum: now.sum - before.sum,
        buckets: both
            .map(|(now, before)| Bucket { count: grown(Some(before.count), now.count), ..*now })
            .collect(),
    }
}

/// The value that a part of all are below, as Prometheus estimates it: evenly spread within its
/// bucket. None without values.
fn quantile(histogram: &Histogram, part: f64) -> Option<f64> {
    let Histogram { count, buckets, .. } = histogram;
    if *count == 0 {
        return None;
    }
    let rank = part * *count as f64;
    let (mut below, mut lower) = (0, 0.0);
    for Bucket { le, count } in buckets {
        if *count as f64 >= rank && *count > below {
            let within = (rank - below as f64) / (count - below) as f64;
            return Some(lower + (le - lower) * within.max(0.0));
        }
        (below, lower) = (*count, *le);
    }
    // Beyond the last bound: nothing more is known.
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Requests;

    fn histogram(counts: [u64; 3], count: u64, sum: f64) -> Histogram {
        let buckets = [0.1, 0.2, 0.4].into_iter().zip(counts);
        let buckets = buckets.map(|(le, count)| Bucket { le, count }).collect();
        Histogram { count, sum, buckets }
    }

    fn function(name: &str, ok: u64, failed: u64, seconds: Histogram) -> FunctionStats {
        let requests = Requests { ok, failed, ..Requests::default() };
        let (running, concurrency, memory_bytes) = (1, Some(4), 64);
        let name = name.to_owned();
        FunctionStats { name, requests, seconds, running, concurrency, memory_bytes }
    }

    #[test]
    fn rates_are_of_what_came_in_between() {
        let before = Stats {
            functions: vec![function("a", 100, 10, histogram([100, 100, 110], 110, 9.0))],
            ..Stats::default()
        };
        let now = Stats {
            functions: vec![
                function("a", 118, 12, histogram([100, 110, 130], 130, 12.0)),
                function("b", 6, 0, histogram([6, 6, 6], 6, 0.1)),
            ],
            ..Stats::default()
        };
        let rows = rows(&before, &now, Duration::from_secs(2), Order::Requests);
        let [a, b] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((a.requests_per_second, a.errors_per_second), (10.0, 1.0));
        // Ten of the twenty are between 0.1 and 0.2.
        assert_eq!(a.p50_seconds, Some(0.2));
        assert!(a.p99_seconds.is_some_and(|p99| (0.39..0.4).contains(&p99)), "{a:?}");
        assert_eq!((b.name.as_str(), b.requests_per_second, b.p50_seconds), ("b", 3.0, Some(0.05)));
        let order =
            |order| super::rows(&before, &now, Duration::from_secs(2), order)[0].name.clone();
        assert_eq!(order(Order::Errors), "a");
        assert_eq!(order(Order::Name), "a");
    }

    #[test]
    fn a_server_that_began_anew_counts_from_nothing() {
        let before = Stats {
            functions: vec![function("a", 100, 0, histogram([100, 100, 100], 100, 1.0))],
            ..Stats::default()
        };
        let now = Stats {
            functions: vec![function("a", 4, 0, histogram([0, 4, 4], 4, 0.6))],
            ..Stats::default()
        };
        let rows = rows(&before, &now, Duration::from_secs(1), Order::Name);
        assert_eq!(rows[0].requests_per_second, 4.0);
        assert_eq!(rows[0].p50_seconds.map(|p50| (p50 * 100.0).round()), Some(15.0));
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        assert_eq!(quantile(&histogram([0, 0, 0], 0, 0.0), 0.5), None);
        assert_eq!(quantile(&histogram([0, 0, 0], 3, 9.0), 0.5), Some(0.4), "beyond all bounds");
        assert_eq!(quantile(&histogram([4, 4, 4], 4, 0.2), 0.25), Some(0.025));
    }
}
