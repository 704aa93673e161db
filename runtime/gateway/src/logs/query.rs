//! What a client wants of a function's log, as the query of its request says it.

use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use quern_deploy::LogFilter;
use quern_types::{InvalidTraceId, LogLevel, UnknownLevel};

/// Lines where the query does not say.
const DEFAULT_TAIL: usize = 100;
/// Most lines to begin with.
const MAX_TAIL: usize = 10_000;
/// Bytes of the text that lines are to contain.
const MAX_TEXT: usize = 1_024;
/// The end of an invocation's id that tells it from its neighbours.
const SHORT_INVOCATION: usize = 8;
const INVOCATION: usize = 36;
const STREAMS: [&str; 4] = ["stdout", "stderr", "system", "log"];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) tail: usize,
    pub(super) follow: bool,
    pub(super) filter: LogFilter,
}

/// Why a query is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// Not one of the keys.
    #[error(
        "query has the unknown key {key:?}: use tail, follow, version, stream, level, since, \
         until, text, invocation and trace"
    )]
    Unknown {
        /// The key.
        key: String,
    },
    /// Not a number of lines.
    #[error("tail is {value:?}, not a number from 0 to {MAX_TAIL}")]
    Tail {
        /// The value.
        value: String,
    },
    /// Neither yes nor no.
    #[error("follow is {value:?}, neither true nor false")]
    Follow {
        /// The value.
        value: String,
    },
    /// Not the number of a version.
    #[error("version is {value:?}, not a number from 1 on")]
    Version {
        /// The value.
        value: String,
    },
    /// Not where a line can come from.
    #[error("stream is {value:?}, none of stdout, stderr, system and log")]
    Stream {
        /// The value.
        value: String,
    },
    /// Not a level.
    #[error(transparent)]
    Level(#[from] UnknownLevel),
    /// Not a time.
    #[error(
        "{key} is {value:?}: write a time such as 2026-11-21T09:00:00Z, or how long ago, such as 15m"
    )]
    Time {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Nothing, or too much, that lines are to contain.
    #[error("text has {bytes} bytes, not 1 to {MAX_TEXT}")]
    Text {
        /// Its length.
        bytes: usize,
    },
    /// Not an invocation.
    #[error("invocation is {value:?}, neither an id nor the last 8 or more of its characters")]
    Invocation {
        /// The value.
        value: String,
    },
    /// Not a trace.
    #[error(transparent)]
    Trace(#[from] InvalidTraceId),
    /// Not text.
    #[error("{key} is not UTF-8 once it is decoded")]
    Encoding {
        /// The key.
        key: String,
    },
    /// What comes is never before a time.
    #[error("follow and until exclude each other: what is still to come has no end")]
    FollowUntil,
}

impl Query {
    /// Reads a query; times that are so long ago are counted back from `now`.
    pub(super) fn parse(query: Option<&str>, now: SystemTime) -> Result<Self, QueryError> {
        let filter = LogFilter::default();
        let mut parsed = Self { tail: DEFAULT_TAIL, follow: false, filter };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let decoded = percent_decode_str(&value).decode_utf8();
            let value = decoded.map_err(|_| QueryError::Encoding { key: shown(key) })?;
            parsed.take(key, &value, now)?;
        }
        match parsed.follow && parsed.filter.until.is_some() {
            true => Err(QueryError::FollowUntil),
            false => Ok(parsed),
        }
    }

    fn take(&mut self, key: &str, value: &str, now: SystemTime) -> Result<(), QueryError> {
        let filter = &mut self.filter;
        match key {
            "tail" => {
                let tail = value.parse().ok().filter(|tail| *tail <= MAX_TAIL);
                self.tail = tail.ok_or_else(|| QueryError::Tail { value: shown(value) })?;
            }
            "follow" => {
                let follow = value.parse();
                self.follow = follow.map_err(|_| QueryError::Follow { value: shown(value) })?;
            }
            "version" => {
                let version = value.parse();
                let version = version.map_err(|_| QueryError::Version { value: shown(value) })?;
                filter.version = Some(version);
            }
            "stream" => {
                let stream = STREAMS.into_iter().find(|stream| *stream == value);
                let unknown = || QueryError::Stream { value: shown(value) };
                filter.stream = Some(stream.ok_or_else(unknown)?);
            }
            "level" => filter.level = Some(value.parse::<LogLevel>()?),
            "since" => filter.since = Some(time("since", value, now)?),
            "until" => filter.until = Some(time("until", value, now)?),
            "text" => {
                if !(1..=MAX_TEXT).contains(&value.len()) {
                    return Err(QueryError::Text { bytes: value.len() });
                }
                filter.text = Some(value.to_owned());
            }
            "invocation" => {
                let invocation = value.to_ascii_lowercase();
                let is_id = invocation.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
                if !is_id || !(SHORT_INVOCATION..=INVOCATION).contains(&value.len()) {
                    return Err(QueryError::Invocation { value: shown(value) });
                }
                filter.invocation = Some(invocation);
            }
            "trace" => filter.trace = Some(value.parse()?),
            _ => return Err(QueryError::Unknown { key: shown(key) }),
        }
        Ok(())
    }
}

