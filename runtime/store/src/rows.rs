//! The tables of the catalog and the statements that change them. Never ends a transaction, and
//! checks everything that can be refused before it changes anything.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quern_types::{Caller, Class, Digest, Name, TenantId, VersionNumber};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};

use crate::{CommitError, DeleteError, NewVersion, RollbackError, snapshot::Deployable, traffic};

/// Names a function or a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    pub(crate) class: Class,
    pub(crate) name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.class, self.name)
    }
}

/// A version on its way into the tables.
#[derive(Debug)]
pub(crate) struct NewRow {
    pub(crate) caller: Caller,
    pub(crate) key: Key,
    pub(crate) kind: &'static str,
    pub(crate) digest: Digest,
    pub(crate) content: Digest,
    pub(crate) spec: String,
    pub(crate) created_us: i64,
    /// Whether it is to be made live.
    pub(crate) live: bool,
}

/// A version in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) version: VersionNumber,
    /// Whether it is new.
    pub(crate) created: bool,
    /// Whether it is live.
    pub(crate) live: bool,
}

impl NewRow {
    pub(crate) fn new<Spec: Deployable>(new: NewVersion<Spec>) -> serde_json::Result<Self> {
        let NewVersion { caller, name, digest, content, spec, created, live } = new;
        Ok(Self {
            key: Key { tenant: caller.tenant.clone(), class: Spec::CLASS, name },
            caller,
            kind: spec.kind(),
            digest,
            content,
            spec: serde_json::to_string(&spec)?,
            created_us: microseconds(created),
            live,
        })
    }
}

/// The time that a column of microseconds stands for.
pub(crate) fn time(microseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(microseconds.try_into().unwrap_or(0))
}

/// What stands in a column for a time.
pub(crate) fn microseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Text of a column that has a type of its own.
pub(crate) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// A version number of a column.
pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<VersionNumber> {
    let number: u32 = row.get(column)?;
    VersionNumber::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, 0))
}

/// A version number that may be absent.
fn live_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<VersionNumber>> {
    Ok(row.get::<_, Option<u32>>(column)?.and_then(VersionNumber::new))
}

/// A name of the columns for tenant, class and name, which come first.
pub(crate) fn key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let tenant = TenantId::new(&row.get::<_, String>(0)?);
    let class = match row.get::<_, String>(1)?.as_str() {
        "function" => Class::Function,
        _ => Class::Model,
    };
    Ok(Key { tenant, class, name: parsed(row, 2)? })
}

/// Adds a version, or finds the kept one of the same digest, and makes it live unless it is to wait.
/// The first version of a name can't.
pub(crate) fn commit(
    connection: &Connection,
    row: &NewRow,
    held: bool,
) -> rusqlite::Result<Result<Added, CommitError>> {
    let name = &row.key.name;
    if row.kind != "http"
        && let Some(by) = namesake(connection, &row.key)?
    {
        return Ok(Err(CommitError::NameTaken { name: name.clone(), by }));
    }
    let found = find(connection, &row.key)?;
    if let Some((id, _, live)) = found
        && let Some(kept) = kept_number(connection, id, &row.digest)?
    {
        if row.live {
            set_live(connection, id, kept)?;
        }
        let live = row.live || live == Some(kept);
        return Ok(Ok(Added { version: kept, created: false, live }));
    }
    // What a concurrent removal may be about to take must be uploaded again.
    if !held && !referenced(connection, &row.content)? {
        let content = row.content;
        return Ok(Err(CommitError::ContentMissing { name: name.clone(), content }));
    }
    let (id, last, live) = match found {
        Some((id, last, live)) => (id, last, row.live || live.is_none()),
        None => (insert_name(connection, &row.key)?, 0, true),
    };
    let next = last.checked_add(1).and_then(VersionNumber::new);
    let Some(next) = next else {
        let reason = format!("{} {name:?} has used up its version numbers", row.key.class);
        return Ok(Err(CommitError::Storage { reason: reason.into() }));
    };
    connection
        .prepare_cached(
            "INSERT INTO versions (name_id, number, kind, digest, content, spec, created_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id,
            next.get(),
            row.kind,
            row.digest.to_string(),
            row.content.to_string(),
            row.spec,
            row.created_us
        ])?;
    connection
        .prepare_cached("UPDATE names SET last_number = ?2 WHERE id = ?1")?
        .execute(params![id, next.get()])?;
    if live {
        set_live(connection, id, next)?;
    }
    Ok(Ok(Added { version: next, created: true, live }))
}

