//! A canary: a new version that gets more and more of the requests, step by step, for as long as it
//! does no worse than the old one. What it is and where it stands; whether it goes on is decided
//! elsewhere.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Period, TokenId, VersionNumber};

/// One canary, from its start to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The new version.
    pub version: VersionNumber,
    /// The old one, which it is compared with.
    pub from: VersionNumber,
    /// What it is to get, and for how long.
    pub steps: Steps,
    /// What counts as worse.
    pub limits: CanaryLimits,
    /// When it was started, in µs since 1970. With the version it tells one canary from the next.
    pub started_us: u64,
    /// Who started it, and acts where it goes on by itself.
    pub token: Option<TokenId>,
    /// Where it stands.
    pub state: CanaryState,
}

/// Where a canary stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum CanaryState {
    /// It has the share of a step.
    Running {
        /// Which one, from 0.
        step: usize,
        /// Since when, in µs since 1970.
        since_us: u64,
    },
    /// The new version is live.
    Promoted {
        /// When, in µs since 1970.
        at_us: u64,
        /// Whether all steps went well, or somebody asked for it.
        reason: String,
    },
    /// The new version was worse, and the old one has all requests again.
    RolledBack {
        /// When, in µs since 1970.
        at_us: u64,
        /// In what it was worse.
        reason: String,
    },
    /// Somebody ended it.
    Aborted {
        /// When, in µs since 1970.
        at_us: u64,
        /// By what.
        reason: String,
    },
}

/// A share of the requests, and how long it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The new version's share, in percent.
    pub percent: u8,
    /// For how long, at least. Nothing for the last one, which is everything.
    pub hold: Period,
}

/// The steps of a canary: growing shares that end with everything. In text
/// `"5% 10m, 25% 10m, 100%"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Steps(Vec<Step>);

/// What counts as worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryLimits {
    /// Requests that the new version must have answered in a step before it is judged, and both
    /// versions before the next step.
    #[schemars(range(max = 1_000_000))]
    pub requests: u32,
    /// By how many percentage points its share of errors may be above the old version's.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub errors: f64,
    /// How many times as long as the old version's its median, and its 99th percentile, may be.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub latency: f64,
}

/// Why steps make no canary. Each names the step that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSteps {
    /// There are none, or too many.
    #[error("steps: has {found} steps, of 1 to {}", Steps::MOST)]
    Count {
        /// How many there are.
        found: usize,
    },
    /// It is no percentage with a time.
    #[error("steps: step {step} is {text:?}: write a percentage and a time, such as \"5% 10m\"")]
    Form {
        /// Which one, from 1.
        step: usize,
        /// What it is.
        text: String,
    },
    /// Shares don't grow.
    #[error(
        "steps: step {step} is {percent}%: each step is larger than the one before, up to 100%"
    )]
    Order {
        /// Which one, from 1.
        step: usize,
        /// Its share.
        percent: u8,
    },
    /// A step takes no time, or longer than anybody waits.
    #[error("steps: step {step} takes {time}, of 1s to 30days")]
    Time {
        /// Which one, from 1.
        step: usize,
        /// Its time.
        time: Period,
    },
    /// The last step is not everything, or has a time although nothing is left to compare with.
    #[error("steps: the last one is \"100%\", without a time")]
    Last,
}

impl Canary {
    /// The step that it is at; none once it has ended.
    pub fn step(&self) -> Option<(usize, Step)> {
        match self.state {
            CanaryState::Running { step, .. } => Some((step, self.steps.at(step)?)),
            _ => None,
        }
    }

    /// Whether this is the same canary as another one, wherever the two stand.
    pub fn is(&self, other: &Self) -> bool {
        (self.version, self.started_us) == (other.version, other.started_us)
    }
}

impl Steps {
    /// Most steps of a canary.
    pub const MOST: usize = 20;
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// A step, from 0.
    pub fn at(&self, step: usize) -> Option<Step> {
        self.0.get(step).copied()
    }

    /// The steps in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    fn parse_step(text: &str, step: usize) -> Result<Step, InvalidSteps> {
        let form = || InvalidSteps::Form { step, text: text.chars().take(40).collect() };
        let (percent, time) = text.split_once('%').ok_or_else(form)?;
        let percent: u8 = percent.trim().parse().map_err(|_| form())?;
        let hold = match time.trim() {
            "" => Period::from_millis(0),
            time => time.parse().map_err(|_| form())?,
        };
        Ok(Step { percent, hold })
    }
}

impl FromStr for Steps {
    type Err = InvalidSteps;

