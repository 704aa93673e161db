//! What a function printed, one JSON object a line, and with `follow` whatever it prints from now
//! on. A client that does not read costs one page of memory: the next is only fetched when it has
//! taken the last.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_deploy::{DeployError, Deployer, StoredRecord};
use quern_types::{Name, TenantId};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
    inspection::timestamp,
};

/// Lines where the query does not say.
const DEFAULT_TAIL: usize = 100;
/// Most lines to begin with.
const MAX_TAIL: usize = 10_000;
/// Most lines that are read at once while following.
const PAGE: usize = 1_000;
/// A follower looks for new lines no more often than this.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Query {
    tail: usize,
    follow: bool,
}

/// Why a query is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// Not one of the keys.
    #[error("query has the unknown key {key:?}: use tail and follow")]
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
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, QueryError> {
        let mut parsed = Self { tail: DEFAULT_TAIL, follow: false };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown = |text: &str| text.chars().take(80).collect::<String>();
            match key {
                "tail" => {
                    let tail = value.parse().ok().filter(|tail| *tail <= MAX_TAIL);
                    parsed.tail = tail.ok_or_else(|| QueryError::Tail { value: shown(value) })?;
                }
                "follow" => {
                    let follow = value.parse();
                    parsed.follow =
                        follow.map_err(|_| QueryError::Follow { value: shown(value) })?;
                }
                _ => return Err(QueryError::Unknown { key: shown(key) }),
            }
        }
        Ok(parsed)
    }
}

/// `GET /v1/functions/{name}/logs`
pub(crate) async fn logs(
    gateway: &Gateway,
    name: Name,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    let Query { tail, follow } = Query::parse(query)?;
    let mut follower = Follower {
        changes: gateway.deployer.log_changes(),
        deployer: gateway.deployer.clone(),
        tenant: gateway.tenant.clone(),
        function: name,
        closing: gateway.closing.clone(),
        last: None,
    };
    // The newest record says where to go on, even if it is not asked for.
    let mut newest = follower.page(tail.max(1)).await?;
    newest.drain(..newest.len().saturating_sub(tail));
    let newest = lines(&newest);
    let body = if follow {
        let rest = stream::unfold(follower, |mut follower| async move {
            let page = follower.next().await?;
            Some((page, follower))
        });
        let parts = stream::iter((!newest.is_empty()).then_some(newest)).chain(rest);
        ReplyBody::Stream(StreamBody::new(parts.map(|part| Ok(Frame::data(part)))).boxed_unsync())
    } else {
        ReplyBody::full(newest)
    };
    let mut reply = Response::new(body);
    let kind = HeaderValue::from_static("application/x-ndjson");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}

/// Someone who reads a function's log.
struct Follower {
    deployer: Arc<Deployer>,
    tenant: TenantId,
    function: Name,
    changes: watch::Receiver<u64>,
    /// Ends when the server does.
    closing: CancellationToken,
    /// The last record that was read; none before the first read.
    last: Option<u64>,
}

impl Follower {
    /// The records after the last one.
    async fn page(&mut self, limit: usize) -> Result<Vec<StoredRecord>, DeployError> {
        // Marked before reading: what is written meanwhile counts as a change.
        self.changes.borrow_and_update();
        let page = self.deployer.logs(&self.tenant, &self.function, self.last, limit).await?;
        self.last = page.last().map(|stored| stored.sequence).or(self.last).or(Some(0));
        Ok(page)
    }

    /// The lines of the next records, once there are any; none if the function is gone or the
    /// server ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.page(PAGE).await {
                Ok(page) if !page.is_empty() => return Some(lines(&page)),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(function = %self.function, %error, "log is not followed further");
                    return None;
                }
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = self.closing.cancelled() => return None,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    time: String,
    invocation: String,
    version: u32,
    stream: quern_deploy::LogStream,
    text: &'a str,
}

fn lines(records: &[StoredRecord]) -> Bytes {
    let mut text = Vec::new();
    for StoredRecord { sequence, record } in records {
        let line = Line {
            sequence: *sequence,
            time: timestamp(record.time),
            invocation: record.invocation.to_string(),
            version: record.version.get(),
            stream: record.stream,
            text: &record.text,
        };
        serde_json::to_writer(&mut text, &line).expect("text and numbers are written to memory");
        text.push(b'\n');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use quern_deploy::{LogRecord, LogStream};
    use quern_types::{InvocationId, VersionNumber};

    use super::*;

    #[test]
    fn queries_are_strict() {
        let query = |tail, follow| Ok(Query { tail, follow });
        let cases = [
            (None, query(100, false)),
            (Some(""), query(100, false)),
            (Some("tail=5&follow=true"), query(5, true)),
            (Some("follow=false&tail=0&"), query(0, false)),
            (Some("tail=10000"), query(10_000, false)),
        ];
        for (text, expected) in cases {
            assert_eq!(Query::parse(text), expected, "{text:?}");
        }
        let cases = [
            ("tail=10001", "tail is \"10001\", not a number from 0 to 10000"),
            ("tail=-1", "tail is \"-1\", not a number from 0 to 10000"),
            ("tail", "tail is \"\", not a number from 0 to 10000"),
            ("follow=yes", "follow is \"yes\", neither true nor false"),
            ("since=1", "query has the unknown key \"since\": use tail and follow"),
        ];
        for (text, message) in cases {
            let error = Query::parse(Some(text)).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let invocation: InvocationId =
            "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id");
        let record = LogRecord {
            tenant: TenantId::default(),
            function: "hello".parse().expect("a name"),
            version: VersionNumber::FIRST,
            invocation,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            stream: LogStream::Stderr,
            text: "a\n\"b\"".into(),
        };
        let text = lines(&[StoredRecord { sequence: 7, record }]);
        assert_eq!(
            text,
            "{\"sequence\":7,\"time\":\"1970-01-01T00:00:01.500Z\",\
             \"invocation\":\"01936a5e-0000-7000-8000-0123456789ab\",\"version\":1,\
             \"stream\":\"stderr\",\"text\":\"a\\n\\\"b\\\"\"}\n"
        );
    }
}
