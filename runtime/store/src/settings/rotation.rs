//! Rotation: everything that is sealed with one key is sealed with another, in one commit. Either
//! key opens all of it at any instant, whatever ends the process, and never both a part.

use std::{path::Path, time::SystemTime};

use quern_types::{Caller, Class, Name, SettingKey, TenantId};
use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::json;

use crate::{
    OpenError, SecretsKey, SecretsKeyId,
    audit::{self, Entry},
    database::{self, Synchronous},
    folder::FolderLock,
    integrity,
    rows::{self, Key},
    schema,
    secrets_key::SealedAs,
    webhooks,
};

/// Why secrets were not sealed anew. They are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The folder can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// They are sealed with neither key.
    #[error(
        "the secrets are sealed with key {sealed_with}, and not with {given}, the old key that is \
         given: give that one"
    )]
    WrongKey {
        /// The key that they are sealed with.
        sealed_with: SecretsKeyId,
        /// The key that was given for it.
        given: SecretsKeyId,
    },
    /// One of them is damaged.
    #[error(
        "the secret {key:?} of function {function:?} of tenant {tenant:?} can't be opened, as it was \
         changed since it was sealed: start the server with the old key, remove or set that secret, \
         and try again"
    )]
    Damaged {
        /// Whose it is.
        tenant: TenantId,
        /// The function.
        function: Name,
        /// Its key.
        key: SettingKey,
    },
    /// That of a webhook is.
    #[error(
        "the secret of webhook {webhook:?} of tenant {tenant:?} can't be opened, as it was changed \
         since it was sealed: start the server with the old key, give that webhook another secret \
         with `quern webhook rotate`, or delete it, and try again"
    )]
    DamagedWebhook {
        /// Whose it is.
        tenant: TenantId,
        /// The webhook.
        webhook: String,
    },
    /// The database failed.
    #[error("catalog can't be written: {0}")]
    Database(#[from] rusqlite::Error),
    /// The system gave no randomness.
    #[error("the system gives no randomness: {reason}")]
    Random {
        /// What it said.
        reason: String,
    },
}

/// What was sealed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Secrets of functions, and webhooks.
    pub secrets: usize,
    /// Webhooks whose secret before was damaged, and is gone.
    pub dropped: Vec<(TenantId, Name)>,
}

/// A secret in the tables.
struct Row {
    id: i64,
    function: Key,
    key: SettingKey,
    sealed_with: SecretsKeyId,
    sealed: Vec<u8>,
}

/// Seals all secrets of a data folder, which no server may have open, with `new` instead of `old`;
/// all of them or none. What is sealed with `new` already stays as it is. A webhook's secret before that
/// has expired, or is damaged, is removed. Blocks.
pub fn rotate_secrets(
    directory: &Path,
    old: &SecretsKey,
    new: &SecretsKey,
) -> Result<Rotated, RotateError> {
    let _lock = FolderLock::take_existing(directory)?;
    integrity::prepare(directory)?;
    let path = directory.join("catalog.sqlite");
    let mut connection = database::open(&path, Synchronous::Full, schema::MIGRATIONS)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = read(&transaction)?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.sealed_with != *new.id()).collect();
    for row in &rows {
        let sealed = row.sealed_anew(old, new)?;
        transaction
            .prepare_cached("UPDATE secrets SET sealed_with = ?1, sealed = ?2 WHERE rowid = ?3")?
            .execute(params![new.id().as_str(), sealed, row.id])?;
    }
    let (webhooks, dropped) = webhooks::seal_anew(&transaction, (old, new), SystemTime::now())?;
    if !rows.is_empty() || webhooks > 0 {
        let caller = Caller::unasked();
        let detail = json!({
            "from": old.id().as_str(), "to": new.id().as_str(), "secrets": rows.len(),
            "webhooks": webhooks, "dropped": dropped.len(),
        });
        let entry =
            Entry { caller: &caller, action: "secrets.rotate", subject: "secrets".into(), detail };
        audit::insert(&transaction, &entry)?;
    }
    transaction.commit()?;
    // What the old key opens stays in pages that are free, and in the log, until these go.
    connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(Rotated { secrets: rows.len() + webhooks, dropped })
}

impl Row {
    fn sealed_anew(&self, old: &SecretsKey, new: &SecretsKey) -> Result<Vec<u8>, RotateError> {
        let Self { function, key, sealed_with, sealed, .. } = self;
        if sealed_with != old.id() {
            let (sealed_with, given) = (sealed_with.clone(), old.id().clone());
            return Err(RotateError::WrongKey { sealed_with, given });
        }
        let sealed_as = SealedAs::Setting { function, key };
        let value = old.open(&sealed_as, sealed).map_err(|_| RotateError::Damaged {
            tenant: function.tenant.clone(),
            function: function.name.clone(),
            key: key.clone(),
        })?;
        let sealed = new.seal(&sealed_as, &value);
        sealed.map_err(|error| RotateError::Random { reason: error.to_string() })
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare(
            "SELECT secrets.rowid, tenant, name, key, sealed_with, sealed
             FROM secrets JOIN names ON names.id = secrets.name_id",
        )?
        .query_map([], |row| {
            let tenant = TenantId::new(&row.get::<_, String>(1)?);
            Ok(Row {
                id: row.get(0)?,
                function: Key { tenant, class: Class::Function, name: rows::parsed(row, 2)? },
                key: rows::parsed(row, 3)?,
                sealed_with: SecretsKeyId::of_row(row.get(4)?),
                sealed: row.get(5)?,
            })
        })?
        .collect()
}
