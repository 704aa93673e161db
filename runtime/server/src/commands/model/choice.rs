//! What to choose by a profile: an engine and a batch size, with the reasons. Measures nothing.

use quern_types::Engine;
use serde::Serialize;

use super::profile::Measured;

/// The part of the most rows per second that a smaller batch must reach to be preferred: what a
/// larger one adds to it is less than what its calls wait longer.
const ENOUGH: f64 = 0.9;

/// What is proposed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Choice {
    pub(crate) engine: Engine,
    pub(crate) max_batch: u32,
    pub(crate) reasons: Vec<String>,
}

/// The engine that computes the most rows per second at its best, and the smallest batch that
/// comes near that; none where nothing was measured.
pub(crate) fn choose(measured: &[Measured]) -> Option<Choice> {
    let by_speed = |a: &&Measured, b: &&Measured| a.rows_per_second.total_cmp(&b.rows_per_second);
    let best = measured.iter().max_by(by_speed)?;
    let engine = best.engine;
    let own = || measured.iter().filter(move |one| one.engine == engine);
    let near = |one: &&Measured| one.rows_per_second >= ENOUGH * best.rows_per_second;
    let smallest = own().filter(near).min_by_key(|one| one.rows)?;
    let speed = |one: &Measured| format!("{:.0} rows/s", one.rows_per_second);
    let mut reasons = Vec::new();
    let others = measured.iter().filter(|one| one.engine != best.engine);
    match others.max_by(by_speed) {
        Some(other) => reasons.push(format!(
            "{} computes {} at its best, {} {}",
            best.engine,
            speed(best),
            other.engine,
            speed(other)
        )),
        None => reasons.push(format!("{} is the only engine that was measured", best.engine)),
    }
    let largest = own().map(|one| one.rows).max()?;
    reasons.push(match smallest.rows {
        _ if largest == 1 => "only single rows were measured".to_owned(),
        rows if rows == largest => {
            format!("runs of {rows} rows were the largest that was measured: more may be better")
        }
        rows => format!(
            "runs of {rows} rows compute {}, {:.0} % of the most: larger ones make calls wait for \
             little more",
            speed(smallest),
            100.0 * smallest.rows_per_second / best.rows_per_second
        ),
    });
    Some(Choice { engine: best.engine, max_batch: smallest.rows, reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(engine: Engine, rows: u32, rows_per_second: f64) -> Measured {
        Measured { engine, rows, runs: 9, p50_us: 1.0, p99_us: 1.0, rows_per_second }
    }

    #[test]
    fn the_smallest_batch_near_the_best_is_chosen() {
        use Engine::{OnnxRuntime, Tract};
        let tract = [(1, 100.0), (8, 700.0), (16, 790.0), (64, 800.0)];
        let ort = [(1, 200.0), (8, 750.0)];
        let all: Vec<_> = tract
            .iter()
            .map(|(rows, speed)| measured(Tract, *rows, *speed))
            .chain(ort.iter().map(|(rows, speed)| measured(OnnxRuntime, *rows, *speed)))
            .collect();
        let cases = [
            (&all[..], Tract, 16, "tract computes 800 rows/s at its best, onnxruntime 750 rows/s"),
            (&all[..], Tract, 16, "runs of 16 rows compute 790 rows/s, 99 % of the most"),
            (&all[4..], OnnxRuntime, 8, "onnxruntime is the only engine"),
            (&all[4..], OnnxRuntime, 8, "runs of 8 rows were the largest that was measured"),
            (&all[..1], Tract, 1, "only single rows were measured"),
        ];
        for (measured, engine, max_batch, reason) in cases {
            let choice = choose(measured).expect("something was measured");
            assert_eq!((choice.engine, choice.max_batch), (engine, max_batch));
            assert!(choice.reasons.iter().any(|one| one.starts_with(reason)), "{choice:?}");
        }
        assert_eq!(choose(&[]), None);
    }
}
