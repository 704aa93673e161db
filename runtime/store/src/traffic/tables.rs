//! The tables of shares, aliases and canaries, and the statements that read and change them. Checks
//! nothing but that the tables hold what this server writes.

use std::{collections::BTreeMap, sync::Arc};

use quern_types::{Canary, Name, Routing, Shadow, Share, Shares, Sticky, Traffic, VersionNumber};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use serde::de::DeserializeOwned;

use crate::rows;

/// The condition on a row of `versions` that something here names its version.
pub(crate) fn keeps() -> &'static str {
    "(number IN (SELECT version FROM shares WHERE name_id = ?1)
      OR number IN (SELECT version FROM aliases WHERE name_id = ?1)
      OR number IN (SELECT shadow FROM traffic WHERE name_id = ?1 AND shadow IS NOT NULL))"
}

/// All that there is of a name.
pub(crate) fn routing(connection: &Connection, id: i64) -> rusqlite::Result<Routing> {
    let (sticky, shadow) = rest(connection, id)?;
    Ok(Routing {
        traffic: Traffic { shares: shares(connection, id)?, sticky, shadow },
        aliases: aliases(connection, id)?,
        canary: canary(connection, id)?.map(Arc::new),
    })
}

/// Removes all that there is of a name.
pub(crate) fn forget(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    for table in [
        "DELETE FROM traffic WHERE name_id = ?1",
        "DELETE FROM shares WHERE name_id = ?1",
        "DELETE FROM aliases WHERE name_id = ?1",
        "DELETE FROM canaries WHERE name_id = ?1",
    ] {
        connection.prepare_cached(table)?.execute([id])?;
    }
    Ok(())
}

pub(super) fn is_kept(
    connection: &Connection,
    id: i64,
    version: VersionNumber,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM versions WHERE name_id = ?1 AND number = ?2)",
        )?
        .query_row(params![id, version.get()], |row| row.get(0))
}

/// The shares, where more than one version has some.
pub(super) fn shares(connection: &Connection, id: i64) -> rusqlite::Result<Option<Shares>> {
    let shares = connection
        .prepare_cached("SELECT version, percent FROM shares WHERE name_id = ?1")?
        .query_map([id], |row| Ok(Share { version: rows::number(row, 0)?, percent: row.get(1)? }))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    match shares.is_empty() {
        true => Ok(None),
        false => Shares::new(shares).map(Some).map_err(|error| wrong(1, error)),
    }
}

pub(super) fn set_shares(
    connection: &Connection,
    id: i64,
    shares: Option<&Shares>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM shares WHERE name_id = ?1")?.execute([id])?;
    for Share { version, percent } in shares.into_iter().flat_map(Shares::iter) {
        connection
            .prepare_cached("INSERT INTO shares (name_id, version, percent) VALUES (?1, ?2, ?3)")?
            .execute(params![id, version.get(), percent])?;
    }
    Ok(())
}

/// Sets what goes with the shares.
pub(super) fn set_rest(
    connection: &Connection,
    id: i64,
    traffic: &Traffic,
) -> rusqlite::Result<()> {
    let Traffic { sticky, shadow, .. } = traffic;
    connection.prepare_cached("DELETE FROM traffic WHERE name_id = ?1")?.execute([id])?;
    if sticky.is_none() && shadow.is_none() {
        return Ok(());
    }
    let sticky = sticky.as_ref().map(json).transpose()?;
    connection
        .prepare_cached(
            "INSERT INTO traffic (name_id, sticky, shadow, shadow_percent) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            id,
            sticky,
            shadow.map(|shadow| shadow.version.get()),
            shadow.map(|shadow| shadow.percent),
        ])
        .map(drop)
}

/// Removes the shadow if it is this version.
pub(super) fn remove_shadow(
    connection: &Connection,
    id: i64,
    version: VersionNumber,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE traffic SET shadow = NULL, shadow_percent = NULL
             WHERE name_id = ?1 AND shadow = ?2",
        )?
        .execute(params![id, version.get()])
        .map(drop)
}

pub(super) fn aliases(
    connection: &Connection,
    id: i64,
) -> rusqlite::Result<BTreeMap<Name, VersionNumber>> {
    connection
        .prepare_cached("SELECT alias, version FROM aliases WHERE name_id = ?1")?
        .query_map([id], |row| Ok((rows::parsed(row, 0)?, rows::number(row, 1)?)))?
        .collect()
}

pub(super) fn set_alias(
    connection: &Connection,
    id: i64,
    alias: &Name,
    version: VersionNumber,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO aliases (name_id, alias, version) VALUES (?1, ?2, ?3)
             ON CONFLICT (name_id, alias) DO UPDATE SET version = ?3",
        )?
        .execute(params![id, alias.as_str(), version.get()])
        .map(drop)
}

/// Whether there was such an alias.
pub(super) fn remove_alias(
    connection: &Connection,
    id: i64,
    alias: &Name,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("DELETE FROM aliases WHERE name_id = ?1 AND alias = ?2")?
        .execute(params![id, alias.as_str()])
        .map(|removed| removed > 0)
}

pub(super) fn canary(connection: &Connection, id: i64) -> rusqlite::Result<Option<Canary>> {
    connection
        .prepare_cached("SELECT canary FROM canaries WHERE name_id = ?1")?
        .query_row([id], |row| read(row, 0))
        .optional()
}

pub(super) fn set_canary(
    connection: &Connection,
    id: i64,
    canary: &Canary,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO canaries (name_id, canary) VALUES (?1, ?2)
             ON CONFLICT (name_id) DO UPDATE SET canary = ?2",
        )?
        .execute(params![id, json(canary)?])
        .map(drop)
}

/// What goes with the shares.
fn rest(connection: &Connection, id: i64) -> rusqlite::Result<(Option<Sticky>, Option<Shadow>)> {
    let found = connection
        .prepare_cached("SELECT sticky, shadow, shadow_percent FROM traffic WHERE name_id = ?1")?
        .query_row([id], |row| {
            let has_sticky = row.get::<_, Option<String>>(0)?.is_some();
            let sticky = has_sticky.then(|| read(row, 0)).transpose()?;
            let shadow = match row.get::<_, Option<u32>>(1)? {
                Some(_) => Some(Shadow { version: rows::number(row, 1)?, percent: row.get(2)? }),
                None => None,
            };
            Ok((sticky, shadow))
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// JSON of a column.
fn read<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| wrong(column, error))
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
