//! What is set for functions: the tables of it, and the snapshot that requests read, in which
//! secrets are open. Whether a change is allowed by the limits is decided here, who may make it is not.

mod operations;
mod rotation;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use quern_types::{
    ByteSize, Class, Configured, Name, Secret, SecretValue, SettingKey, Settings, StorageFailure,
    TenantId, VersionNumber,
};
use rusqlite::{Connection, params};

pub(crate) use self::operations::{
    ChangeConfig, SealedSecret, SetSecret, UnsetSecret, function_of,
};
pub use self::rotation::{RotateError, Rotated, rotate_secrets};
use crate::{
    SecretsKey, SecretsKeyId,
    rows::{self, Key},
    secrets_key::SealedAs,
};

/// How a function's configuration changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Everything is set anew; what is not among it goes.
    Replace(BTreeMap<SettingKey, String>),
    /// These keys get values, or go where there is none; all others stay.
    Merge(BTreeMap<SettingKey, Option<String>>),
}

/// Why something was not set. None of it has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such function.
    #[error("function {function:?} is not deployed")]
    NotFound {
        /// The name asked for.
        function: Name,
    },
    /// It has no such secret.
    #[error("function {function:?} has no secret {key:?}: list its secrets to see what it has")]
    NoSecret {
        /// The function.
        function: Name,
        /// The key asked for.
        key: SettingKey,
    },
    /// A key of the configuration is one of a secret.
    #[error(
        "key {key:?} of function {function:?} is a secret: choose another, or remove that first"
    )]
    IsSecret {
        /// The function.
        function: Name,
        /// The key.
        key: SettingKey,
    },
    /// The key of a secret is one of the configuration.
    #[error(
        "key {key:?} of function {function:?} is a part of its configuration: choose another, or \
         remove that first"
    )]
    IsConfig {
        /// The function.
        function: Name,
        /// The key.
        key: SettingKey,
    },
    /// The configuration would have too many keys.
    #[error("config of function {function:?} would have {count} keys: at most {limit} are allowed")]
    TooManyKeys {
        /// The function.
        function: Name,
        /// What it would have.
        count: usize,
        /// The most.
        limit: usize,
    },
    /// The configuration would be too large.
    #[error(
        "config of function {function:?} would have {bytes} bytes of keys and values: at most \
         {limit} are allowed"
    )]
    TooLarge {
        /// The function.
        function: Name,
        /// What it would have.
        bytes: usize,
        /// The most.
        limit: ByteSize,
    },
    /// There would be too many secrets.
    #[error("function {function:?} has {limit} secrets, as many as it may have: remove one first")]
    TooManySecrets {
        /// The function.
        function: Name,
        /// The most.
        limit: usize,
    },
    /// The server has nothing to seal a secret with.
    #[error(
        "this server has no key for secrets: make one with `quern secrets new-key`, and start the \
         server with it as --secrets-key-file or QUERN_SECRETS_KEY"
    )]
    NoKey,
    /// The database failed, or there is no randomness; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// The version that a request was resolved to is gone, with what was set for its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone(pub VersionNumber);

/// What is set for all functions at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllSettings {
    tenants: HashMap<TenantId, Arc<BTreeMap<Name, Arc<Settings>>>>,
    /// Whether anything was ever set since the start. Where nothing was, nothing can be lost.
    is_used: bool,
}

impl AllSettings {
    pub(crate) fn of(&self, tenant: &TenantId, function: &Name) -> Option<&Arc<Settings>> {
        self.tenants.get(tenant)?.get(function)
    }

    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Brings one function up to date with the tables. What it had before goes with the last
    /// request that has it.
    pub(crate) fn refresh(
        &mut self,
        connection: &Connection,
        key: &Key,
        secrets_key: Option<&SecretsKey>,
    ) -> rusqlite::Result<()> {
        let settings = read(connection, key, secrets_key)?;
        let functions = Arc::make_mut(self.tenants.entry(key.tenant.clone()).or_default());
        if settings.is_empty() {
            functions.remove(&key.name);
        } else {
            functions.insert(key.name.clone(), Arc::new(settings));
            self.is_used = true;
        }
        Ok(())
    }
}

