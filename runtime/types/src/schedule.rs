//! Schedules: what is called at which times. Never reads a clock.

use std::{collections::BTreeMap, time::SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Name, Period, TenantId, schema};

/// What a schedule is to do, as its owner says it. Its times and its target are checked by whoever
/// takes it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// When: minute, hour, day of month, month, day of week.
    #[schemars(schema_with = "schema::cron")]
    pub cron: String,
    /// The zone of these times, by its name in the IANA database.
    #[serde(default = "utc")]
    #[schemars(schema_with = "schema::time_zone")]
    pub time_zone: String,
    /// The method of the call; an inference takes POST alone.
    #[serde(default = "post")]
    #[schemars(schema_with = "schema::method")]
    pub method: String,
    /// What is called: a path under `/f`, or of an inference, with its query. It must be
    /// there.
    #[schemars(schema_with = "schema::called_path")]
    pub path: String,
    /// Headers of the call, each of at most 4,096 bytes with its name.
    #[serde(default)]
    #[schemars(schema_with = "schema::headers")]
    pub headers: BTreeMap<String, String>,
    /// The body of the call, of at most 65,536 bytes.
    #[serde(default)]
    #[schemars(length(max = 65_536))]
    pub body: String,
    /// What happens to times that passed while nobody could call.
    #[serde(default)]
    pub missed: Missed,
    /// What happens when the last call has not come to its end.
    #[serde(default)]
    pub overlap: Overlap,
    /// How often each call is tried, up to what the server allows.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
    /// For how long each call is tried, up to what the server allows.
    #[serde(default)]
    pub max_age: Option<Period>,
    /// The webhook that is told how each call ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Name>,
}

fn utc() -> String {
    "UTC".into()
}

fn post() -> String {
    "POST".into()
}

/// What happens to times that passed while the server was down, or that its clock left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// They are left out.
    Skip,
    /// The last one of them is called, once.
    #[default]
    Once,
    /// All are called, as far as there are not too many.
    All,
}

/// What happens when a time has come while the last call waits or runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is called all the same.
    #[default]
    Allow,
    /// The time is left out.
    Skip,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, one of its tenant's schedules.
    pub name: Name,
    /// What it does.
    pub spec: ScheduleSpec,
    /// When it was made, or last changed: no time before counts.
    pub created: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_needs_times_and_a_path_and_nothing_unknown() {
        let spec: ScheduleSpec =
            serde_json::from_str(r#"{"cron": "0 4 * * *", "path": "/f/report/"}"#).expect("valid");
        assert_eq!((&*spec.time_zone, &*spec.method), ("UTC", "POST"));
        assert_eq!((spec.missed, spec.overlap), (Missed::Once, Overlap::Allow));
        let text = serde_json::to_string(&spec).expect("JSON");
        assert_eq!(serde_json::from_str::<ScheduleSpec>(&text).expect("its own"), spec);
        for (text, part) in [
            (r#"{"cron": "* * * * *"}"#, "`path`"),
            (r#"{"path": "/f/a"}"#, "`cron`"),
            (r#"{"cron": "", "path": "", "zone": "UTC"}"#, "`zone`"),
            (r#"{"cron": "", "path": "", "missed": "twice"}"#, "`twice`"),
        ] {
            let error = serde_json::from_str::<ScheduleSpec>(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
