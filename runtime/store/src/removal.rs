//! Removes one version of a function or model, unless something stands by it. That all of them go
//! with their name, and which go by themselves as others come, is decided elsewhere.

use std::fmt;

use quern_types::{Caller, Class, Digest, Name, Shares, StorageFailure, VersionNumber};
use rusqlite::{Connection, params};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows::{self, Key},
    traffic,
};

/// What a version is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionUse {
    /// It answers what asks for no other.
    Live,
    /// A canary that runs compares it with another one.
    Canary,
    /// It has a share of the requests, in percent.
    Share(u8),
    /// It gets copies of requests.
    Shadow,
    /// It has a name of its own.
    Alias(Name),
}

/// Why a version was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteVersionError {
    /// No such function or model.
    #[error("{class} {name:?} is not deployed")]
    NotFound {
        /// Function or model.
        class: Class,
        /// The name asked for.
        name: Name,
    },
    /// The version is not kept, or never was.
    #[error("{class} {name:?} has no version {version}: list its versions to see what is kept")]
    VersionNotFound {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The version asked for.
        version: VersionNumber,
    },
    /// Requests go there, or may.
    #[error("version {version} of {class} {name:?} {by}")]
    InUse {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The version.
        version: VersionNumber,
        /// What it is needed for.
        by: VersionUse,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

impl fmt::Display for VersionUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("is live: give another one all requests first"),
            Self::Canary => {
                f.write_str("takes part in a canary that runs: abort or promote it first")
            }
            Self::Share(percent) => {
                write!(f, "has {percent} % of the requests: give others all of them first")
            }
            Self::Shadow => f.write_str("is the shadow: take that away first"),
            Self::Alias(alias) => {
                write!(f, "has the alias {alias:?}: remove it, or give it to another one first")
            }
        }
    }
}

/// Removes one version.
#[derive(Debug)]
pub(crate) struct DeleteVersion {
    caller: Caller,
    key: Key,
    version: VersionNumber,
    outcome: Option<Result<(), DeleteVersionError>>,
    reply: oneshot::Sender<Result<Removed, DeleteVersionError>>,
}

impl DeleteVersion {
    pub(crate) fn new(
        caller: Caller,
        key: Key,
        version: VersionNumber,
        reply: oneshot::Sender<Result<Removed, DeleteVersionError>>,
    ) -> Self {
        Self { caller, key, version, outcome: None, reply }
    }

    /// The content that lost a row.
    fn delete(
        &self,
        connection: &Connection,
    ) -> rusqlite::Result<Result<Digest, DeleteVersionError>> {
        let ((class, name), version) = ((self.key.class, self.key.name.clone()), self.version);
        let Some((id, _, Some(live))) = rows::find(connection, &self.key)? else {
            return Ok(Err(DeleteVersionError::NotFound { class, name }));
        };
        if let Some(by) = needed(connection, id, live, version)? {
            return Ok(Err(DeleteVersionError::InUse { class, name, version, by }));
        }
        let content = connection
            .prepare_cached(
                "DELETE FROM versions WHERE name_id = ?1 AND number = ?2 RETURNING content",
            )?
            .query_map(params![id, version.get()], |row| rows::parsed(row, 0))?
            .next()
            .transpose()?;
        Ok(content.ok_or(DeleteVersionError::VersionNotFound { class, name, version }))
    }
}

/// What a version is needed for, if for anything.
fn needed(
    connection: &Connection,
    id: i64,
    live: VersionNumber,
    version: VersionNumber,
) -> rusqlite::Result<Option<VersionUse>> {
    if version == live {
        return Ok(Some(VersionUse::Live));
    }
    let routing = traffic::routing(connection, id)?;
    let running = routing.canary.filter(|canary| canary.step().is_some());
    if running.is_some_and(|canary| canary.version == version || canary.from == version) {
        return Ok(Some(VersionUse::Canary));
    }
    let mut shares = routing.traffic.shares.iter().flat_map(Shares::iter);
    if let Some(share) = shares.find(|share| share.version == version) {
        return Ok(Some(VersionUse::Share(share.percent)));
    }
    if routing.traffic.shadow.is_some_and(|shadow| shadow.version == version) {
        return Ok(Some(VersionUse::Shadow));
    }
    let mut aliases = routing.aliases.into_iter();
    let alias = aliases.find(|(_, named)| *named == version);
    Ok(alias.map(|(alias, _)| VersionUse::Alias(alias)))
}

impl Operation for DeleteVersion {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.key)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let (outcome, effects) = match self.delete(connection)? {
            Ok(content) => (Ok(()), Effects::of_removal(vec![content])),
            Err(refusal) => (Err(refusal), Effects::of(false)),
        };
        self.outcome = Some(outcome);
        Ok(effects)
    }

    fn entry(&self) -> Entry<'_> {
        let detail = json!({ "version": self.version });
        let subject = self.key.to_string();
        Entry { caller: &self.caller, action: "version.delete", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(removed), Some(outcome)) => outcome.map(|()| removed),
            (group, _) => Err(DeleteVersionError::Storage { reason: failure(group) }),
        };
        // Nobody may be waiting any more; what is done is done.
        let _ = self.reply.send(answer);
    }
}