/// Deletes what is neither live, nor named by the traffic, nor among the newest; gives the contents
/// that lost a row.
pub(crate) fn retain(
    connection: &Connection,
    key: &Key,
    keep_versions: u32,
) -> rusqlite::Result<Vec<Digest>> {
    let Some((id, ..)) = find(connection, key)? else {
        return Ok(Vec::new());
    };
    connection
        .prepare_cached(&format!(
            "DELETE FROM versions WHERE name_id = ?1
                 AND number <> (SELECT live FROM names WHERE id = ?1)
                 AND number NOT IN (SELECT number FROM versions WHERE name_id = ?1
                                    ORDER BY number DESC LIMIT ?2)
                 AND NOT {}
             RETURNING content",
            traffic::keeps()
        ))?
        .query_map(params![id, keep_versions], |row| parsed(row, 0))?
        .collect()
}

/// Makes a kept version live.
pub(crate) fn roll_back(
    connection: &Connection,
    key: &Key,
    to: Option<VersionNumber>,
) -> rusqlite::Result<Result<VersionNumber, RollbackError>> {
    let (class, name) = (key.class, key.name.clone());
    let Some((id, _, Some(live))) = find(connection, key)? else {
        return Ok(Err(RollbackError::NotFound { class, name }));
    };
    let mut statement = match to {
        Some(_) => connection
            .prepare_cached("SELECT number FROM versions WHERE name_id = ?1 AND number = ?2")?,
        None => connection.prepare_cached(
            "SELECT number FROM versions WHERE name_id = ?1 AND number < ?2
             ORDER BY number DESC LIMIT 1",
        )?,
    };
    let bound = to.unwrap_or(live);
    let found = statement.query_row(params![id, bound.get()], |row| number(row, 0)).optional()?;
    Ok(match (found, to) {
        (Some(version), _) => {
            set_live(connection, id, version)?;
            Ok(version)
        }
        (None, Some(version)) => Err(RollbackError::VersionNotFound { class, name, version }),
        (None, None) => Err(RollbackError::NoPreviousVersion { class, name, live }),
    })
}

/// Deletes a name's versions; gives their contents.
pub(crate) fn delete(
    connection: &Connection,
    key: &Key,
) -> rusqlite::Result<Result<Vec<Digest>, DeleteError>> {
    let Some((id, _, Some(_))) = find(connection, key)? else {
        return Ok(Err(DeleteError::NotFound { class: key.class, name: key.name.clone() }));
    };
    connection.prepare_cached("UPDATE names SET live = NULL WHERE id = ?1")?.execute([id])?;
    traffic::forget(connection, id)?;
    let contents = connection
        .prepare_cached("DELETE FROM versions WHERE name_id = ?1 RETURNING content")?
        .query_map([id], |row| parsed(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Ok(contents))
}

/// Whether any version, whoever's, has this content.
pub(crate) fn referenced(connection: &Connection, content: &Digest) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM versions WHERE content = ?1)")?
        .query_row([content.to_string()], |row| row.get(0))
}

/// Id, last number and live version of a name.
pub(crate) fn find(
    connection: &Connection,
    key: &Key,
) -> rusqlite::Result<Option<(i64, u32, Option<VersionNumber>)>> {
    connection
        .prepare_cached(
            "SELECT id, last_number, live FROM names
             WHERE tenant = ?1 AND name = ?2 AND class = ?3",
        )?
        .query_row(params![key.tenant.as_str(), key.name.as_str(), key.class.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, live_number(row, 2)?))
        })
        .optional()
}

/// The other class, if a kept version of it is called under the same name in `/v2`.
fn namesake(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Class>> {
    let other = match key.class {
        Class::Function => Class::Model,
        Class::Model => Class::Function,
    };
    let taken: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM names JOIN versions ON versions.name_id = names.id
             WHERE tenant = ?1 AND name = ?2 AND class = ?3 AND kind <> 'http')",
        )?
        .query_row(params![key.tenant.as_str(), key.name.as_str(), other.as_str()], |row| {
            row.get(0)
        })?;
    Ok(taken.then_some(other))
}

fn kept_number(
    connection: &Connection,
    id: i64,
    digest: &Digest,
) -> rusqlite::Result<Option<VersionNumber>> {
    connection
        .prepare_cached("SELECT number FROM versions WHERE name_id = ?1 AND digest = ?2")?
        .query_row(params![id, digest.to_string()], |row| number(row, 0))
        .optional()
}

fn insert_name(connection: &Connection, key: &Key) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO names (tenant, name, class, last_number) VALUES (?1, ?2, ?3, 0)
             RETURNING id",
        )?
        .query_row(params![key.tenant.as_str(), key.name.as_str(), key.class.as_str()], |row| {
            row.get(0)
        })
}

pub(crate) fn set_live(
    connection: &Connection,
    id: i64,
    version: VersionNumber,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE names SET live = ?2 WHERE id = ?1")?
        .execute(params![id, version.get()])
        .map(|_| ())
}
