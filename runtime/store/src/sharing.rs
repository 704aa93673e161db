//! The table of what tenants let others call, and what changes it. That it ends with its name is a
//! trigger's work, so that no operation can forget it.

use quern_types::{Caller, Class, Name, Routes, Sharing, StorageFailure, TenantId};
use rusqlite::{Connection, params};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Removed,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows::{self, Key},
};

/// Stands for everybody among the grantees; no tenant has this name.
const EVERYBODY: &str = "*";

/// Why it was not changed who may call something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// No such function or model.
    #[error("{class} {name:?} is not deployed")]
    NotFound {
        /// Function or model.
        class: Class,
        /// The name asked for.
        name: Name,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Says who else may call something.
#[derive(Debug)]
pub(crate) struct Share {
    caller: Caller,
    key: Key,
    sharing: Sharing,
    outcome: Option<Result<(), SharingError>>,
    reply: oneshot::Sender<Result<(), SharingError>>,
}

impl Share {
    pub(crate) fn new(
        caller: Caller,
        key: Key,
        sharing: Sharing,
        reply: oneshot::Sender<Result<(), SharingError>>,
    ) -> Self {
        Self { caller, key, sharing, outcome: None, reply }
    }
}

impl Operation for Share {
    fn subject(&self) -> Subject<'_> {
        Subject::Routes(&self.key)
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let outcome = match rows::find(connection, &self.key)? {
            Some((id, _, Some(_))) => Ok(replace(connection, id, &self.sharing)?),
            _ => {
                let Key { class, name, .. } = &self.key;
                Err(SharingError::NotFound { class: *class, name: name.clone() })
            }
        };
        let changed = outcome.is_ok();
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let Sharing { public, tenants } = &self.sharing;
        let detail = json!({ "public": public, "tenants": tenants });
        Entry { caller: &self.caller, action: "share", subject: self.key.to_string(), detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let answer = match (group, self.outcome) {
            (Ok(_), Some(outcome)) => outcome,
            (group, _) => Err(SharingError::Storage { reason: failure(group) }),
        };
        let _ = self.reply.send(answer);
    }
}

fn replace(connection: &Connection, name_id: i64, sharing: &Sharing) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM sharing WHERE name_id = ?1")?.execute([name_id])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO sharing (name_id, grantee) VALUES (?1, ?2)")?;
    let everybody = sharing.public.then_some(EVERYBODY);
    let grantees = sharing.tenants.iter().map(TenantId::as_str).chain(everybody);
    for grantee in grantees {
        insert.execute(params![name_id, grantee])?;
    }
    Ok(())
}

/// Brings one name of a snapshot up to date with the table.
pub(crate) fn refresh(
    connection: &Connection,
    routes: &mut Routes,
    key: &Key,
) -> rusqlite::Result<()> {
    let mut sharing = Sharing::default();
    if let Some((id, ..)) = rows::find(connection, key)? {
        let mut statement =
            connection.prepare_cached("SELECT grantee FROM sharing WHERE name_id = ?1")?;
        let mut grantees = statement.query([id])?;
        while let Some(row) = grantees.next()? {
            add(&mut sharing, &row.get::<_, String>(0)?);
        }
    }
    routes.share(&key.tenant, key.class, &key.name, sharing);
    Ok(())
}

/// Adds everything that is shared to a snapshot that shares nothing yet.
pub(crate) fn load(connection: &Connection, routes: &mut Routes) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT tenant, class, name, grantee FROM sharing JOIN names ON names.id = sharing.name_id
         ORDER BY name_id",
    )?;
    let mut shares = statement.query([])?;
    let mut of: Option<(Key, Sharing)> = None;
    let mut put = |of: Option<(Key, Sharing)>| {
        if let Some((key, sharing)) = of {
            routes.share(&key.tenant, key.class, &key.name, sharing);
        }
    };
    while let Some(row) = shares.next()? {
        let key = rows::key(row)?;
        if of.as_ref().is_some_and(|(known, _)| *known != key) {
            put(of.take());
        }
        let (_, sharing) = of.get_or_insert_with(|| (key, Sharing::default()));
        add(sharing, &row.get::<_, String>(3)?);
    }
    put(of);
    Ok(())
}

fn add(sharing: &mut Sharing, grantee: &str) {
    match grantee {
        EVERYBODY => sharing.public = true,
        tenant => drop(sharing.tenants.insert(TenantId::new(tenant))),
    }
}
