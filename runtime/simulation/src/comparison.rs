//! The same loads under several policies: means over seeds, and how far they spread.

use crate::{Fate, Outcome, Policy, Request, Setting, Violation, simulate};

/// What a policy made of a setting, over several seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Calls of all seeds together.
    pub calls: usize,
    /// Part of the calls that was answered in time.
    pub in_time: Spread,
    /// Part that was refused.
    pub refused: Spread,
    /// Latency, in ms, that half of the answered calls don't exceed; none if none was answered.
    pub median_ms: Option<Spread>,
    /// The same of 99 of 100.
    pub p99_ms: Option<Spread>,
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

/// Runs a policy over the load of each seed, one after the other.
///
/// # Errors
///
/// If the policy decides what can't be carried out.
pub fn summarise(
    setting: &Setting,
    seeds: impl Iterator<Item = u64>,
    load: impl Fn(u64) -> Vec<Request>,
    policy: impl Fn() -> Box<dyn Policy>,
) -> Result<Summary, Violation> {
    let run = |seed| {
        let outcome = simulate(setting, &load(seed), &mut *policy(), seed)?;
        Ok(Figures::of(setting, &outcome))
    };
    let figures = seeds.map(run).collect::<Result<Vec<_>, _>>()?;
    let spread = |of: fn(&Figures) -> f64| Spread::of(figures.iter().map(of));
    let known = |of: fn(&Figures) -> Option<f64>| {
        let known: Vec<_> = figures.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| Spread::of(known.into_iter()))
    };
    Ok(Summary {
        calls: figures.iter().map(|figures| figures.calls).sum(),
        in_time: spread(|figures| figures.in_time),
        refused: spread(|figures| figures.refused),
        median_ms: known(|figures| figures.median_ms),
        p99_ms: known(|figures| figures.p99_ms),
        batch: spread(|figures| figures.batch),
        busy: spread(|figures| figures.busy),
        loads: spread(|figures| figures.loads),
    })
}

/// What is kept of one run.
struct Figures {
    calls: usize,
    in_time: f64,
    refused: f64,
    median_ms: Option<f64>,
    p99_ms: Option<f64>,
    batch: f64,
    busy: f64,
    loads: f64,
}

impl Figures {
    fn of(setting: &Setting, outcome: &Outcome) -> Self {
        let lanes: u32 = setting.devices.iter().map(|device| u32::from(device.lanes)).sum();
        let latency = |part| outcome.latency_us(part).map(|us| us as f64 / 1e3);
        let served = part(outcome, |fate| matches!(fate, Fate::Served { .. }));
        Self {
            calls: outcome.calls.len(),
            in_time: outcome.attainment(),
            refused: part(outcome, |fate| matches!(fate, Fate::Refused { .. })),
            median_ms: latency(0.5),
            p99_ms: latency(0.99),
            batch: served * outcome.calls.len() as f64 / outcome.batches.max(1) as f64,
            busy: outcome.busy_us as f64 / (f64::from(lanes) * outcome.end_us.max(1) as f64),
            loads: outcome.loads as f64,
        }
    }
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
