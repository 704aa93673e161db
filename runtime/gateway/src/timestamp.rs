//! Times as clients see them: RFC 3339, in UTC, with milliseconds.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

/// A time, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Timestamp(#[schemars(extend("format" = "date-time"))] String);

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        // A clock before 1970 is no reason to fail.
        let time = time.max(SystemTime::UNIX_EPOCH);
        Self(humantime::format_rfc3339_millis(time).to_string())
    }
}
