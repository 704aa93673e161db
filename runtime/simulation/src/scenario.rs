//! A scenario in TOML: devices, models, and calls by rate and burstiness. Made into a setting and,
//! for each seed, a load.

use std::time::Duration;

use quern_scheduler::{BatchProfile, ModelIndex, TenantIndex};
use quern_types::{ByteSize, Period, Priority};
use rand::RngExt as _;
use serde::Deserialize;

use crate::{
    Arrivals, DeviceKind, Model, PolicyKind, Request, Setting, Violation, merged, replicate,
};

/// Most devices, models and calls of a scenario, so that it fits into memory.
const MOST_DEVICES: u32 = 100_000;
const MOST_MODELS: u32 = 100_000;
const MOST_CALLS: f64 = 20e6;
const MOST_TENANTS: u32 = 10_000;
const MOST_ROWS: u32 = 1 << 16;
/// Most places of models on devices, where they are put there beforehand.
const MOST_PLACES: u64 = 10_000_000;
/// The same where each is tried.
const MOST_TRIALS: u64 = 10_000;
/// The longest that anything takes, so that times add up.
const MOST_TIME: Duration = Duration::from_secs(24 * 3_600);

/// A scenario, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    duration: Period,
    #[serde(default)]
    noise: f64,
    #[serde(default)]
    placement: Placement,
    devices: Vec<Devices>,
    models: Vec<Models>,
}

/// Where models are at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Placement {
    /// All of them on every device.
    #[default]
    Everywhere,
    /// Where a trial run loses calls without, as in AlpaServe.
    Greedy,
    /// Nowhere: only for policies that load models.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    #[serde(default = "one")]
    count: u32,
    memory: ByteSize,
    #[serde(default = "one_lane")]
    lanes: u16,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Models {
    name: String,
    #[serde(default = "one")]
    count: u32,
    memory: ByteSize,
    load: Period,
    #[serde(default = "one")]
    batch: u32,
    profile: Vec<Measured>,
    calls: Calls,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    rows: u32,
    time: Period,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Calls {
    rate: f64,
    #[serde(default)]
    skew: f64,
    #[serde(default = "poisson")]
    burstiness: f64,
    slo: Period,
    #[serde(default = "one")]
    rows: u32,
    #[serde(default = "one")]
    tenants: u32,
    #[serde(default)]
    priority: u64,
}

/// Why a scenario can't be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// It is no TOML, or says what a scenario doesn't have.
    #[error("{0}")]
    Toml(String),
    /// A value is none.
    #[error("{field} is {found}: {expected}")]
    Value {
        /// What it is of.
        field: String,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The models don't fit where they should be.
    #[error(
        "models of {needed} don't fit into a device of {memory}: give it more memory, or write \
         placement = \"greedy\""
    )]
    Memory {
        /// What they have together.
        needed: ByteSize,
        /// What the device has.
        memory: ByteSize,
    },
    /// The trial run for the placement failed.
    #[error(transparent)]
    Trial(#[from] Violation),
}

impl std::str::FromStr for Scenario {
    type Err = ScenarioError;

    /// Reads a scenario and checks what it says.
    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }
}

impl Scenario {
    /// Devices and models, which are where the scenario says; a greedy placement is fitted to a load
    /// of its own.
    ///
    /// # Errors
    ///
    /// If they don't fit there.
    pub fn setting(&self) -> Result<Setting, ScenarioError> {
        self.setting_for(&self.load(0))
    }

    /// The same with a greedy placement that is fitted to this load.
    ///
    /// # Errors
    ///
    /// If models don't fit where they should be.
    pub fn setting_for(&self, trial: &[Request]) -> Result<Setting, ScenarioError> {
        let mut models = Vec::new();
        for kind in &self.models {
            let points = kind.profile.iter().map(|point| (point.rows, micros(point.time)));
            let profile = BatchProfile::new(points.collect()).map_err(|error| {
                value(&format!("profile of {}", kind.name), error, "µs by rows")
            })?;
            models.extend((1..=kind.count).map(|number| Model {
                name: if kind.count == 1 {
                    kind.name.clone()
                } else {
                    format!("{}-{number}", kind.name)
                },
                bytes: kind.memory.0,
                load_us: micros(kind.load),
                max_rows: kind.batch,
                profile: profile.clone(),
            }));
        }
        let devices = self.devices.iter().flat_map(|kind| {
            let device =
                DeviceKind { memory_bytes: kind.memory.0, lanes: kind.lanes, resident: vec![] };
            (0..kind.count).map(move |_| device.clone())
        });
        let noise_milli = (self.noise * 1_000.0).round() as u32;
        let mut setting = Setting {
            devices: devices.collect(),
            models,
            noise_milli,
            weights: Vec::new(),
            outages: Vec::new(),
        };
        match self.placement {
            Placement::Everywhere => everywhere(&mut setting)?,
            Placement::Greedy => {
                replicate(&mut setting, trial, || PolicyKind::Replicated.start())?;
            }
            Placement::Nowhere => {}
        }
        Ok(setting)
    }

