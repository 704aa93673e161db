//! Which requests are recorded: some, all or none of those that begin a trace, and of the others
//! those that their callers record. Decided by the trace's id alone, so that all systems that a
//! request passes decide alike.

use std::fmt;

use super::{TraceContext, TraceId};

/// Says which traces are recorded (OpenTelemetry's samplers).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether what a caller has decided holds.
    parent_based: bool,
    /// The part of the traces that are recorded where nobody else has decided, from 0 to 1.
    ratio: f64,
}

/// Why there is no such sampler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSampler {
    /// No sampler has this name.
    #[error(
        "sampler {name:?} is none of always_on, always_off, traceidratio, parentbased_always_on, \
         parentbased_always_off and parentbased_traceidratio"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The part is none.
    #[error("ratio {ratio} is not from 0 to 1")]
    Ratio {
        /// What was given.
        ratio: String,
    },
}

impl Sampler {
    /// A sampler by the name that OTEL_TRACES_SAMPLER has for it; the ratio matters to some.
    pub fn new(name: &str, ratio: f64) -> Result<Self, InvalidSampler> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidSampler::Ratio { ratio: ratio.to_string() });
        }
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => return Err(InvalidSampler::Name { name: name.chars().take(80).collect() }),
        };
        Ok(Self { parent_based, ratio })
    }

    /// Whether a trace is recorded from here on.
    pub fn samples(&self, trace: TraceId, caller: Option<&TraceContext>) -> bool {
        match caller.filter(|_| self.parent_based) {
            Some(caller) => caller.sampled,
            None => self.chooses(trace),
        }
    }

    /// Whether a trace is among the part that is recorded: the last 63 bits of its id are random.
    fn chooses(&self, trace: TraceId) -> bool {
        const RANGE: u64 = 1 << 63;
        let random = trace.get() as u64 >> 1;
        random < (self.ratio * RANGE as f64) as u64
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.ratio * 100.0;
        match self.parent_based {
            true => write!(f, "{part} % of new traces, and those that callers record"),
            false => write!(f, "{part} % of traces"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SpanId, *};

    fn trace(bits: u128) -> TraceId {
        TraceId::new(bits).expect("not zero")
    }

    fn caller(sampled: bool) -> TraceContext {
        let span = SpanId::new(1).expect("not zero");
        TraceContext { trace: trace(1), span, sampled, state: None }
    }

    #[test]
    fn samplers_are_those_of_opentelemetry() {
        let lowest = trace(1);
        let highest = trace(u128::MAX);
        let cases = [
            // Of the lowest and the highest trace without a caller, then with one that does and
            // one that does not record it.
            ("always_on", 0.0, [true, true, true, true]),
            ("always_off", 1.0, [false, false, false, false]),
            ("traceidratio", 0.5, [true, false, true, true]),
            ("parentbased_always_on", 0.0, [true, true, true, false]),
            ("parentbased_always_off", 1.0, [false, false, true, false]),
            ("parentbased_traceidratio", 0.5, [true, false, true, false]),
        ];
        for (name, ratio, expected) in cases {
            let sampler = Sampler::new(name, ratio).expect(name);
            let found = [
                sampler.samples(lowest, None),
                sampler.samples(highest, None),
                sampler.samples(lowest, Some(&caller(true))),
                sampler.samples(lowest, Some(&caller(false))),
            ];
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_ratio_is_the_part_of_the_ids_that_are_chosen() {
        let chosen = |ratio: f64| {
            let sampler = Sampler::new("traceidratio", ratio).expect("a ratio");
            // Spread evenly over all that the last 64 bits can be.
            let ids = (0..1_000_u64).map(|n| trace(u128::from(n * (u64::MAX / 1_000) + 1_000)));
            ids.filter(|id| sampler.samples(*id, None)).count()
        };
        assert_eq!([0.0, 0.01, 0.25, 1.0].map(chosen), [0, 10, 250, 1_000]);
    }

    #[test]
    fn what_is_no_sampler_is_named() {
        for name in ["", "jaeger_remote", "parentbased_", "ALWAYS_ON"] {
            let error = Sampler::new(name, 1.0).expect_err(name);
            assert_eq!(error, InvalidSampler::Name { name: name.into() });
        }
        for ratio in [-0.1, 1.1, f64::NAN] {
            let error = Sampler::new("always_on", ratio).expect_err("no ratio");
            assert!(matches!(error, InvalidSampler::Ratio { .. }), "{error}");
        }
    }
}
