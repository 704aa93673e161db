//! The same loads under several policies: means over seeds, and how far they spread.

use crate::{Fate, Outcome, Policy, Request, Setting, Violation, simulate};

/// What a policy made of a setting, over several seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Part of the calls that was answered in time.
    pub in_time: Spread,
    /// Part that was refused.
    pub refused: Spread,
    /// Latency, in ms, that half of the answered calls don't exceed.
    pub median_ms: Spread,
    /// The same of 99 of 100.
    pub p99_ms: Spread,
    /// Calls in a batch.
    pub batch: Spread,
    /// Part of the lanes' time in which they computed.
    pub busy: Spread,
    /// Models that were loaded.
    pub loads: Spread,
}

/// A mean, and the standard deviation around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; 0 of a single value.
    pub deviation: f64,
}

/// Runs a policy over a load for each seed.
///
/// # Errors
///
/// If the policy decides what can't be carried out.
pub fn summarise(
    setting: &Setting,
    loads: &[Vec<Request>],
    policy: impl Fn() -> Box<dyn Policy>,
) -> Result<Summary, Violation> {
    let run = |(load, seed): (&Vec<Request>, u64)| simulate(setting, load, &mut *policy(), seed);
    let outcomes = loads.iter().zip(0..).map(run).collect::<Result<Vec<_>, _>>()?;
    let lanes: u32 = setting.devices.iter().map(|device| u32::from(device.lanes)).sum();
    let spread = |value: &dyn Fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(value));
    let latency =
        |part| move |outcome: &Outcome| outcome.latency_us(part).unwrap_or(0) as f64 / 1e3;
    Ok(Summary {
        in_time: spread(&Outcome::attainment),
        refused: spread(&|outcome| part(outcome, |fate| matches!(fate, Fate::Refused { .. }))),
        median_ms: spread(&latency(0.5)),
        p99_ms: spread(&latency(0.99)),
        batch: spread(&|outcome| served(outcome) / outcome.batches.max(1) as f64),
        busy: spread(&|outcome| {
            outcome.busy_us as f64 / (f64::from(lanes) * outcome.end_us.max(1) as f64)
        }),
        loads: spread(&|outcome| outcome.loads as f64),
    })
}

fn served(outcome: &Outcome) -> f64 {
    part(outcome, |fate| matches!(fate, Fate::Served { .. })) * outcome.calls.len() as f64
}

fn part(outcome: &Outcome, is: impl Fn(Fate) -> bool) -> f64 {
    let count = outcome.calls.iter().filter(|call| is(call.fate)).count();
    count as f64 / outcome.calls.len().max(1) as f64
}

impl Spread {
    /// Of these values.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let square: f64 = values.map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (square / (count - 1.0).max(1.0)).sqrt() }
    }
}
