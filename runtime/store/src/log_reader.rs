//! Reads what functions printed, a page at a time. A page looks at a bounded number of records,
//! however few of them are wanted, and says how far it looked.

use std::time::SystemTime;

use quern_types::{LogLevel, Name, TenantId, TraceId, VersionNumber};
use rusqlite::{Connection, Row, params, types::Type};

use crate::{LogRecord, LogStream, StoredRecord, rows};

/// Records that one page looks at.
const MOST_LOOKED_AT: i64 = 1_024;

/// Which records of a function are wanted, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Records of older versions are never given.
    pub oldest: VersionNumber,
    /// Where to look.
    pub from: LogPosition,
    /// Records of one page.
    pub limit: usize,
    /// What else they have to be.
    pub filter: LogFilter,
}

/// Where a page begins, and which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPosition {
    /// After the record of this number, the oldest first.
    After(u64),
    /// Before the record of this number, the newest first.
    Before(u64),
}

/// What records have to be; all of it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Of this version.
    pub version: Option<VersionNumber>,
    /// From there: a word of [`LogStream::as_str`].
    pub stream: Option<&'static str>,
    /// As important as this at least. What is printed is info, what the server says an error.
    pub level: Option<LogLevel>,
    /// Not older.
    pub since: Option<SystemTime>,
    /// Older.
    pub until: Option<SystemTime>,
    /// With this somewhere in their text.
    pub text: Option<String>,
    /// Of a request whose id is this, or ends so.
    pub invocation: Option<String>,
    /// Of a request that is part of this trace.
    pub trace: Option<TraceId>,
}

/// Some of the records that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The records in ascending order.
    pub records: Vec<StoredRecord>,
    /// The last record that was looked at; none if there is nothing further.
    pub looked_at: Option<u64>,
}

impl LogFilter {
    fn takes(&self, record: &LogRecord) -> bool {
        let Self { version, stream, level, since, until, text, invocation, trace } = self;
        version.is_none_or(|version| record.version == version)
            && stream.is_none_or(|stream| record.stream.as_str() == stream)
            && level.is_none_or(|level| importance(&record.stream) >= level)
            && since.is_none_or(|since| record.time >= since)
            && until.is_none_or(|until| record.time < until)
            && trace.is_none_or(|trace| record.trace == Some(trace))
            && text.as_ref().is_none_or(|text| record.text.contains(text.as_str()))
            && invocation
                .as_ref()
                .is_none_or(|invocation| record.invocation.to_string().ends_with(invocation))
    }
}

fn importance(stream: &LogStream) -> LogLevel {
    match stream {
        LogStream::Stdout | LogStream::Stderr => LogLevel::Info,
        LogStream::System => LogLevel::Error,
        LogStream::Log { level, .. } => *level,
    }
}

/// A row's stream is none that this server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log stream is none of stdout, stderr, system and log")]
struct UnknownStream;

/// Reads a page of a function's records.
pub(crate) fn page(
    connection: &Connection,
    tenant: &TenantId,
    function: &Name,
    query: &LogQuery,
) -> rusqlite::Result<LogPage> {
    let (start, mut statement) = match query.from {
        LogPosition::After(start) => (start, connection.prepare_cached(AFTER)?),
        LogPosition::Before(start) => (start, connection.prepare_cached(BEFORE)?),
    };
    let start = i64::try_from(start).unwrap_or(i64::MAX);
    let mut found =
        statement.query(params![tenant.as_str(), function.as_str(), start, MOST_LOOKED_AT])?;
    let mut page = LogPage::default();
    while page.records.len() < query.limit
        && let Some(row) = found.next()?
    {
        let stored = stored(row, tenant, function)?;
        page.looked_at = Some(stored.sequence);
        if stored.record.version >= query.oldest && query.filter.takes(&stored.record) {
            page.records.push(stored);
        }
    }
    if matches!(query.from, LogPosition::Before(_)) {
        page.records.reverse();
    }
    Ok(page)
}

const AFTER: &str =
    "SELECT sequence, version, invocation, time_us, text, stream, level, context, trace
     FROM records JOIN functions ON functions.id = records.function
     WHERE tenant = ?1 AND name = ?2 AND sequence > ?3
     ORDER BY sequence LIMIT ?4";
const BEFORE: &str =
    "SELECT sequence, version, invocation, time_us, text, stream, level, context, trace
     FROM records JOIN functions ON functions.id = records.function
     WHERE tenant = ?1 AND name = ?2 AND sequence < ?3
     ORDER BY sequence DESC LIMIT ?4";

fn stored(row: &Row<'_>, tenant: &TenantId, function: &Name) -> rusqlite::Result<StoredRecord> {
    let trace = match row.get_ref(8)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(rows::parsed(row, 8)?),
    };
    Ok(StoredRecord {
        sequence: row.get::<_, i64>(0)?.try_into().unwrap_or(0),
        record: LogRecord {
            tenant: tenant.clone(),
            function: function.clone(),
            version: rows::number(row, 1)?,
            invocation: rows::parsed(row, 2)?,
            trace,
            time: rows::time(row.get(3)?),
            text: row.get(4)?,
            stream: stream(row, 5)?,
        },
    })
}

/// The stream that the columns from this one on hold: its word, and a message's level and context.
fn stream(row: &Row<'_>, column: usize) -> rusqlite::Result<LogStream> {
    let word: String = row.get(column)?;
    match word.as_str() {
        "stdout" => Ok(LogStream::Stdout),
        "stderr" => Ok(LogStream::Stderr),
        "system" => Ok(LogStream::System),
        "log" => Ok(LogStream::Log {
            level: rows::parsed(row, column + 1)?,
            context: row.get(column + 2)?,
        }),
        _ => Err(rusqlite::Error::FromSqlConversionFailure(
            column,
            Type::Text,
            Box::new(UnknownStream),
        )),
    }
}
