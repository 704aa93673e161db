//! What can be done to the catalog, each with the way back to whoever asked. Never opens or ends
//! a transaction.

use std::fmt;

use quern_types::{Access, Caller, Digest, StorageFailure, VersionNumber};
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    CommitError, Committed, DeleteError, Removed, RollbackError,
    audit::Entry,
    ledger::Hold,
    rows::{self, Added, Key, NewRow},
    settings, traffic,
};

/// One operation. It is applied, and answered once its group has been committed or has failed.
pub(crate) trait Operation: Send + fmt::Debug {
    /// The part of the tables that it changes.
    fn subject(&self) -> Subject<'_>;

    /// Changes the tables; an error fails the whole group. A refusal is no error: it is an
    /// answer, and changes nothing.
    fn apply(&mut self, connection: &Connection, keep_versions: u32) -> rusqlite::Result<Effects>;

    /// Shows what it has changed of who is let in.
    fn show(&self, _access: &mut Access) {}

    /// What the audit log says of it; asked once it has changed something.
    fn entry(&self) -> Entry<'_>;

    /// Answers with the outcome, or with the reason why the group failed.
    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>);
}

/// A part of the tables that is shown to requests.
pub(crate) enum Subject<'a> {
    /// What is deployed under a name.
    Routes(&'a Key),
    /// Who is let in.
    Access,
    /// What is set for a function.
    Settings(&'a Key),
    /// What is called at which times.
    Schedules,
    /// Where messages are sent.
    Webhooks,
    /// Nothing of it.
    Nothing,
}

/// What an applied operation asks for after the commit.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Whether it changed the tables.
    pub(crate) changed: bool,
    loosened: Vec<Digest>,
    hold: Option<Hold>,
}

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

impl Effects {
    /// Those of an operation that concerns no content.
    pub(crate) fn of(changed: bool) -> Self {
        Self { changed, loosened: Vec::new(), hold: None }
    }

    /// Those of an operation that took the last row of these contents, or one of several.
    pub(crate) fn of_removal(loosened: Vec<Digest>) -> Self {
        Self { changed: true, loosened, hold: None }
    }

    /// Those of an operation that only asks for these contents to be removed, if nothing has them.
    pub(crate) fn loosening(contents: Vec<Digest>) -> Self {
        Self { changed: false, loosened: contents, hold: None }
    }

    /// Lets go of what was held until the commit was decided; gives the contents that may have
    /// lost their last row.
    pub(crate) fn settle(self) -> Vec<Digest> {
        drop(self.hold);
        self.loosened
    }
}

/// Adds a version, or finds the kept one of the same digest, and makes it live unless it is to wait.
#[derive(Debug)]
pub(crate) struct CommitVersion {
    row: NewRow,
    hold: Option<Hold>,
    outcome: Option<Result<Added, CommitError>>,
    reply: Reply<Committed, CommitError>,
}

/// Makes a kept version live, and gives it all requests.
#[derive(Debug)]
pub(crate) struct RollBack {
    caller: Caller,
    key: Key,
    to: Option<VersionNumber>,
    outcome: Option<Result<VersionNumber, RollbackError>>,
    reply: Reply<VersionNumber, RollbackError>,
}

/// Removes a name with all its versions.
#[derive(Debug)]
pub(crate) struct DeleteName {
    caller: Caller,
    key: Key,
    outcome: Option<Result<(), DeleteError>>,
    reply: Reply<Removed, DeleteError>,
}

impl CommitVersion {
    pub(crate) fn new(
        row: NewRow,
        hold: Option<Hold>,
        reply: Reply<Committed, CommitError>,
    ) -> Self {
        Self { row, hold, outcome: None, reply }
    }
}

impl Operation for CommitVersion {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.row.key)
    }

    fn apply(&mut self, connection: &Connection, keep_versions: u32) -> rusqlite::Result<Effects> {
        // A refused or repeated upload leaves a blob that may be nobody's.
        let mut loosened = vec![self.row.content];
        let held = self.hold.is_some();
        let outcome = match rows::commit(connection, &self.row, held)? {
            Ok(added) => {
                if added.live && self.row.live {
                    let why = format!("version {} was deployed", added.version);
                    traffic::end_split(connection, &self.row.key, added.version, &why)?;
                }
                loosened.extend(rows::retain(connection, &self.row.key, keep_versions)?);
                Ok(added)
            }
            Err(refusal) => Err(refusal),
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects { changed, loosened, hold: self.hold.take() })
    }

    fn entry(&self) -> Entry<'_> {
        let NewRow { caller, key, digest, .. } = &self.row;
        let added = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
        let version = added.map(|added| added.version);
        let mut detail = json!({ "version": version, "digest": digest.to_string() });
        if added.is_some_and(|added| !added.live) {
            detail["live"] = false.into();
        }
        Entry { caller, action: "deploy", subject: key.to_string(), detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(removed), Some(outcome)) => outcome.map(|Added { version, created, live }| {
                Committed { version, created, live, removed }
            }),
            (group, _) => Err(CommitError::Storage { reason: failure(group) }),
        };
        // Nobody may be waiting any more; what is done is done.
        let _ = self.reply.send(answer);
    }
}

impl RollBack {
    pub(crate) fn new(
        caller: Caller,
        key: Key,
        to: Option<VersionNumber>,
        reply: Reply<VersionNumber, RollbackError>,
    ) -> Self {
        Self { caller, key, to, outcome: None, reply }
    }
}

impl Operation for RollBack {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.key)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        // A split goes back to what is behind it, and not further.
        let behind = traffic::behind_split(connection, &self.key)?;
        let outcome = rows::roll_back(connection, &self.key, self.to.or(behind))?;
        if let Ok(version) = outcome {
            let why = format!("rolled back to version {version}");
            traffic::end_split(connection, &self.key, version, &why)?;
        }
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let version = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
        let detail = json!({ "version": version });
        let subject = self.key.to_string();
        Entry { caller: &self.caller, action: "rollback", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(_), Some(outcome)) => outcome,
            (group, _) => Err(RollbackError::Storage { reason: failure(group) }),
        };
        let _ = self.reply.send(answer);
    }
}

impl DeleteName {
    pub(crate) fn new(caller: Caller, key: Key, reply: Reply<Removed, DeleteError>) -> Self {
        Self { caller, key, outcome: None, reply }
    }
}

impl Operation for DeleteName {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.key)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let (outcome, effects) = match rows::delete(connection, &self.key)? {
            Ok(loosened) => {
                settings::delete(connection, &self.key)?;
                (Ok(()), Effects::of_removal(loosened))
            }
            Err(refusal) => (Err(refusal), Effects::of(false)),
        };
        self.outcome = Some(outcome);
        Ok(effects)
    }

    fn entry(&self) -> Entry<'_> {
        let subject = self.key.to_string();
        Entry { caller: &self.caller, action: "delete", subject, detail: json!({}) }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(removed), Some(outcome)) => outcome.map(|()| removed),
            (group, _) => Err(DeleteError::Storage { reason: failure(group) }),
        };
        let _ = self.reply.send(answer);
    }
}

/// Why a group, and so each of its operations, failed.
pub(crate) fn failure(group: Result<Removed, StorageFailure>) -> StorageFailure {
    group.err().unwrap_or_else(|| "the operation was never applied".into())
}