    /// The calls by a seed, in the order of time.
    pub fn load(&self, seed: u64) -> Vec<Request> {
        let (mut streams, mut kinds, mut first) = (Vec::new(), Vec::new(), 0);
        for kind in &self.models {
            let weights: Vec<_> =
                (1..=kind.count).map(|rank| f64::from(rank).powf(-kind.calls.skew)).collect();
            let sum: f64 = weights.iter().sum();
            for (weight, model) in weights.iter().zip(first..) {
                let rate = kind.calls.rate * weight / sum;
                let seed = seed.wrapping_mul(1_000_003).wrapping_add(model.into());
                if let Some(stream) = Arrivals::new(rate, kind.calls.burstiness, seed) {
                    streams.push(stream);
                    kinds.push((ModelIndex(model), &kind.calls));
                }
            }
            first += kind.count;
        }
        let mut tenants = Arrivals::new(1.0, 1.0, seed);
        let mut tenant = |count: u32| match &mut tenants {
            Some(source) if count > 1 => source.random().random_range(0..count),
            _ => 0,
        };
        let request = |(at_us, stream): (u64, usize)| {
            let (model, calls) = kinds[stream];
            Request {
                at_us,
                model,
                tenant: TenantIndex(tenant(calls.tenants)),
                rows: calls.rows,
                priority: Priority::from_parameter(calls.priority),
                slo_us: micros(calls.slo),
            }
        };
        merged(streams, micros(self.duration)).into_iter().map(request).collect()
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let seconds = self.duration.0.as_secs_f64();
        let calls: f64 = self.models.iter().map(|kind| kind.calls.rate).sum::<f64>() * seconds;
        let devices = total(self.devices.iter().map(|kind| kind.count));
        let models = total(self.models.iter().map(|kind| kind.count));
        let most = |field: &str, found: Option<u32>, most: u32, expected| match found {
            Some(found) if (1..=most).contains(&found) => Ok(()),
            Some(found) => Err(value(field, found, expected)),
            None => Err(value(field, "more than can be counted", expected)),
        };
        most("devices", devices, MOST_DEVICES, "a scenario has 1 to 100,000 of them")?;
        most("models", models, MOST_MODELS, "a scenario has 1 to 100,000 of them")?;
        let places = u64::from(devices.unwrap_or(0)) * u64::from(models.unwrap_or(0));
        let (most_places, expected) = match self.placement {
            Placement::Everywhere => {
                (MOST_PLACES, "at most 10 million: write placement = \"nowhere\"")
            }
            Placement::Greedy => {
                (MOST_TRIALS, "at most 10,000 can be tried for placement = \"greedy\"")
            }
            Placement::Nowhere => (u64::MAX, ""),
        };
        if places > most_places {
            return Err(value("devices times models", places, expected));
        }
        if !(0.0..1.0).contains(&self.noise) {
            return Err(value("noise", self.noise, "a part of a batch's time, from 0 up to 1"));
        }
        for kind in &self.devices {
            most("lanes", Some(kind.lanes.into()), 1_024, "a device has 1 to 1,024 of them")?;
        }
        for kind in &self.models {
            kind.check()?;
        }
        if calls > MOST_CALLS {
            let expected = "at most 20 million calls: lower the rates or the duration";
            return Err(value("the number of calls", calls as u64, expected));
        }
        Ok(())
    }
}

impl Models {
    fn check(&self) -> Result<(), ScenarioError> {
        let of = |field: &str| format!("{field} of {}", self.name);
        let Calls { rate, skew, burstiness, rows, tenants, .. } = self.calls;
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        if !is_positive(rate) {
            return Err(value(&of("rate"), rate, "calls per second, more than 0"));
        }
        if !(0.01..=100.0).contains(&burstiness) {
            let expected = "the gaps' coefficient of variation, from 0.01 to 100; 1 is Poisson's";
            return Err(value(&of("burstiness"), burstiness, expected));
        }
        if !(0.0..=10.0).contains(&skew) {
            return Err(value(&of("skew"), skew, "the exponent of Zipf's law, from 0 to 10"));
        }
        if !(1..=MOST_ROWS).contains(&self.batch) {
            return Err(value(
                &of("batch"),
                self.batch,
                "most rows in one batch, from 1 to 65,536",
            ));
        }
        if !(1..=self.batch).contains(&rows) {
            return Err(value(&of("rows"), rows, "rows of a call, from 1 to the batch's"));
        }
        if !(1..=MOST_TENANTS).contains(&tenants) {
            return Err(value(&of("tenants"), tenants, "how many call it, from 1 to 10,000"));
        }
        let longest = self.profile.iter().map(|point| point.time).chain([self.load]).max();
        if let Some(longest) = longest.filter(|longest| longest.0 > MOST_TIME) {
            return Err(value(&of("a time"), longest, "at most a day"));
        }
        Ok(())
    }
}

