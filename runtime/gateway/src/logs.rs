//! What a function printed, one JSON object a line, and with `follow` whatever it prints from now
//! on. A client costs one page of memory, never all that it asked for: the next is only fetched
//! when it has taken the last.

mod filter;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_deploy::{
    DeployError, Deployer, LogFilter, LogPage, LogPosition, LogQuery as PageQuery, StoredRecord,
};
use quern_types::{
    BodyError, Caller, InvocationId, LogLevel, Name, TenantId, TokenId, TraceId, VersionNumber,
};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::filter::{EndlessError, LogQuery};
use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
    query,
    timestamp::Timestamp,
};

/// Most records that are read at once: with their texts, what one client holds at most.
const PAGE: usize = 128;
/// A part of the answer ends with the line that reaches this size; to write one takes no time that
/// others would notice.
const PART: usize = 64 << 10;
/// A follower looks for new lines no more often than this.
const PAUSE: Duration = Duration::from_millis(50);

/// `GET /v1/functions/{name}/logs`
pub(crate) async fn logs(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    let asked: LogQuery = query::parse(query)?;
    let (tail, follow) = (asked.tail, asked.follow);
    let filter = asked.filter(SystemTime::now())?;
    let mut reader = Reader {
        changes: gateway.deployer.log_changes(),
        deployer: gateway.deployer.clone(),
        token: caller.token.filter(|_| gateway.config.authenticate),
        tenant: caller.tenant.clone(),
        function: name,
        filter,
        closing: gateway.closing.clone(),
        last: 0,
        end: None,
        read: VecDeque::new(),
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
    /// What has to let in whoever reads, for as long as there is anything to read.
    token: Option<TokenId>,
    filter: LogFilter,
    changes: watch::Receiver<u64>,
    /// Ends when the server does.
    closing: CancellationToken,
    /// The last record that was looked at.
    last: u64,
    /// Where to stop; none for a follower.
    end: Option<u64>,
    /// Records that were read and not yet sent.
    read: VecDeque<StoredRecord>,
}

impl Reader {
    /// Finds the end, and the record before the newest `tail`.
    async fn begin(&mut self, tail: usize, follow: bool) -> Result<(), DeployError> {
        let newest = self.page(LogPosition::Before(u64::MAX), 1, LogFilter::default()).await?;
        let end = newest.looked_at.unwrap_or(0);
        self.end = (!follow).then_some(end);
        self.last = if tail == 0 { end } else { self.before(tail, end).await? };
        Ok(())
    }

    /// The record before the newest `tail` up to `end`, found page by page: all of them at once
    /// could be more than there is memory for.
    async fn before(&self, tail: usize, end: u64) -> Result<u64, DeployError> {
        let (mut first, mut left) = (end.saturating_add(1), tail);
        loop {
            let limit = left.min(PAGE);
            let page = self.page(LogPosition::Before(first), limit, self.filter.clone()).await?;
            left -= page.records.len();
            match page.looked_at {
                Some(looked_at) if left > 0 => first = looked_at,
                Some(looked_at) => return Ok(looked_at.saturating_sub(1)),
                None => return Ok(0),
            }
        }
    }

    async fn page(
        &self,
        from: LogPosition,
        limit: usize,
        filter: LogFilter,
    ) -> Result<LogPage, DeployError> {
        let query = PageQuery { oldest: VersionNumber::FIRST, from, limit, filter };
        self.deployer.logs(&self.tenant, &self.function, query).await
    }

    /// The next lines; none at the end, if a follower's function is gone, or if its server ends.
    async fn part(&mut self) -> Result<Option<Bytes>, BodyError> {
        while self.read.is_empty() {
            if self.end.is_some_and(|end| self.last >= end) {
                return Ok(None);
            }
            // Marked before reading: what is written meanwhile counts as a change.
            self.changes.borrow_and_update();
            if !self.is_let_in() {
                return Err(BodyError::Broken("the token lets nobody in any more".into()));
            }
            let from = LogPosition::After(self.last);
            let looked_at = match self.page(from, PAGE, self.filter.clone()).await {
                Ok(page) => {
                    self.read = page.records.into();
                    page.looked_at
                }
                Err(error) if self.end.is_none() => {
                    tracing::debug!(function = %self.function, %error, "log is not followed further");
                    return Ok(None);
                }
                Err(error) => return Err(BodyError::Broken(error.to_string())),
            };
            if let Some(end) = self.end {
                self.read.retain(|stored| stored.sequence <= end);
            }
            if let Some(looked_at) = looked_at {
                self.last = looked_at;
            } else if self.end.is_some() || !self.wait().await {
                // With an end, what was to come has been removed meanwhile.
                return Ok(None);
            }
        }
        Ok(Some(lines(&mut self.read)))
    }

    fn is_let_in(&self) -> bool {
        self.token.is_none_or(|token| self.deployer.access().holds(token, SystemTime::now()))
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
    /// As part of which trace, if it was part of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
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
            trace: record.trace,
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
    use quern_deploy::{LogRecord, LogStream};

    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let invocation: InvocationId =
            "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id");
        let record = LogRecord {
            tenant: TenantId::default(),
            function: "hello".parse().expect("a name"),
            version: VersionNumber::FIRST,
            invocation,
            trace: None,
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
        let trace = "0af7651916cd43dd8448eb211c80319c".parse().ok();
        let record = LogRecord { stream, trace, text: "full".into(), ..record };
        let text = lines(&mut [StoredRecord { sequence: 8, record }].into());
        let end =
            b"\"stream\":\"log\",\"level\":\"warn\",\"context\":\"disk\",\"text\":\"full\"}\n";
        assert!(text.ends_with(end), "{text:?}");
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("\"trace\":\"0af7651916cd43dd8448eb211c80319c\""), "{text}");
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
                trace: None,
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