    fn from_str(text: &str) -> Result<Self, InvalidSteps> {
        let parts: Vec<_> = text.split(',').take(Self::MOST + 1).map(str::trim).collect();
        if text.trim().is_empty() || parts.len() > Self::MOST {
            let found = if text.trim().is_empty() { 0 } else { text.split(',').count() };
            return Err(InvalidSteps::Count { found });
        }
        let mut steps: Vec<Step> = Vec::with_capacity(parts.len());
        for (part, number) in parts.iter().zip(1..) {
            let step = Self::parse_step(part, number)?;
            let before = steps.last().map_or(0, |step| step.percent);
            if step.percent <= before || step.percent > 100 {
                return Err(InvalidSteps::Order { step: number, percent: step.percent });
            }
            if step.percent < 100
                && !(Duration::from_secs(1)..=Self::LONGEST).contains(&step.hold.0)
            {
                return Err(InvalidSteps::Time { step: number, time: step.hold });
            }
            steps.push(step);
        }
        match steps.last() {
            Some(Step { percent: 100, hold }) if hold.0.is_zero() => Ok(Self(steps)),
            _ => Err(InvalidSteps::Last),
        }
    }
}

impl TryFrom<String> for Steps {
    type Error = InvalidSteps;

    fn try_from(text: String) -> Result<Self, InvalidSteps> {
        text.parse()
    }
}

impl From<Steps> for String {
    fn from(steps: Steps) -> Self {
        steps.to_string()
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, index) in self.0.iter().zip(0..) {
            let comma = if index > 0 { ", " } else { "" };
            match step.hold.0.is_zero() {
                true => write!(f, "{comma}{}%", step.percent)?,
                false => write!(f, "{comma}{}% {}", step.percent, step.hold)?,
            }
        }
        Ok(())
    }
}

/// Two careful steps, and then everything.
impl Default for Steps {
    fn default() -> Self {
        let hold = Period::from_millis(600_000);
        let last = Step { percent: 100, hold: Period::from_millis(0) };
        Self(vec![Step { percent: 5, hold }, Step { percent: 25, hold }, last])
    }
}

impl Default for CanaryLimits {
    fn default() -> Self {
        Self { requests: 50, errors: 0.1, latency: 1.5 }
    }
}

impl CanaryLimits {
    /// These limits, unless one of them makes no sense; the error names it.
    pub fn checked(self) -> Result<Self, String> {
        if self.requests > 1_000_000 {
            return Err(format!("limits.requests: is {}, of 0 to 1000000", self.requests));
        }
        if !(0.0..=100.0).contains(&self.errors) {
            return Err(format!(
                "limits.errors: is {}, of 0 to 100 percentage points",
                self.errors
            ));
        }
        if !(1.0..=100.0).contains(&self.latency) {
            return Err(format!("limits.latency: is {}, of 1 to 100 times as long", self.latency));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_their_text() {
        for text in ["5% 10m, 25% 10m, 100%", "1% 1s, 99% 7days, 100%", "100%"] {
            let steps: Steps = text.parse().expect(text);
            assert_eq!(steps.to_string(), text);
            let json = serde_json::to_string(&steps).expect("JSON");
            assert_eq!(serde_json::from_str::<Steps>(&json).expect("steps"), steps);
        }
        let loose: Steps = " 5 %10m ,100% ".parse().expect("steps");
        assert_eq!(loose.to_string(), "5% 10m, 100%");
        assert_eq!(loose.at(0).map(|step| step.hold), Some(Period::from_millis(600_000)));
        assert_eq!(loose.at(2), None);
        assert_eq!(Steps::default().to_string().parse(), Ok(Steps::default()));
    }

    #[test]
    fn steps_that_are_wrong_are_refused_by_number() {
        let many = (1..=21).map(|percent| format!("{percent}% 1s")).collect::<Vec<_>>().join(",");
        for (text, message) in [
            ("", "steps: has 0 steps, of 1 to 20"),
            (&*many, "steps: has 21 steps, of 1 to 20"),
            ("5 10m, 100%", "step 1 is \"5 10m\": write a percentage"),
            ("5% soon, 100%", "step 1 is \"5% soon\": write a percentage"),
            ("5% 1m,, 100%", "step 2 is \"\": write a percentage"),
            ("300% 1m, 100%", "step 1 is \"300% 1m\": write a percentage"),
            ("0% 1m, 100%", "step 1 is 0%: each step is larger"),
            ("10% 1m, 10% 1m, 100%", "step 2 is 10%: each step is larger"),
            ("101%", "step 1 is 101%: each step is larger"),
            ("5%, 100%", "step 1 takes 0s, of 1s to 30days"),
            ("5% 31days, 100%", "step 1 takes 1month"),
            ("5% 10m", "the last one is \"100%\", without a time"),
            ("5% 10m, 100% 1m", "the last one is \"100%\", without a time"),
        ] {
            let refused = text.parse::<Steps>().expect_err(text).to_string();
            assert!(refused.contains(message), "{refused}");
        }
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_by_name() {
        let good = CanaryLimits::default();
        assert_eq!(good.checked(), Ok(good));
        for (limits, field) in [
            (CanaryLimits { requests: 1_000_001, ..good }, "limits.requests"),
            (CanaryLimits { errors: -0.1, ..good }, "limits.errors"),
            (CanaryLimits { errors: f64::NAN, ..good }, "limits.errors"),
            (CanaryLimits { latency: 0.9, ..good }, "limits.latency"),
            (CanaryLimits { latency: f64::INFINITY, ..good }, "limits.latency"),
        ] {
            assert!(limits.checked().expect_err(field).starts_with(field));
        }
    }
}
