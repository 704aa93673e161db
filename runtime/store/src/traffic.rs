//! What can be changed about the traffic of a name: its shares, aliases and canary. Never decides
//! whether a canary goes on.

mod tables;

use std::time::SystemTime;

use quern_types::{
    Caller, Canary, CanaryState, Class, Name, Selector, Shares, StorageFailure, Traffic,
    VersionNumber,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub(crate) use tables::{forget, keeps, routing};

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows::{self, Key},
};

/// Most aliases of one name.
pub(crate) const MOST_ALIASES: u32 = 32;

/// A change of the traffic of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum TrafficChange {
    /// Sets the shares, and what goes with them. A version that gets everything becomes live.
    Set(Traffic),
    /// Names a version, or names another one so.
    SetAlias {
        /// The name.
        alias: Name,
        /// The version.
        version: VersionNumber,
    },
    /// Takes the name away from its version.
    RemoveAlias {
        /// The name.
        alias: Name,
    },
    /// Gives a new version the share of its first step.
    StartCanary(Canary),
    /// Takes a canary to another state, if it still runs and is at the step that it was at when
    /// that was decided.
    MoveCanary {
        /// As it was.
        canary: Canary,
        /// What becomes of it.
        to: CanaryState,
    },
}

/// Why the traffic of a name was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// No such function or model.
    #[error("{class} {name:?} is not deployed")]
    NotFound {
        /// Function or model.
        class: Class,
        /// The name asked for.
        name: Name,
    },
    /// The version is not kept, or never was.
    #[error(
        "{field}: {class} {name:?} has no version {version}: list its versions to see what is kept"
    )]
    VersionNotFound {
        /// The field that asks for it.
        field: String,
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The version asked for.
        version: VersionNumber,
    },
    /// No such alias.
    #[error("{class} {name:?} has no alias {alias:?}")]
    AliasNotFound {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The alias.
        alias: Name,
    },
    /// The alias would be taken for something else.
    #[error(
        "alias {alias:?} can't be told from a version: begin it with a letter, and not {}",
        Selector::LIVE
    )]
    ReservedAlias {
        /// The alias.
        alias: Name,
    },
    /// As many aliases as there may be.
    #[error("{class} {name:?} has {limit} aliases, as many as there may be: remove one")]
    TooManyAliases {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The limit.
        limit: u32,
    },
    /// A canary decides over the shares.
    #[error(
        "a canary of version {version} of {class} {name:?} is running: abort or promote it first"
    )]
    CanaryRunning {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// Its new version.
        version: VersionNumber,
    },
    /// The canary ended, or went on, or there never was one.
    #[error("{class} {name:?} has no such canary running")]
    NoCanary {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
    },
    /// A canary needs one old version to compare with.
    #[error("the traffic of {class} {name:?} is split: give one version 100 % before a canary")]
    Split {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
    },
    /// A canary of the version that has everything.
    #[error("version: version {version} of {class} {name:?} is live: it has all requests already")]
    AlreadyLive {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The version.
        version: VersionNumber,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

type Outcome = Result<(), TrafficError>;

/// Changes the traffic of a name.
#[derive(Debug)]
pub(crate) struct ChangeTraffic {
    caller: Caller,
    key: Key,
    change: TrafficChange,
    outcome: Option<Outcome>,
    reply: oneshot::Sender<Outcome>,
}

impl ChangeTraffic {
    pub(crate) fn new(
        caller: Caller,
        key: Key,
        change: TrafficChange,
        reply: oneshot::Sender<Outcome>,
    ) -> Self {
        Self { caller, key, change, outcome: None, reply }
    }
}

impl Operation for ChangeTraffic {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.key)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let outcome = Change::begin(connection, &self.key)?;
        let outcome = match outcome {
            Ok(change) => change.apply(&self.change)?,
            Err(refusal) => Err(refusal),
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let (action, detail) = describe(&self.change);
        Entry { caller: &self.caller, action, subject: self.key.to_string(), detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(_), Some(outcome)) => outcome,
            (group, _) => Err(TrafficError::Storage { reason: failure(group) }),
        };
        // Nobody may be waiting any more; what is done is done.
        let _ = self.reply.send(answer);
    }
}