fn everywhere(setting: &mut Setting) -> Result<(), ScenarioError> {
    let needed = setting.models.iter().map(|model| model.bytes).fold(0, u64::saturating_add);
    let all: Vec<_> = (0..setting.models.len() as u32).map(ModelIndex).collect();
    for device in &mut setting.devices {
        if device.memory_bytes < needed {
            let [needed, memory] = [needed, device.memory_bytes].map(ByteSize);
            return Err(ScenarioError::Memory { needed, memory });
        }
        device.resident.clone_from(&all);
    }
    Ok(())
}

fn value(field: &str, found: impl ToString, expected: &'static str) -> ScenarioError {
    ScenarioError::Value { field: field.to_owned(), found: found.to_string(), expected }
}

fn total(mut counts: impl Iterator<Item = u32>) -> Option<u32> {
    counts.try_fold(0_u32, |sum, count| sum.checked_add(count))
}

fn micros(period: Period) -> u64 {
    u64::try_from(period.0.as_micros()).unwrap_or(u64::MAX)
}

const fn one() -> u32 {
    1
}

const fn one_lane() -> u16 {
    1
}

const fn poisson() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"
        duration = "10s"
        [[devices]]
        count = 2
        memory = "10B"
        [[models]]
        name = "reader"
        count = 3
        memory = "3B"
        load = "1s"
        batch = 4
        profile = [{ rows = 1, time = "10ms" }, { rows = 4, time = "16ms" }]
        calls = { rate = 30.0, skew = 1.0, slo = "100ms" }
    "#;

    #[test]
    fn a_scenario_becomes_a_setting_and_a_load() {
        let scenario: Scenario = SCENARIO.parse().expect("a scenario");
        let setting = scenario.setting().expect("fits");
        assert_eq!(setting.devices.len(), 2);
        assert_eq!(setting.models[2].name, "reader-3");
        assert!(setting.devices.iter().all(|device| device.resident.len() == 3));
        let load = scenario.load(1);
        assert_eq!(load, scenario.load(1));
        let of = |model| load.iter().filter(|call| call.model == ModelIndex(model)).count();
        assert!((200..400).contains(&load.len()), "{}", load.len());
        assert!(of(0) > of(1) && of(1) > of(2), "Zipf");
        assert!(load.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, expected) in [
            ("rate = 30.0", "rate = 0.0", "rate of reader is 0: calls per second, more than 0"),
            ("skew = 1.0", "skew = -1.0", "skew of reader is -1"),
            ("skew = 1.0", "burstiness = 0.0", "burstiness of reader is 0"),
            ("skew = 1.0", "rows = 5", "rows of reader is 5"),
            ("skew = 1.0", "burstiness = 1e6", "burstiness of reader is 1000000"),
            ("skew = 1.0", "tenants = 0", "tenants of reader is 0"),
            ("skew = 1.0", "tenants = 10_001", "tenants of reader is 10001"),
            ("batch = 4", "batch = 65_537", "batch of reader is 65537"),
            ("\"1s\"", "\"25h\"", "a time of reader is 1day 1h: at most a day"),
            (
                "\"10s\"",
                "\"10s\"\nplacement = \"greedy\"\n[[devices]]\ncount = 9000\nmemory = \"1B\"",
                "devices times models is 27006",
            ),
            ("skew = 1.0", "colour = 1", "unknown field `colour`"),
            ("batch = 4", "batch = 0", "batch of reader is 0"),
            ("count = 2", "count = 0", "devices is 0"),
            ("count = 2", "lanes = 0", "lanes is 0"),
            ("count = 3", "count = 100_001", "models is 100001"),
            ("\"10s\"", "\"10s\"\nnoise = 1.5", "noise is 1.5"),
            ("\"10s\"", "\"100days\"", "the number of calls is 259200000"),
            ("rate = 30.0", "rate = nan", "rate of reader is NaN"),
        ] {
            let error = SCENARIO.replace(from, to).parse::<Scenario>().expect_err(to);
            assert!(error.to_string().contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn models_that_do_not_fit_everywhere_are_refused() {
        let scenario: Scenario = SCENARIO.replace("10B", "8B").parse().expect("a scenario");
        let [needed, memory] = [9, 8].map(ByteSize);
        assert_eq!(scenario.setting(), Err(ScenarioError::Memory { needed, memory }));
        let greedy = SCENARIO
            .replace("10B", "8B")
            .replace("[[devices]]", "placement = \"greedy\"\n[[devices]]");
        let setting = greedy.parse::<Scenario>().expect("a scenario").setting().expect("fits");
        let models = |device: &DeviceKind| device.resident.len();
        assert!(setting.devices.iter().all(|device| models(device) <= 2));
        assert!(setting.devices.iter().map(models).sum::<usize>() >= 3);
    }

    #[test]
    fn a_profile_that_shrinks_is_refused() {
        let shrinks = SCENARIO.replace("\"16ms\"", "\"1ms\"").parse::<Scenario>().expect("TOML");
        let error = shrinks.setting().expect_err("shrinks");
        assert!(error.to_string().starts_with("profile of reader is a batch of 4 rows"), "{error}");
    }
}
