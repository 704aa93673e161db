//! What a function printed, one JSON object a line, and with `follow` whatever it prints from now
//! on. A client costs one page of memory, never all that it asked for: the next is only fetched
//! when it has taken the last.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_deploy::{DeployError, Deployer, StoredRecord};
use quern_types::{BodyError, Caller, InvocationId, LogLevel, Name, TenantId, VersionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
    query::{self, Between},
    timestamp::Timestamp,
};

/// Most records that are read at once: with their texts, what one client holds at most.
const PAGE: usize = 128;
/// A part of the answer ends with the line that reaches this size; to write one takes no time that
/// others would notice.
const PART: usize = 64 << 10;
/// A follower looks for new lines no more often than this.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// How many lines to begin with, the newest ones.
    #[serde(default = "hundred")]
    tail: Between<0, 10_000>,
    /// Whether to go on with whatever is printed, until the client leaves, the function is deleted
    /// or the server stops.
    #[serde(default)]
    follow: bool,
}

fn hundred() -> Between<0, 10_000> {
    Between::new(100)
}

/// `GET /v1/functions/{name}/logs`
pub(crate) async fn logs(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    let LogQuery { tail, follow } = query::parse(query)?;
    let mut reader = Reader {
        changes: gateway.deployer.log_changes(),
        deployer: gateway.deployer.clone(),
        tenant: caller.tenant.clone(),
        function: name,
        closing: gateway.closing.clone(),
        last: 0,
        end: None,
        page: VecDeque::new(),
    };
    reader.begin(tail.get(), follow).await?;
    let parts = stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.part().await?.map(|part| (Frame::data(part), reader)))
    });
    let body = ReplyBody::Stream(StreamBody::new(parts).boxed_unsync());
    let mut reply = Response::new(body);
    let kind = HeaderValue::from_static("application/x-ndjson");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}

/// Someone who reads a function's log.
struct Reader {
    deployer: Arc<Deployer>,
    tenant: TenantId,
    function: Name,
    changes: watch::Receiver<u64>,
    /// Ends when the server does.
    closing: CancellationToken,
    /// The last record that was read.
    last: u64,
    /// Where to stop; none for a follower.
    end: Option<u64>,
    /// Records that were read and not yet sent.
    page: VecDeque<StoredRecord>,
}

impl Reader {
    /// Finds the record before the newest `tail`, and the end.
    async fn begin(&mut self, tail: usize, follow: bool) -> Result<(), DeployError> {
        let newest = self.records(None, tail.clamp(1, PAGE)).await?;
        let end = newest.last().map_or(0, |stored| stored.sequence);
        self.end = (!follow).then_some(end);
        self.last = match newest.first() {
            None => 0,
            Some(_) if tail == 0 => end,
            Some(first) if tail <= PAGE || newest.len() < PAGE => first.sequence.saturating_sub(1),
            Some(_) => self.before(tail, end).await?,
        };
        Ok(())
    }

    /// The record before the newest `tail` up to `end`, found page by page from the oldest: all of
    /// them at once could be more than there is memory for.
    async fn before(&self, tail: usize, end: u64) -> Result<u64, DeployError> {
        let mut newest = VecDeque::with_capacity(tail + PAGE + 1);
        let mut last = 0;
        while last < end {
            let page = self.records(Some(last), PAGE).await?;
            let Some(stored) = page.last() else { break };
            last = stored.sequence;
            let sequences = page.iter().map(|stored| stored.sequence);
            newest.extend(sequences.filter(|sequence| *sequence <= end));
            newest.drain(..newest.len().saturating_sub(tail + 1));
        }
        Ok(if newest.len() > tail { newest[0] } else { 0 })
    }

