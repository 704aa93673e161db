//! Changes of webhooks. What they say of themselves, to the audit log or to a debugger, has no secret
//! in it, and of an address no more than its host.

use std::{sync::Arc, time::SystemTime};

use quern_types::{Caller, Name, StorageFailure, TenantId, WebhookUrl};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use tokio::sync::oneshot;

use super::{SealedWebhook, WebhookError};
use crate::{
    Removed, Scope, SecretsKey,
    audit::Entry,
    operation::{Effects, Operation, Subject, failure},
    rows::microseconds,
    secrets_key::SealedAs,
};

/// Most webhooks of a tenant.
const MOST_OF_TENANT: u32 = 100;
/// Most webhooks of a server, which are all kept in memory.
const MOST: u32 = 10_000;

type Reply<T> = oneshot::Sender<Result<T, WebhookError>>;
type Outcome<T> = Option<Result<T, WebhookError>>;

/// Adds a webhook with a secret, or gives one that is there another address; says whether it is new.
#[derive(Debug)]
pub(crate) struct PutWebhook {
    caller: Caller,
    name: Name,
    url: WebhookUrl,
    secret: SealedWebhook,
    at: SystemTime,
    outcome: Outcome<bool>,
    reply: Reply<bool>,
}

/// Gives a webhook another secret; the one before is good until a time, if it can be opened.
#[derive(Debug)]
pub(crate) struct RotateWebhook {
    caller: Caller,
    name: Name,
    secrets_key: Arc<SecretsKey>,
    secret: SealedWebhook,
    at: SystemTime,
    previous_until: SystemTime,
    outcome: Outcome<()>,
    reply: Reply<()>,
}

/// Takes a webhook away.
#[derive(Debug)]
pub(crate) struct DeleteWebhook {
    caller: Caller,
    name: Name,
    outcome: Outcome<()>,
    reply: Reply<()>,
}

impl PutWebhook {
    pub(crate) fn new(
        caller: Caller,
        (name, url): (Name, WebhookUrl),
        secret: SealedWebhook,
        at: SystemTime,
        reply: Reply<bool>,
    ) -> Self {
        Self { caller, name, url, secret, at, outcome: None, reply }
    }

    /// Whether it is new; and whether anything changes.
    fn put(&self, connection: &Connection) -> rusqlite::Result<Result<(bool, bool), WebhookError>> {
        let (tenant, name, url) = (&self.caller.tenant, self.name.as_str(), self.url.to_string());
        let found: Option<String> = connection
            .prepare_cached("SELECT url FROM webhooks WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![tenant.as_str(), name], |row| row.get(0))
            .optional()?;
        match found {
            Some(found) if found == url => return Ok(Ok((false, false))),
            Some(_) => {
                connection
                    .prepare_cached("UPDATE webhooks SET url = ?3 WHERE tenant = ?1 AND name = ?2")?
                    .execute(params![tenant.as_str(), name, url])?;
                return Ok(Ok((false, true)));
            }
            None => {}
        }
        if let Some(refusal) = refuse(connection, tenant)? {
            return Ok(Err(refusal));
        }
        let SealedWebhook { sealed_with, sealed } = &self.secret;
        connection
            .prepare_cached(
                "INSERT INTO webhooks (tenant, name, url, created_us, sealed_with, sealed,
                     secret_created_us)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4)",
            )?
            .execute(params![
                tenant.as_str(),
                name,
                url,
                microseconds(self.at),
                sealed_with.as_str(),
                sealed
            ])?;
        Ok(Ok((true, true)))
    }
}