/// Gives a version everything, and ends what was set otherwise; to be called whenever a version is
/// made live. `why` is what a canary is told that it ended by.
pub(crate) fn end_split(
    connection: &Connection,
    key: &Key,
    live: VersionNumber,
    why: &str,
) -> rusqlite::Result<()> {
    let Some((id, ..)) = rows::find(connection, key)? else { return Ok(()) };
    tables::set_shares(connection, id, None)?;
    tables::remove_shadow(connection, id, live)?;
    if let Some(mut canary) = tables::canary(connection, id)?
        && canary.step().is_some()
    {
        canary.state = CanaryState::Aborted { at_us: now_us(), reason: why.into() };
        tables::set_canary(connection, id, &canary)?;
    }
    Ok(())
}

/// The version that answers once there is no split any more; none where there is none.
pub(crate) fn behind_split(
    connection: &Connection,
    key: &Key,
) -> rusqlite::Result<Option<VersionNumber>> {
    let Some((id, _, live)) = rows::find(connection, key)? else { return Ok(None) };
    let is_split = tables::shares(connection, id)?.is_some();
    Ok(live.filter(|_| is_split))
}

/// A name whose traffic is about to be changed.
struct Change<'a> {
    connection: &'a Connection,
    key: &'a Key,
    id: i64,
    live: VersionNumber,
    canary: Option<Canary>,
}

impl<'a> Change<'a> {
    fn begin(
        connection: &'a Connection,
        key: &'a Key,
    ) -> rusqlite::Result<Result<Self, TrafficError>> {
        let Some((id, _, Some(live))) = rows::find(connection, key)? else {
            let (class, name) = (key.class, key.name.clone());
            return Ok(Err(TrafficError::NotFound { class, name }));
        };
        let canary = tables::canary(connection, id)?.filter(|canary| canary.step().is_some());
        Ok(Ok(Self { connection, key, id, live, canary }))
    }

    fn apply(self, change: &TrafficChange) -> rusqlite::Result<Outcome> {
        match change {
            TrafficChange::Set(traffic) => self.set(traffic),
            TrafficChange::SetAlias { alias, version } => self.set_alias(alias, *version),
            TrafficChange::RemoveAlias { alias } => self.remove_alias(alias),
            TrafficChange::StartCanary(canary) => self.start_canary(canary),
            TrafficChange::MoveCanary { canary, to } => self.move_canary(canary, to),
        }
    }

    fn set(self, traffic: &Traffic) -> rusqlite::Result<Outcome> {
        let Self { connection, id, .. } = self;
        if let Some(Canary { version, .. }) = self.canary {
            let (class, name) = self.named();
            return Ok(Err(TrafficError::CanaryRunning { class, name, version }));
        }
        let shares = traffic.shares.iter().flat_map(Shares::iter);
        let shadow = traffic.shadow.iter().map(|shadow| ("shadow.version", shadow.version));
        let named = shares.map(|share| ("versions", share.version)).chain(shadow);
        for (field, version) in named {
            if let Err(refusal) = self.known(field, version)? {
                return Ok(Err(refusal));
            }
        }
        let only = traffic.shares.as_ref().and_then(Shares::only);
        if let Some(version) = only {
            rows::set_live(connection, id, version)?;
        }
        tables::set_shares(connection, id, traffic.shares.as_ref().filter(|_| only.is_none()))?;
        tables::set_rest(connection, id, traffic)?;
        Ok(Ok(()))
    }

    fn set_alias(self, alias: &Name, version: VersionNumber) -> rusqlite::Result<Outcome> {
        if !matches!(alias.as_str().parse(), Ok(Selector::Alias(_))) {
            return Ok(Err(TrafficError::ReservedAlias { alias: alias.clone() }));
        }
        if let Err(refusal) = self.known("version", version)? {
            return Ok(Err(refusal));
        }
        let aliases = tables::aliases(self.connection, self.id)?;
        if aliases.len() >= MOST_ALIASES as usize && !aliases.contains_key(alias) {
            let ((class, name), limit) = (self.named(), MOST_ALIASES);
            return Ok(Err(TrafficError::TooManyAliases { class, name, limit }));
        }
        tables::set_alias(self.connection, self.id, alias, version)?;
        Ok(Ok(()))
    }

