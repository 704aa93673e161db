//! What a backup does to the catalog: it is recorded, and what was kept for it goes afterwards.

use quern_types::{Caller, Digest, StorageFailure};
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
};

type Reply<T> = oneshot::Sender<Result<T, StorageFailure>>;

/// Records who makes a backup.
#[derive(Debug)]
pub(crate) struct RecordBackup {
    caller: Caller,
    logs: bool,
    reply: Reply<()>,
}

/// Removes contents that no version refers to any more.
#[derive(Debug)]
pub(crate) struct RemoveUnneeded {
    caller: Caller,
    contents: Vec<Digest>,
    reply: Reply<Removed>,
}

impl RecordBackup {
    pub(crate) fn new(caller: Caller, logs: bool, reply: Reply<()>) -> Self {
        Self { caller, logs, reply }
    }
}

impl Operation for RecordBackup {
    fn subject(&self) -> Subject<'_> {
        Subject::Nothing
    }

    fn apply(&mut self, _: &Connection, _: u32) -> rusqlite::Result<Effects> {
        Ok(Effects::of(true))
    }

    fn entry(&self) -> Entry<'_> {
        let detail = json!({ "logs": self.logs });
        Entry { caller: &self.caller, action: "backup", subject: "data folder".into(), detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(group.map(drop));
    }
}

impl RemoveUnneeded {
    pub(crate) fn new(contents: Vec<Digest>, reply: Reply<Removed>) -> Self {
        Self { caller: Caller::unasked(), contents, reply }
    }
}

impl Operation for RemoveUnneeded {
    fn subject(&self) -> Subject<'_> {
        Subject::Nothing
    }

    fn apply(&mut self, _: &Connection, _: u32) -> rusqlite::Result<Effects> {
        Ok(Effects::loosening(std::mem::take(&mut self.contents)))
    }

    fn entry(&self) -> Entry<'_> {
        // It changes no table, and so is not asked.
        let subject = "data folder".into();
        Entry { caller: &self.caller, action: "backup.end", subject, detail: json!({}) }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match group {
            Ok(removed) => Ok(removed),
            failed => Err(failure(failed)),
        };
        let _ = self.reply.send(answer);
    }
}
