//! Writes what functions printed, in batches, and forgets the oldest. Never syncs: a log is not
//! worth a disk's time, and a crash of the process alone loses nothing that was written.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle, time::UNIX_EPOCH};

use prometheus::IntCounter;
use quern_types::{Name, TenantId};
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{LogRecord, folder::FolderLock, group};

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
];

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Message {
    /// Write a record.
    Append(LogRecord),
    /// Remove all records of a function.
    Remove { tenant: TenantId, function: Name, reply: oneshot::Sender<Result<(), String>> },
}

/// The one owner of the log database.
pub(crate) struct LogWriter {
    connection: Connection,
    log_records: u64,
    changes: watch::Sender<u64>,
    dropped: IntCounter,
    /// Id and number of records of each function that has printed since the start.
    functions: HashMap<(TenantId, Name), (i64, u64)>,
    _lock: Arc<FolderLock>,
}

impl LogWriter {
    pub(crate) fn new(
        connection: Connection,
        log_records: u32,
        changes: watch::Sender<u64>,
        dropped: IntCounter,
        lock: Arc<FolderLock>,
    ) -> Self {
        let functions = HashMap::new();
        let log_records = log_records.into();
        Self { connection, log_records, changes, dropped, functions, _lock: lock }
    }

    /// Starts the writer's thread; it ends when all senders are gone and the queue is empty.
    pub(crate) fn start(mut self, queue: mpsc::Receiver<Message>) -> io::Result<JoinHandle<()>> {
        group::start("quern-logs", BATCH, queue, move |batch| self.write(batch))
    }

    fn write(&mut self, batch: Vec<Message>) {
        let written = self.transact(&batch);
        if let Err(error) = &written {
            // What the failed transaction counted is wrong.
            self.functions.clear();
            let records =
                batch.iter().filter(|message| matches!(message, Message::Append(_))).count();
            self.dropped.inc_by(records as u64);
            tracing::error!(%error, records, "log records of functions can't be written");
        }
        for message in batch {
            if let Message::Remove { reply, .. } = message {
                // Nobody may be waiting any more.
                let _ = reply.send(match &written {
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                });
            }
        }
        if let Ok(Some(sequence)) = written {
            self.changes.send_replace(sequence);
        }
    }

    /// Writes a batch; gives the last sequence number, if there is a new one.
    fn transact(&mut self, batch: &[Message]) -> rusqlite::Result<Option<u64>> {
        let transaction = self.connection.transaction()?;
        let mut last = None;
        for message in batch {
            match message {
                Message::Append(record) => {
                    last = Some(append(&transaction, &mut self.functions, record)?);
                }
                Message::Remove { tenant, function, .. } => {
                    self.functions.remove(&(tenant.clone(), function.clone()));
                    remove(&transaction, tenant, function)?;
                }
            }
        }
        for (id, count) in self.functions.values_mut() {
            if *count > self.log_records {
                forget(&transaction, *id, *count - self.log_records)?;
                *count = self.log_records;
            }
        }
        transaction.commit()?;
        Ok(last)
    }
}

fn append(
    connection: &Connection,
    functions: &mut HashMap<(TenantId, Name), (i64, u64)>,
    record: &LogRecord,
) -> rusqlite::Result<u64> {
    let key = (record.tenant.clone(), record.function.clone());
    let (id, count) = match functions.entry(key) {
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
                 (function, version, invocation, time_us, stream, level, context, text)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            *id,
            record.version.get(),
            record.invocation.to_string(),
            i64::try_from(time.as_micros()).unwrap_or(i64::MAX),
            record.stream.as_str(),
            logged.map(|(level, _)| level.as_str()),
            logged.map(|(_, context)| context),
            record.text
        ])?;
    *count += 1;
    Ok(connection.last_insert_rowid().try_into().unwrap_or(0))
}

/// A function's id and number of records; it is added where it is missing.
fn identify(
    connection: &Connection,
    tenant: &TenantId,
    function: &Name,
) -> rusqlite::Result<(i64, u64)> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO functions (tenant, name) VALUES (?1, ?2)")?
        .execute([tenant.as_str(), function.as_str()])?;
    let id: i64 = connection
        .prepare_cached("SELECT id FROM functions WHERE tenant = ?1 AND name = ?2")?
        .query_row([tenant.as_str(), function.as_str()], |row| row.get(0))?;
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM records WHERE function = ?1")?
        .query_row([id], |row| row.get(0))?;
    Ok((id, count.try_into().unwrap_or(0)))
}

/// Deletes the oldest records of a function.
fn forget(connection: &Connection, id: i64, records: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM records WHERE sequence IN
             (SELECT sequence FROM records WHERE function = ?1 ORDER BY sequence LIMIT ?2)",
        )?
        .execute(params![id, i64::try_from(records).unwrap_or(i64::MAX)])
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
