//! Reads the tables into the routing snapshot. Never changes them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use quern_types::{
    Class, Deployed, Digest, FunctionSpec, ModelSpec, Name, Routes, TenantRoutes, Version,
    VersionNumber,
};
use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    rows::{self, Key},
    sharing, traffic,
};

/// What functions and models have in common for the catalog.
pub(crate) trait Deployable: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Function or model.
    const CLASS: Class;

    /// The word that decides who may share a name.
    fn kind(&self) -> &'static str;

    /// A tenant's deployed ones.
    fn of(routes: &mut TenantRoutes) -> &mut BTreeMap<Name, Arc<Deployed<Self>>>;
}

impl Deployable for FunctionSpec {
    const CLASS: Class = Class::Function;

    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    fn of(routes: &mut TenantRoutes) -> &mut BTreeMap<Name, Arc<Deployed<Self>>> {
        &mut routes.functions
    }
}

impl Deployable for ModelSpec {
    const CLASS: Class = Class::Model;

    fn kind(&self) -> &'static str {
        "model"
    }

    fn of(routes: &mut TenantRoutes) -> &mut BTreeMap<Name, Arc<Deployed<Self>>> {
        &mut routes.models
    }
}

/// Why the tables don't make a snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    /// A row is not what this server writes.
    #[error("version {number} of {class} {name:?} can't be understood: {reason}")]
    Row { class: Class, name: Name, number: VersionNumber, reason: String },
    /// A version that gets requests is not among the kept ones.
    #[error("{class} {name:?} has a live version that is not kept, or gives one a share")]
    Live { class: Class, name: Name },
}

/// Everything that is deployed.
pub(crate) fn load(connection: &Connection) -> Result<Routes, SnapshotError> {
    let mut statement =
        connection.prepare("SELECT tenant, class, name FROM names WHERE live IS NOT NULL")?;
    let keys = statement.query_map([], rows::key)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut routes = Routes::default();
    for key in &keys {
        refresh_versions(connection, &mut routes, key)?;
    }
    sharing::load(connection, &mut routes)?;
    Ok(routes)
}

/// Brings one name of a snapshot up to date with the tables.
pub(crate) fn refresh(
    connection: &Connection,
    routes: &mut Routes,
    key: &Key,
) -> Result<(), SnapshotError> {
    refresh_versions(connection, routes, key)?;
    Ok(sharing::refresh(connection, routes, key)?)
}

/// All contents that versions refer to.
pub(crate) fn contents(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    connection
        .prepare("SELECT DISTINCT content FROM versions")?
        .query_map([], |row| rows::parsed(row, 0))?
        .collect()
}

fn refresh_versions(
    connection: &Connection,
    routes: &mut Routes,
    key: &Key,
) -> Result<(), SnapshotError> {
    let tenant = routes.tenant_mut(&key.tenant);
    match key.class {
        Class::Function => refresh_in::<FunctionSpec>(connection, tenant, key),
        Class::Model => refresh_in::<ModelSpec>(connection, tenant, key),
    }
}

fn refresh_in<Spec: Deployable>(
    connection: &Connection,
    tenant: &mut TenantRoutes,
    key: &Key,
) -> Result<(), SnapshotError> {
    let deployed = Spec::of(tenant);
    let Some((id, _, Some(live))) = rows::find(connection, key)? else {
        deployed.remove(&key.name);
        return Ok(());
    };
    let mut statement = connection.prepare_cached(
        "SELECT number, digest, content, spec, created_us FROM versions WHERE name_id = ?1",
    )?;
    let mut found = statement.query([id])?;
    let mut versions = BTreeMap::new();
    while let Some(row) = found.next()? {
        let number = rows::number(row, 0)?;
        // A version never changes: whoever has it cached by its address keeps it.
        let known = deployed.get(&key.name).and_then(|known| known.version(Some(number)).ok());
        let version = match known {
            Some(version) => version.clone(),
            None => Arc::new(read(row, number, key)?),
        };
        versions.insert(number, version);
    }
    let routing = traffic::routing(connection, id)?;
    let current =
        Deployed::new(versions, live)
            .and_then(|current| current.with_routing(routing))
            .ok_or_else(|| SnapshotError::Live { class: key.class, name: key.name.clone() })?;
    deployed.insert(key.name.clone(), Arc::new(current));
    Ok(())
}

fn read<Spec: Deployable>(
    row: &rusqlite::Row<'_>,
    number: VersionNumber,
    key: &Key,
) -> Result<Version<Spec>, SnapshotError> {
    let spec: String = row.get(3)?;
    let spec = serde_json::from_str(&spec).map_err(|error| SnapshotError::Row {
        class: key.class,
        name: key.name.clone(),
        number,
        reason: error.to_string(),
    })?;
    Ok(Version {
        number,
        digest: rows::parsed(row, 1)?,
        content: rows::parsed(row, 2)?,
        spec: Arc::new(spec),
        created: rows::time(row.get(4)?),
    })
}
