//! What a client wants of a function's log, as the query of its request says it.

use std::{
    borrow::Cow,
    str::FromStr,
    time::{Duration, SystemTime},
};

use quern_deploy::LogFilter;
use quern_types::{LogLevel, TraceId, VersionNumber};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::query::Between;

/// Bytes of the text that lines are to contain.
const MAX_TEXT: usize = 1_024;

/// What is asked for. Lines count which fit all that is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// How many lines to begin with, the newest ones.
    #[serde(default = "hundred")]
    pub(super) tail: Between<0, 10_000>,
    /// Whether to go on with whatever is printed, until the client leaves, the function is deleted
    /// or the server stops.
    #[serde(default)]
    pub(super) follow: bool,
    /// Of this version.
    version: Option<VersionNumber>,
    /// From there.
    stream: Option<LogSource>,
    /// As important as this at least; what is printed counts as `info`, what the server says as
    /// `error`.
    level: Option<LogLevel>,
    /// Not older than this.
    since: Option<Moment>,
    /// Older than this; what is followed has no end.
    until: Option<Moment>,
    /// With this in their text.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    text: Option<Part>,
    /// Of this request: its id, or the last 8 or more characters of it.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = "^[0-9a-fA-F-]{8,36}$"))]
    invocation: Option<Invocation>,
    /// Of requests that are part of this trace.
    trace: Option<TraceId>,
}

/// Why the parts of a query don't go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("query parameters \"follow\" and \"until\" exclude each other: what is to come has no end")]
pub(crate) struct EndlessError;

fn hundred() -> Between<0, 10_000> {
    Between::new(100)
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The server: traps and limits.
    System,
    /// The function's own log.
    Log,
}

/// A time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    At(SystemTime),
    Ago(Duration),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part(String);

/// The id of a request, or its end, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Invocation(String);

impl LogQuery {
    /// What lines have to be; times that are so long ago are counted back from `now`.
    pub(super) fn filter(self, now: SystemTime) -> Result<LogFilter, EndlessError> {
        if self.follow && self.until.is_some() {
            return Err(EndlessError);
        }
        Ok(LogFilter {
            version: self.version,
            stream: self.stream.map(LogSource::as_str),
            level: self.level,
            since: self.since.map(|since| since.before(now)),
            until: self.until.map(|until| until.before(now)),
            text: self.text.map(|text| text.0),
            invocation: self.invocation.map(|invocation| invocation.0),
            trace: self.trace,
        })
    }
}

impl LogSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
            Self::Log => "log",
        }
    }
}

impl Moment {
    fn before(self, now: SystemTime) -> SystemTime {
        match self {
            Self::At(time) => time,
            // Longer ago than time can tell is since ever.
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339(text).map(Self::At);
        let moment = time.or_else(|_| humantime::parse_duration(text).map(Self::Ago));
        moment.map_err(|_| {
            format!("{text:?} is neither a time such as 2026-11-21T09:00:00Z nor how long ago, such as 15m")
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            1..=MAX_TEXT => Ok(Self(text.to_owned())),
            bytes => Err(format!("it has {bytes} bytes, not 1 to {MAX_TEXT}")),
        }
    }
}

impl FromStr for Invocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        match is_id && (8..=36).contains(&text.len()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => {
                Err(format!("{text:?} is neither an id nor the last 8 or more characters of one"))
            }
        }
    }
}

/// Reads values from their texts.
macro_rules! texts {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

texts!(Moment Part Invocation);

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description = "A time, or how long ago it was.";
        json_schema!({"type": "string", "format": "date-time", "description": description})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn parse(query: &str) -> Result<(usize, bool, LogFilter), String> {
        let parsed: LogQuery = query::parse(Some(query)).map_err(|error| error.to_string())?;
        let (tail, follow) = (parsed.tail.get(), parsed.follow);
        let filter = parsed.filter(now()).map_err(|error| error.to_string())?;
        Ok((tail, follow, filter))
    }

    #[test]
    fn a_query_says_how_many_lines_and_which() {
        let none = LogFilter::default();
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let of_trace = format!("trace={trace}");
        for (text, tail, follow) in [
            ("", 100, false),
            ("tail=5&follow=true", 5, true),
            ("follow=false&tail=0&", 0, false),
            ("tail=10000", 10_000, false),
        ] {
            assert_eq!(parse(text), Ok((tail, follow, none.clone())), "{text}");
        }
        let (version, stream, level) = (VersionNumber::new(3), Some("log"), Some(LogLevel::Warn));
        let half = Duration::from_millis(500);
        for (text, filter) in [
            (
                "version=3&stream=log&level=warn",
                LogFilter { version, stream, level, ..none.clone() },
            ),
            (
                "since=15m&until=1970-01-01T00%3A10%3A00.5Z",
                LogFilter { since: at(100), until: at(600).map(|at| at + half), ..none.clone() },
            ),
            ("text=a%20%26%20b+", LogFilter { text: Some("a & b+".into()), ..none.clone() }),
            (
                "invocation=456789AB",
                LogFilter { invocation: Some("456789ab".into()), ..none.clone() },
            ),
            (&of_trace, LogFilter { trace: trace.parse().ok(), ..none }),
        ] {
            assert_eq!(parse(text), Ok((100, false, filter)), "{text}");
        }
    }

    #[test]
    fn queries_are_strict() {
        for (text, part) in [
            ("tail=10001", "tail"),
            ("tail=-1", "tail"),
            ("tail", "tail"),
            ("follow=yes", "follow"),
            ("version=0", "version"),
            ("stream=Log", "stream"),
            ("level=fatal", "level"),
            ("since=yesterday", "nor how long ago"),
            ("until=", "nor how long ago"),
            ("text=", "it has 0 bytes, not 1 to 1024"),
            ("invocation=456789a", "neither an id"),
            ("invocation=456789xyz", "neither an id"),
            ("trace=0", "32 digits"),
            ("text=%ff", "not UTF-8"),
            ("follow=true&until=1s", "exclude each other"),
            ("before=1", "before"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