    fn remove_alias(self, alias: &Name) -> rusqlite::Result<Outcome> {
        let (class, name) = self.named();
        Ok(match tables::remove_alias(self.connection, self.id, alias)? {
            true => Ok(()),
            false => Err(TrafficError::AliasNotFound { class, name, alias: alias.clone() }),
        })
    }

    fn start_canary(self, canary: &Canary) -> rusqlite::Result<Outcome> {
        let ((class, name), version) = (self.named(), canary.version);
        if let Some(Canary { version, .. }) = self.canary {
            return Ok(Err(TrafficError::CanaryRunning { class, name, version }));
        }
        if let Err(refusal) = self.known("version", version)? {
            return Ok(Err(refusal));
        }
        if version == self.live {
            return Ok(Err(TrafficError::AlreadyLive { class, name, version }));
        }
        if tables::shares(self.connection, self.id)?.is_some() {
            return Ok(Err(TrafficError::Split { class, name }));
        }
        // What was live when it was asked for may have been replaced since.
        let canary = Canary { from: self.live, ..canary.clone() };
        self.enter(canary)
    }

    fn move_canary(self, was: &Canary, to: &CanaryState) -> rusqlite::Result<Outcome> {
        match &self.canary {
            Some(now) if now.is(was) && now.state == was.state => {}
            _ => {
                let (class, name) = self.named();
                return Ok(Err(TrafficError::NoCanary { class, name }));
            }
        }
        let canary = Canary { state: to.clone(), ..was.clone() };
        self.enter(canary)
    }

    /// Brings a canary to its state, and the shares to what that asks for.
    fn enter(self, canary: Canary) -> rusqlite::Result<Outcome> {
        let Self { connection, id, .. } = self;
        let Canary { from, version, .. } = canary;
        match (&canary.state, canary.step()) {
            (_, Some((_, step))) if step.percent < 100 => {
                let shares = Shares::between(from, version, step.percent);
                let shares = shares.expect("two versions, and a percentage below 100");
                tables::set_shares(connection, id, Some(&shares))?;
            }
            (CanaryState::Promoted { .. }, _) => {
                rows::set_live(connection, id, version)?;
                tables::set_shares(connection, id, None)?;
                tables::remove_shadow(connection, id, version)?;
            }
            _ => tables::set_shares(connection, id, None)?,
        }
        tables::set_canary(connection, id, &canary)?;
        Ok(Ok(()))
    }

    fn known(&self, field: &str, version: VersionNumber) -> rusqlite::Result<Outcome> {
        let (class, name) = self.named();
        let field = field.to_owned();
        Ok(match tables::is_kept(self.connection, self.id, version)? {
            true => Ok(()),
            false => Err(TrafficError::VersionNotFound { field, class, name, version }),
        })
    }

    fn named(&self) -> (Class, Name) {
        (self.key.class, self.key.name.clone())
    }
}

/// What the audit log says of a change.
fn describe(change: &TrafficChange) -> (&'static str, Value) {
    match change {
        TrafficChange::Set(Traffic { shares, sticky, shadow }) => {
            ("traffic.set", json!({"versions": shares, "sticky": sticky, "shadow": shadow}))
        }
        TrafficChange::SetAlias { alias, version } => {
            ("alias.set", json!({"alias": alias, "version": version}))
        }
        TrafficChange::RemoveAlias { alias } => ("alias.remove", json!({"alias": alias})),
        TrafficChange::StartCanary(Canary { version, steps, limits, .. }) => {
            ("canary.start", json!({"version": version, "steps": steps, "limits": limits}))
        }
        TrafficChange::MoveCanary { canary: Canary { version, steps, .. }, to } => match to {
            CanaryState::Running { step, .. } => {
                let percent = steps.at(*step).map(|step| step.percent);
                ("canary.step", json!({"version": version, "percent": percent}))
            }
            CanaryState::Promoted { reason, .. } => {
                ("canary.promote", json!({"version": version, "reason": reason}))
            }
            CanaryState::RolledBack { reason, .. } => {
                ("canary.rollback", json!({"version": version, "reason": reason}))
            }
            CanaryState::Aborted { reason, .. } => {
                ("canary.abort", json!({"version": version, "reason": reason}))
            }
        },
    }
}

fn now_us() -> u64 {
    u64::try_from(rows::microseconds(SystemTime::now())).unwrap_or_default()
}
