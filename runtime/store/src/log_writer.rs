//! Writes what functions printed, in batches, and forgets the oldest. Never syncs: a log is not
//! worth a disk's time, and a crash of the process alone loses nothing that was written.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle, time::UNIX_EPOCH};

use quern_types::{Name, StorageFailure, TenantId};
use rusqlite::{Connection, Row, params};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::{
    LogRecord, database::Database, fault, folder::FolderLock, group, metrics::StoreMetrics,
};

/// Most messages of one transaction.
const BATCH: usize = 1024;

/// As in the catalog: a released migration never changes.
pub(crate) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE functions (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (tenant, name)
    ) STRICT;
    -- AUTOINCREMENT: a follower that has seen a sequence number must never meet it again.
    CREATE TABLE records (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        function INTEGER NOT NULL REFERENCES functions (id),
        version INTEGER NOT NULL,
        invocation TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        stream TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX records_by_function ON records (function, sequence);
",
    "
    -- Of stream 'log' alone.
    ALTER TABLE records ADD COLUMN level TEXT;
    ALTER TABLE records ADD COLUMN context TEXT;
",
    "
    -- Of requests that were part of a trace.
    ALTER TABLE records ADD COLUMN trace TEXT;
",
];

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Message {
    /// Write a record. Its bytes count as waiting until the message is dropped.
    Append { record: LogRecord, _room: OwnedSemaphorePermit },
    /// Remove all records of a function.
    Remove { tenant: TenantId, function: Name, reply: oneshot::Sender<Result<(), StorageFailure>> },
}

/// What is kept of each function's log: the newest records, up to both limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) records: u64,
    /// Bytes of text.
    pub(crate) bytes: u64,
}

/// What the database has of one function.
#[derive(Debug, Clone, Copy)]
struct Kept {
    id: i64,
    records: u64,
    /// Bytes of text.
    bytes: u64,
}

/// The one owner of the log database.
pub(crate) struct LogWriter {
    connection: Database,
    retention: Retention,
    changes: watch::Sender<u64>,
    metrics: StoreMetrics,
    /// The functions that have printed since the start.
    functions: HashMap<(TenantId, Name), Kept>,
    _lock: Arc<FolderLock>,
}

impl LogWriter {
    pub(crate) fn new(
        connection: Database,
        retention: Retention,
        changes: watch::Sender<u64>,
        metrics: StoreMetrics,
        lock: Arc<FolderLock>,
    ) -> Self {
        let functions = HashMap::new();
        Self { connection, retention, changes, metrics, functions, _lock: lock }
    }

    /// Starts the writer's thread; it ends when all senders are gone and the queue is empty.
    pub(crate) fn start(mut self, queue: mpsc::Receiver<Message>) -> io::Result<JoinHandle<()>> {
        group::start("quern-logs", BATCH, queue, move |batch| self.write(batch))
    }

