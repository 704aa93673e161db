//! What became of the calls of a simulation, and what it cost.

use quern_scheduler::{ModelIndex, Refusal, TenantIndex};

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Served {
        /// When, in µs.
        end_us: u64,
    },
    /// It was refused.
    Refused {
        /// When, in µs.
        at_us: u64,
        /// Why.
        reason: Refusal,
    },
    /// Nothing, by the end of the simulation.
    Left,
}

/// One call and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When it came, in µs.
    pub at_us: u64,
    /// From when on nobody wanted its answer.
    pub deadline_us: u64,
    /// The model.
    pub model: ModelIndex,
    /// Who was charged.
    pub tenant: TenantIndex,
    /// What became of it.
    pub fate: Fate,
}

/// What a simulation ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The calls, in the order in which they came.
    pub calls: Vec<Ended>,
    /// Time in which lanes computed what came to an end, of all devices, in µs.
    pub busy_us: u64,
    /// When the last call came or batch ended, in µs.
    pub end_us: u64,
    /// Batches that ran.
    pub batches: u64,
    /// Models that were loaded.
    pub loads: u64,
}

impl Ended {
    /// How long it took to its answer, in µs, if it got one.
    pub fn latency_us(&self) -> Option<u64> {
        match self.fate {
            Fate::Served { end_us } => Some(end_us - self.at_us),
            Fate::Refused { .. } | Fate::Left => None,
        }
    }

    /// Whether it was answered before its deadline.
    pub fn is_in_time(&self) -> bool {
        matches!(self.fate, Fate::Served { end_us } if end_us <= self.deadline_us)
    }
}

impl Outcome {
    /// The part of the calls that was answered in time; 1 if there were none.
    pub fn attainment(&self) -> f64 {
        if self.calls.is_empty() {
            return 1.0;
        }
        self.in_time() as f64 / self.calls.len() as f64
    }

    /// How many calls were answered in time.
    pub fn in_time(&self) -> usize {
        self.calls.iter().filter(|call| call.is_in_time()).count()
    }

    /// The latency, in µs, that this part of the answered calls does not exceed; none if none was
    /// answered.
    pub fn latency_us(&self, part: f64) -> Option<u64> {
        let mut latencies: Vec<_> = self.calls.iter().filter_map(Ended::latency_us).collect();
        let last = latencies.len().checked_sub(1)?;
        let place = ((latencies.len() as f64 * part).ceil() as usize).saturating_sub(1).min(last);
        Some(*latencies.select_nth_unstable(place).1)
    }
}