/// Why there is no room for another webhook of a tenant, if there is none.
fn refuse(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<Option<WebhookError>> {
    let (of_tenant, of_all): (u32, u32) = connection
        .prepare_cached("SELECT count(*) FILTER (WHERE tenant = ?1), count(*) FROM webhooks")?
        .query_row([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let limits = [(Scope::Tenant, of_tenant, MOST_OF_TENANT), (Scope::Server, of_all, MOST)];
    let full = limits.into_iter().find(|(_, count, limit)| count >= limit);
    Ok(full.map(|(scope, _, limit)| WebhookError::TooMany { scope, limit }))
}

impl Operation for PutWebhook {
    fn subject(&self) -> Subject<'_> {
        Subject::Webhooks
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let (outcome, changed) = match self.put(connection)? {
            Ok((is_new, changed)) => (Ok(is_new), changed),
            Err(refusal) => (Err(refusal), false),
        };
        self.outcome = Some(outcome);
        Ok(Effects::of(changed))
    }

    fn entry(&self) -> Entry<'_> {
        let detail = json!({ "to": self.url.origin() });
        let subject = format!("webhook {}", self.name);
        Entry { caller: &self.caller, action: "webhook.put", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl RotateWebhook {
    pub(crate) fn new(
        caller: Caller,
        name: Name,
        (secrets_key, secret): (Arc<SecretsKey>, SealedWebhook),
        (at, previous_until): (SystemTime, SystemTime),
        reply: Reply<()>,
    ) -> Self {
        Self { caller, name, secrets_key, secret, at, previous_until, outcome: None, reply }
    }

    /// Whether the one before is to sign as well. One that was damaged can't, and would be in the way
    /// of whoever seals all secrets anew.
    fn keeps_previous(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let (tenant, webhook) = (&self.caller.tenant, &self.name);
        let sealed: Option<Vec<u8>> = connection
            .prepare_cached("SELECT sealed FROM webhooks WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![tenant.as_str(), webhook.as_str()], |row| row.get(0))
            .optional()?;
        let sealed_as = SealedAs::Webhook { tenant, webhook };
        let opens = sealed.is_some_and(|sealed| self.secrets_key.open(&sealed_as, &sealed).is_ok());
        Ok(opens && self.previous_until > self.at)
    }
}

impl Operation for RotateWebhook {
    fn subject(&self) -> Subject<'_> {
        Subject::Webhooks
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let SealedWebhook { sealed_with, sealed } = &self.secret;
        let keeps = self.keeps_previous(connection)?;
        let changed = connection
            .prepare_cached(
                "UPDATE webhooks SET
                     previous = CASE WHEN ?7 THEN sealed END,
                     previous_until_us = CASE WHEN ?7 THEN ?6 END,
                     sealed_with = ?3, sealed = ?4, secret_created_us = ?5
                 WHERE tenant = ?1 AND name = ?2",
            )?
            .execute(params![
                self.caller.tenant.as_str(),
                self.name.as_str(),
                sealed_with.as_str(),
                sealed,
                microseconds(self.at),
                microseconds(self.previous_until),
                keeps,
            ])?;
        self.outcome = Some(found(changed, &self.name));
        Ok(Effects::of(changed > 0))
    }

    fn entry(&self) -> Entry<'_> {
        let kept = self.previous_until.duration_since(self.at).unwrap_or_default();
        let detail = json!({ "previous_kept_seconds": kept.as_secs() });
        let subject = format!("webhook {}", self.name);
        Entry { caller: &self.caller, action: "webhook.rotate", subject, detail }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

impl DeleteWebhook {
    pub(crate) fn new(caller: Caller, name: Name, reply: Reply<()>) -> Self {
        Self { caller, name, outcome: None, reply }
    }
}

impl Operation for DeleteWebhook {
    fn subject(&self) -> Subject<'_> {
        Subject::Webhooks
    }

    fn apply(&mut self, connection: &Connection, _: u32) -> rusqlite::Result<Effects> {
        let changed = connection
            .prepare_cached("DELETE FROM webhooks WHERE tenant = ?1 AND name = ?2")?
            .execute(params![self.caller.tenant.as_str(), self.name.as_str()])?;
        self.outcome = Some(found(changed, &self.name));
        Ok(Effects::of(changed > 0))
    }

    fn entry(&self) -> Entry<'_> {
        let subject = format!("webhook {}", self.name);
        Entry { caller: &self.caller, action: "webhook.delete", subject, detail: json!({}) }
    }

    fn answer(self: Box<Self>, group: Result<Removed, StorageFailure>) {
        let _ = self.reply.send(answer(group, self.outcome));
    }
}

fn found(changed: usize, name: &Name) -> Result<(), WebhookError> {
    match changed {
        0 => Err(WebhookError::NotFound { name: name.clone() }),
        _ => Ok(()),
    }
}

fn answer<T>(
    group: Result<Removed, StorageFailure>,
    outcome: Outcome<T>,
) -> Result<T, WebhookError> {
    match (group, outcome) {
        (Ok(_), Some(outcome)) => outcome,
        (group, _) => Err(WebhookError::Storage { reason: failure(group) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MIGRATIONS;

    #[test]
    fn one_tenant_can_not_take_the_room_of_all() {
        let catalog = Connection::open_in_memory().expect("opens");
        MIGRATIONS.iter().for_each(|step| catalog.execute_batch(step).expect("migrates"));
        let fill = |tenant: &str| {
            let statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                 INSERT INTO webhooks (tenant, name, url, created_us, sealed_with, sealed, secret_created_us)
                 SELECT ?1, 'w' || i, 'https://example.com', 0, '', x'', 0 FROM n";
            catalog.execute(statement, params![tenant, MOST_OF_TENANT]).expect("fills");
        };
        let refused = |tenant: &str| refuse(&catalog, &TenantId::new(tenant)).expect("reads");
        assert_eq!(refused("a"), None);
        fill("a");
        let (scope, limit) = (Scope::Tenant, MOST_OF_TENANT);
        assert_eq!(refused("a"), Some(WebhookError::TooMany { scope, limit }));
        assert_eq!(refused("b"), None, "others have their own");
        (1..MOST / MOST_OF_TENANT).for_each(|number| fill(&format!("t{number}")));
        let (scope, limit) = (Scope::Server, MOST);
        assert_eq!(refused("b"), Some(WebhookError::TooMany { scope, limit }));
    }
}