/// A time, or how long ago it was.
fn time(key: &'static str, value: &str, now: SystemTime) -> Result<SystemTime, QueryError> {
    if let Ok(time) = humantime::parse_rfc3339(value) {
        return Ok(time);
    }
    let ago: Option<Duration> = humantime::parse_duration(value).ok();
    let time = ago.and_then(|ago| now.checked_sub(ago));
    time.ok_or_else(|| QueryError::Time { key, value: shown(value) })
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use quern_deploy::LogStream;
    use quern_types::VersionNumber;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn parse(query: &str) -> Result<Query, QueryError> {
        Query::parse(Some(query), now())
    }

    #[test]
    fn a_query_says_how_many_lines_and_which() {
        let query = |tail, follow, filter| Ok(Query { tail, follow, filter });
        let none = LogFilter::default();
        assert_eq!(Query::parse(None, now()), query(100, false, none.clone()));
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let cases = [
            ("", query(100, false, none.clone())),
            ("tail=5&follow=true", query(5, true, none.clone())),
            ("follow=false&tail=0&", query(0, false, none.clone())),
            ("tail=10000", query(10_000, false, none.clone())),
            (
                "version=3&stream=log&level=warn",
                query(
                    100,
                    false,
                    LogFilter {
                        version: VersionNumber::new(3),
                        stream: Some("log"),
                        level: Some(LogLevel::Warn),
                        ..none.clone()
                    },
                ),
            ),
            (
                "since=15m&until=1970-01-01T00%3A10%3A00.5Z",
                query(
                    100,
                    false,
                    LogFilter {
                        since: at(100),
                        until: at(600).map(|time| time + Duration::from_millis(500)),
                        ..none.clone()
                    },
                ),
            ),
            (
                "text=a+%26%20b%2B",
                query(100, false, LogFilter { text: Some("a & b+".into()), ..none.clone() }),
            ),
            (
                "invocation=456789AB",
                query(
                    100,
                    false,
                    LogFilter { invocation: Some("456789ab".into()), ..none.clone() },
                ),
            ),
            (
                &format!("trace={trace}"),
                query(100, false, LogFilter { trace: trace.parse().ok(), ..none }),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn queries_are_strict() {
        let ago = "write a time such as 2026-11-21T09:00:00Z, or how long ago, such as 15m";
        let keys = "use tail, follow, version, stream, level, since, until, text, invocation and \
                    trace";
        let cases = [
            ("tail=10001", "tail is \"10001\", not a number from 0 to 10000".to_owned()),
            ("tail=-1", "tail is \"-1\", not a number from 0 to 10000".into()),
            ("tail", "tail is \"\", not a number from 0 to 10000".into()),
            ("follow=yes", "follow is \"yes\", neither true nor false".into()),
            ("version=0", "version is \"0\", not a number from 1 on".into()),
            ("stream=Log", "stream is \"Log\", none of stdout, stderr, system and log".into()),
            ("level=fatal", UnknownLevel.to_string()),
            ("since=yesterday", format!("since is \"yesterday\": {ago}")),
            ("until=100years", format!("until is \"100years\": {ago}")),
            ("text=", "text has 0 bytes, not 1 to 1024".into()),
            (
                "invocation=456789a",
                "invocation is \"456789a\", neither an id nor the last 8 or more of its characters"
                    .into(),
            ),
            ("trace=0", InvalidTraceId.to_string()),
            ("text=%ff", "text is not UTF-8 once it is decoded".into()),
            ("follow=true&until=1s", QueryError::FollowUntil.to_string()),
            ("before=1", format!("query has the unknown key \"before\": {keys}")),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
        let streams = [LogStream::Stdout, LogStream::Stderr, LogStream::System];
        assert!(streams.iter().all(|stream| STREAMS.contains(&stream.as_str())));
    }
}