/// Everything that is set. A secret that can't be opened is locked, and the log says why.
pub(crate) fn load(
    connection: &Connection,
    secrets_key: Option<&SecretsKey>,
) -> rusqlite::Result<AllSettings> {
    let functions = connection
        .prepare(
            "SELECT tenant, name FROM names
             WHERE id IN (SELECT name_id FROM settings UNION SELECT name_id FROM secrets)",
        )?
        .query_map([], |row| {
            let tenant = TenantId::new(&row.get::<_, String>(0)?);
            Ok(Key { tenant, class: Class::Function, name: rows::parsed(row, 1)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut all = AllSettings::default();
    for key in &functions {
        all.refresh(connection, key, secrets_key)?;
        let settings = all.of(&key.tenant, &key.name);
        if let Some(locked) = settings.and_then(|settings| settings.locked()) {
            let (tenant, function) = (&key.tenant, &key.name);
            let reason = match secrets_key {
                None => "the server has no key for secrets",
                Some(_) => "it was changed or moved since it was sealed: set it again",
            };
            tracing::error!(%tenant, %function, secret = %locked, reason, "secret can't be opened: calls of its function are refused");
        }
    }
    Ok(all)
}

/// The key that the secrets of a catalog are sealed with, where that is another one than this.
pub(crate) fn sealed_otherwise(
    connection: &Connection,
    secrets_key: &SecretsKey,
) -> rusqlite::Result<Option<SecretsKeyId>> {
    Ok(sealed_with(connection)?.into_iter().find(|id| id != secrets_key.id()))
}

/// The keys that the secrets of a catalog are sealed with, those of webhooks among them. An older one,
/// that was not migrated yet, may have none.
pub(crate) fn sealed_with(connection: &Connection) -> rusqlite::Result<Vec<SecretsKeyId>> {
    let mut found = Vec::new();
    for table in ["secrets", "webhooks"] {
        if !connection.table_exists(None, table)? {
            continue;
        }
        let mut ids = connection.prepare(&format!("SELECT DISTINCT sealed_with FROM {table}"))?;
        for id in ids.query_map([], |row| row.get(0).map(SecretsKeyId::of_row))? {
            let id = id?;
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

/// Removes what is set for a function, with which it goes.
pub(crate) fn delete(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    let Some((id, ..)) = rows::find(connection, key)? else { return Ok(()) };
    connection.prepare_cached("DELETE FROM settings WHERE name_id = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM secrets WHERE name_id = ?1")?.execute([id])?;
    Ok(())
}

fn read(
    connection: &Connection,
    key: &Key,
    secrets_key: Option<&SecretsKey>,
) -> rusqlite::Result<Settings> {
    let mut settings = Settings::default();
    if key.class != Class::Function {
        return Ok(settings);
    }
    let Some((id, ..)) = rows::find(connection, key)? else { return Ok(settings) };
    settings.config = config(connection, id)?;
    let mut statement = connection
        .prepare_cached("SELECT key, sealed, changed_us FROM secrets WHERE name_id = ?1")?;
    let mut found = statement.query(params![id])?;
    while let Some(row) = found.next()? {
        let name: SettingKey = rows::parsed(row, 0)?;
        let sealed: Vec<u8> = row.get(1)?;
        let sealed_as = SealedAs::Setting { function: key, key: &name };
        let opened = secrets_key.and_then(|secrets| secrets.open(&sealed_as, &sealed).ok());
        let value = opened.and_then(|value| SecretValue::new(value.as_str().to_owned()).ok());
        let secret = Secret { value, changed: rows::time(row.get(2)?) };
        settings.secrets.insert(name, secret);
    }
    Ok(settings)
}

fn config(connection: &Connection, id: i64) -> rusqlite::Result<BTreeMap<SettingKey, Configured>> {
    connection
        .prepare_cached("SELECT key, value, changed_us FROM settings WHERE name_id = ?1")?
        .query_map([id], |row| {
            let (value, changed) = (row.get(1)?, rows::time(row.get(2)?));
            Ok((rows::parsed(row, 0)?, Configured { value, changed }))
        })?
        .collect()
}

/// The id of a function that is deployed.
fn find(connection: &Connection, key: &Key) -> rusqlite::Result<Result<i64, SettingError>> {
    Ok(match rows::find(connection, key)? {
        Some((id, _, Some(_))) => Ok(id),
        _ => Err(SettingError::NotFound { function: key.name.clone() }),
    })
}

/// Now, as a column has it.
fn now_us() -> i64 {
    rows::microseconds(SystemTime::now())
}
