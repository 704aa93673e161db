//! The table of webhooks and what changes it. Their secrets are sealed in it, and open in the snapshot
//! that whoever sends messages reads. Never sends one.

mod operations;

use std::{sync::Arc, time::SystemTime};

use quern_types::{Name, PreviousSecret, SecretValue, StorageFailure, TenantId, Webhook};
use rusqlite::{Connection, params};

pub(crate) use self::operations::{DeleteWebhook, PutWebhook, RotateWebhook};
use crate::{RotateError, Scope, SecretsKey, SecretsKeyId, rows, secrets_key::SealedAs};

/// Why a webhook was not put, changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("webhook {name:?} is not known")]
    NotFound {
        /// The name asked for.
        name: Name,
    },
    /// As many as there may be.
    #[error(
        "there are {limit} webhooks of the {}, as many as there may be: delete some",
        scope.as_str()
    )]
    TooMany {
        /// Whose limit it is.
        scope: Scope,
        /// The limit.
        limit: u32,
    },
    /// The server has nothing to seal a secret with.
    #[error(
        "this server has no key for secrets, and so none for webhooks: make one with `quern secrets \
         new-key`, and start the server with it as --secrets-key-file or QUERN_SECRETS_KEY"
    )]
    NoKey,
    /// The database failed, or there is no randomness; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// A webhook's secret on its way into the table.
#[derive(Debug, Clone)]
pub(crate) struct SealedWebhook {
    pub(crate) sealed_with: SecretsKeyId,
    pub(crate) sealed: Vec<u8>,
}

impl SealedWebhook {
    pub(crate) fn seal(
        secrets_key: &SecretsKey,
        tenant: &TenantId,
        webhook: &Name,
        secret: &SecretValue,
    ) -> Result<Self, getrandom::Error> {
        let sealed = secrets_key.seal(&SealedAs::Webhook { tenant, webhook }, secret.expose())?;
        Ok(Self { sealed_with: secrets_key.id().clone(), sealed })
    }
}

/// All webhooks, by tenant and name. A secret that can't be opened is none.
pub(crate) fn load(
    connection: &Connection,
    secrets_key: Option<&SecretsKey>,
) -> rusqlite::Result<Vec<Arc<Webhook>>> {
    connection
        .prepare(
            "SELECT tenant, name, url, created_us, sealed, secret_created_us, previous,
                 previous_until_us
             FROM webhooks ORDER BY tenant, name",
        )?
        .query_map([], |row| {
            let tenant = TenantId::new(&row.get::<_, String>(0)?);
            let name: Name = rows::parsed(row, 1)?;
            let open = |sealed: Vec<u8>| {
                let sealed_as = SealedAs::Webhook { tenant: &tenant, webhook: &name };
                let opened = secrets_key?.open(&sealed_as, &sealed).ok()?;
                SecretValue::new(opened.as_str().to_owned()).ok()
            };
            let secret = open(row.get(4)?);
            let previous = row.get::<_, Option<Vec<u8>>>(6)?.zip(row.get::<_, Option<i64>>(7)?);
            let previous = previous.map(|(sealed, until)| PreviousSecret {
                secret: open(sealed),
                until: rows::time(until),
            });
            Ok(Arc::new(Webhook {
                url: rows::parsed(row, 2)?,
                created: rows::time(row.get(3)?),
                secret_created: rows::time(row.get(5)?),
                secret,
                previous,
                tenant,
                name,
            }))
        })?
        .collect()
}

/// Says of webhooks that can't be told anything why not.
pub(crate) fn report_locked(webhooks: &[Arc<Webhook>], secrets_key: Option<&SecretsKey>) {
    for webhook in webhooks.iter().filter(|webhook| webhook.secret.is_none()) {
        let (tenant, name) = (&webhook.tenant, &webhook.name);
        let reason = match secrets_key {
            None => "the server has no key for secrets",
            Some(_) => "it was changed or moved since it was sealed: rotate it",
        };
        tracing::error!(%tenant, webhook = %name, reason, "secret of a webhook can't be opened: its messages wait");
    }
}

/// Seals the secrets of all webhooks anew; returns the number of webhooks, and those whose secret before
/// was damaged. That can sign nothing any more, as one that has expired, and goes.
pub(crate) fn seal_anew(
    connection: &Connection,
    (old, new): (&SecretsKey, &SecretsKey),
    now: SystemTime,
) -> Result<(usize, Vec<(TenantId, Name)>), RotateError> {
    type Row = (String, String, String, Vec<u8>, Option<Vec<u8>>);
    let rows: Vec<Row> = connection
        .prepare(
            "SELECT tenant, name, sealed_with, sealed,
                 CASE WHEN previous_until_us > ?1 THEN previous END
             FROM webhooks",
        )?
        .query_map([rows::microseconds(now)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let (mut changed, mut dropped) = (0, Vec::new());
    for (tenant, name, sealed_with, sealed, previous) in rows {
        let sealed_with = SecretsKeyId::of_row(sealed_with);
        if sealed_with == *new.id() {
            continue;
        }
        if sealed_with != *old.id() {
            return Err(RotateError::WrongKey { sealed_with, given: old.id().clone() });
        }
        let tenant = TenantId::new(&tenant);
        let damaged =
            || RotateError::DamagedWebhook { tenant: tenant.clone(), webhook: name.clone() };
        let webhook: Name = name.parse().map_err(|_| damaged())?;
        let sealed_as = SealedAs::Webhook { tenant: &tenant, webhook: &webhook };
        let seal = |secret: &str| {
            let sealed = new.seal(&sealed_as, secret);
            sealed.map_err(|error| RotateError::Random { reason: error.to_string() })
        };
        let sealed = seal(&old.open(&sealed_as, &sealed).map_err(|_| damaged())?)?;
        let previous = match previous.map(|previous| old.open(&sealed_as, &previous)) {
            None => None,
            Some(Ok(secret)) => Some(seal(&secret)?),
            Some(Err(_)) => {
                dropped.push((tenant.clone(), webhook.clone()));
                None
            }
        };
        connection
            .prepare_cached(
                "UPDATE webhooks SET sealed_with = ?3, sealed = ?4, previous = ?5,
                     previous_until_us = CASE WHEN ?5 IS NOT NULL THEN previous_until_us END
                 WHERE tenant = ?1 AND name = ?2",
            )?
            .execute(params![
                tenant.as_str(),
                webhook.as_str(),
                new.id().as_str(),
                sealed,
                previous
            ])?;
        changed += 1;
    }
    Ok((changed, dropped))
}
