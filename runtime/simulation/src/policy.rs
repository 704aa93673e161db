//! Who decides in a simulation, and the policies that there are by name.

use std::{fmt, str::FromStr, time::Duration};

use quern_scheduler::{Fleet, ServingAction, ServingEvent};
use quern_types::Period;

use crate::policies;

/// Decides what runs where, and when.
pub trait Policy {
    /// Takes in an event and says what to do, in this order.
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction>;

    /// The moment for a [`ServingEvent::Tick`], unless another event comes before.
    fn next_tick_us(&self) -> Option<u64>;
}

/// The policies that can be simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// The server's own: at once, never what can't be in time, early drop, shares of tenants, and
    /// models loaded where they are wanted.
    Quern,
    /// Calls in the order in which they came, in batches up to the model's size, without deadlines.
    Fifo,
    /// A queue for each model that waits for a full batch, but no longer than a delay, as Triton's
    /// dynamic batcher does.
    Delay {
        /// The longest wait, in µs.
        delay_us: u64,
    },
    /// The batch that has to begin first goes first, at once; what can't be in time is dropped; as
    /// in Clockwork (OSDI '20).
    Clockwork,
    /// A batch waits until one more call could not be in time; as in Symphony (2023).
    Symphony,
    /// Devices with queues of their own, one call at a time; as the replication baseline of
    /// AlpaServe (OSDI '23).
    Replicated,
}

/// A name that no policy has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no policy: there are quern, fifo, delay:TIME such as delay:5ms, clockwork, symphony \
     and replicated"
)]
pub struct UnknownPolicy(String);

impl PolicyKind {
    /// All of them, the delay as Triton's examples have it.
    pub const ALL: [Self; 6] = [
        Self::Quern,
        Self::Fifo,
        Self::Delay { delay_us: 5_000 },
        Self::Clockwork,
        Self::Symphony,
        Self::Replicated,
    ];

    /// The policy, which knows of nothing yet.
    pub fn start(self) -> Box<dyn Policy> {
        match self {
            Self::Quern => Box::new(Fleet::default()),
            Self::Fifo => Box::new(policies::Fifo::default()),
            Self::Delay { delay_us } => Box::new(policies::Delay::new(delay_us)),
            Self::Clockwork => Box::new(policies::Clockwork::default()),
            Self::Symphony => Box::new(policies::Symphony::default()),
            Self::Replicated => Box::new(policies::Replicated::default()),
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quern => f.write_str("quern"),
            Self::Fifo => f.write_str("fifo"),
            Self::Delay { delay_us } => {
                write!(f, "delay:{}", Period(Duration::from_micros(*delay_us)))
            }
            Self::Clockwork => f.write_str("clockwork"),
            Self::Symphony => f.write_str("symphony"),
            Self::Replicated => f.write_str("replicated"),
        }
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy(text.to_owned());
        if let Some(delay) = text.strip_prefix("delay:") {
            let delay: Period = delay.parse().map_err(|_| unknown())?;
            let delay_us = u64::try_from(delay.0.as_micros()).map_err(|_| unknown())?;
            return Ok(Self::Delay { delay_us });
        }
        Self::ALL.into_iter().find(|kind| kind.to_string() == text).ok_or_else(unknown)
    }
}

impl Policy for Fleet {
    fn step(&mut self, event: ServingEvent, now_us: u64) -> Vec<ServingAction> {
        Self::step(self, event, now_us)
    }

    fn next_tick_us(&self) -> Option<u64> {
        Self::next_tick_us(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_a_name() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for none in ["", "Quern", "delay", "delay:", "delay:5", "lifo"] {
            assert_eq!(none.parse::<PolicyKind>(), Err(UnknownPolicy(none.to_owned())));
        }
    }
}