    async fn records(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, DeployError> {
        self.deployer.logs(&self.tenant, &self.function, after, limit).await
    }

    /// The next lines; none at the end, if a follower's function is gone, or if its server ends.
    async fn part(&mut self) -> Result<Option<Bytes>, BodyError> {
        while self.page.is_empty() {
            if self.end.is_some_and(|end| self.last >= end) {
                return Ok(None);
            }
            // Marked before reading: what is written meanwhile counts as a change.
            self.changes.borrow_and_update();
            match self.records(Some(self.last), PAGE).await {
                Ok(page) => self.page = page.into(),
                Err(error) if self.end.is_none() => {
                    tracing::debug!(function = %self.function, %error, "log is not followed further");
                    return Ok(None);
                }
                Err(error) => return Err(BodyError::Broken(error.to_string())),
            }
            if let Some(end) = self.end {
                self.page.retain(|stored| stored.sequence <= end);
            }
            if let Some(stored) = self.page.back() {
                self.last = stored.sequence;
            } else if self.end.is_some() || !self.wait().await {
                // With an end, what was to come has been removed meanwhile.
                return Ok(None);
            }
        }
        Ok(Some(lines(&mut self.page)))
    }

    /// Waits for new records; false if none come any more.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            changed = self.changes.changed() => if changed.is_err() { return false },
            () = self.closing.cancelled() => return false,
        }
        tokio::time::sleep(PAUSE).await;
        true
    }
}

/// A line of a function's log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogLine<'a> {
    /// Its place among all lines; only grows.
    sequence: u64,
    /// When it was printed.
    time: Timestamp,
    /// By which request.
    invocation: InvocationId,
    /// Of which version.
    version: VersionNumber,
    /// Where it was printed; `system` has traps and limits, `log` what came through `wasi:logging`.
    #[schemars(extend("enum" = ["stdout", "stderr", "system", "log"]))]
    stream: &'static str,
    /// How much it matters, where it was logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<LogLevel>,
    /// What it belongs to, where it was logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    /// What was printed.
    text: &'a str,
}

/// Takes records until their lines are a part of the answer.
fn lines(records: &mut VecDeque<StoredRecord>) -> Bytes {
    let mut text = Vec::new();
    while text.len() < PART
        && let Some(StoredRecord { sequence, record }) = records.pop_front()
    {
        let logged = record.stream.logged();
        let line = LogLine {
            sequence,
            time: record.time.into(),
            invocation: record.invocation,
            version: record.version,
            stream: record.stream.as_str(),
            level: logged.map(|(level, _)| level),
            context: logged.map(|(_, context)| context),
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

    use super::*;
    use quern_deploy::{LogRecord, LogStream};

    #[test]
    fn queries_are_strict() {
        let asked = |tail, follow| LogQuery { tail: Between::new(tail), follow };
        let cases = [
            (None, asked(100, false)),
            (Some("tail=5&follow=true"), asked(5, true)),
            (Some("follow=false&tail=0&"), asked(0, false)),
            (Some("tail=10000"), asked(10_000, false)),
        ];
        for (text, expected) in cases {
            assert_eq!(query::parse(text), Ok(expected), "{text:?}");
        }
        for text in ["tail=10001", "tail=-1", "tail", "follow=yes", "since=1"] {
            assert!(query::parse::<LogQuery>(Some(text)).is_err(), "{text}");
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
        let text = lines(&mut [StoredRecord { sequence: 7, record: record.clone() }].into());
        assert_eq!(
            text,
            "{\"sequence\":7,\"time\":\"1970-01-01T00:00:01.500Z\",\
             \"invocation\":\"01936a5e-0000-7000-8000-0123456789ab\",\"version\":1,\
             \"stream\":\"stderr\",\"text\":\"a\\n\\\"b\\\"\"}\n"
        );
        let stream = LogStream::Log { level: LogLevel::Warn, context: "disk".into() };
        let record = LogRecord { stream, text: "full".into(), ..record };
        let text = lines(&mut [StoredRecord { sequence: 8, record }].into());
        let end =
            b"\"stream\":\"log\",\"level\":\"warn\",\"context\":\"disk\",\"text\":\"full\"}\n";
        assert!(text.ends_with(end), "{text:?}");
    }

    #[test]
    fn a_part_ends_with_the_line_that_fills_it() {
        let record = |sequence| StoredRecord {
            sequence,
            record: LogRecord {
                tenant: TenantId::default(),
                function: "hello".parse().expect("a name"),
                version: VersionNumber::FIRST,
                invocation: "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id"),
                time: SystemTime::UNIX_EPOCH,
                stream: LogStream::Stdout,
                text: "x".repeat(PART / 2),
            },
        };
        let mut records: VecDeque<_> = (1..=5).map(record).collect();
        for left in [3, 1, 0] {
            assert!(lines(&mut records).ends_with(b"}\n"));
            assert_eq!(records.len(), left);
        }
    }
}