    fn write(&mut self, batch: Vec<Message>) {
        let written = self.transact(&batch);
        let written = written.map_err(|error| fault::of_database(&error, &self.connection));
        if let Err(error) = &written {
            self.metrics.logs_failing.failed(error);
            // What the failed transaction counted is wrong.
            self.functions.clear();
            let records =
                batch.iter().filter(|message| matches!(message, Message::Append { .. })).count();
            self.metrics.dropped_records.inc_by(records as u64);
            tracing::error!(%error, records, "log records of functions can't be written");
        }
        for message in batch {
            if let Message::Remove { reply, .. } = message {
                // Nobody may be waiting any more.
                let _ = reply.send(match &written {
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        if let Ok(Some(sequence)) = written {
            self.metrics.logs_failing.succeeded();
            self.changes.send_replace(sequence);
        }
    }

    /// Writes a batch; gives the last sequence number, if there is a new one.
    fn transact(&mut self, batch: &[Message]) -> rusqlite::Result<Option<u64>> {
        let transaction = self.connection.transaction()?;
        let mut last = None;
        for message in batch {
            match message {
                Message::Append { record, .. } => {
                    last = Some(append(&transaction, &mut self.functions, record)?);
                }
                Message::Remove { tenant, function, .. } => {
                    self.functions.remove(&(tenant.clone(), function.clone()));
                    remove(&transaction, tenant, function)?;
                }
            }
        }
        for kept in self.functions.values_mut() {
            prune(&transaction, kept, &self.retention)?;
        }
        transaction.commit()?;
        Ok(last)
    }
}

fn append(
    connection: &Connection,
    functions: &mut HashMap<(TenantId, Name), Kept>,
    record: &LogRecord,
) -> rusqlite::Result<u64> {
    let key = (record.tenant.clone(), record.function.clone());
    let kept = match functions.entry(key) {
        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::hash_map::Entry::Vacant(unknown) => {
            unknown.insert(identify(connection, &record.tenant, &record.function)?)
        }
    };
    let logged = record.stream.logged();
    let time = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT INTO records
                 (function, version, invocation, time_us, stream, level, context, text, trace)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            kept.id,
            record.version.get(),
            record.invocation.to_string(),
            i64::try_from(time.as_micros()).unwrap_or(i64::MAX),
            record.stream.as_str(),
            logged.map(|(level, _)| level.as_str()),
            logged.map(|(_, context)| context),
            record.text,
            record.trace.map(|trace| trace.to_string()),
        ])?;
    kept.records += 1;
    kept.bytes += record.text.len() as u64;
    Ok(connection.last_insert_rowid().try_into().unwrap_or(0))
}

/// What there is of a function; it is added where it is missing.
fn identify(connection: &Connection, tenant: &TenantId, function: &Name) -> rusqlite::Result<Kept> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO functions (tenant, name) VALUES (?1, ?2)")?
        .execute([tenant.as_str(), function.as_str()])?;
    let id: i64 = connection
        .prepare_cached("SELECT id FROM functions WHERE tenant = ?1 AND name = ?2")?
        .query_row([tenant.as_str(), function.as_str()], |row| row.get(0))?;
    connection
        .prepare_cached(
            "SELECT count(*), coalesce(sum(octet_length(text)), 0) FROM records
             WHERE function = ?1",
        )?
        .query_row([id], |row| Ok(Kept { id, records: count(row, 0)?, bytes: count(row, 1)? }))
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|count| count.try_into().unwrap_or(0))
}

/// Deletes the oldest records of a function, as many as exceed what is kept.
fn prune(connection: &Connection, kept: &mut Kept, retention: &Retention) -> rusqlite::Result<()> {
    let exceeds = |kept: &Kept| kept.records > retention.records || kept.bytes > retention.bytes;
    if !exceeds(kept) {
        return Ok(());
    }
    let mut oldest = connection.prepare_cached(
        "SELECT sequence, octet_length(text) FROM records WHERE function = ?1 ORDER BY sequence",
    )?;
    let mut rows = oldest.query([kept.id])?;
    let mut last: i64 = 0;
    while exceeds(kept)
        && let Some(row) = rows.next()?
    {
        last = row.get(0)?;
        kept.records = kept.records.saturating_sub(1);
        kept.bytes = kept.bytes.saturating_sub(count(row, 1)?);
    }
    drop(rows);
    connection
        .prepare_cached("DELETE FROM records WHERE function = ?1 AND sequence <= ?2")?
        .execute([kept.id, last])
        .map(|_| ())
}

fn remove(connection: &Connection, tenant: &TenantId, function: &Name) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM records WHERE function IN
             (SELECT id FROM functions WHERE tenant = ?1 AND name = ?2)",
        )?
        .execute([tenant.as_str(), function.as_str()])?;
    connection
        .prepare_cached("DELETE FROM functions WHERE tenant = ?1 AND name = ?2")?
        .execute([tenant.as_str(), function.as_str()])
        .map(|_| ())
}
