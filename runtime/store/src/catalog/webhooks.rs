//! Webhooks in the catalog. A secret comes in open, and is sealed before it is queued.

use std::{sync::Arc, time::SystemTime};

use quern_types::{Caller, Name, SecretValue, TenantId, Webhook, WebhookUrl};

use super::Catalog;
use crate::{
    WebhookError,
    webhooks::{DeleteWebhook, PutWebhook, RotateWebhook, SealedWebhook},
};

impl Catalog {
    /// Where messages are sent, by tenant and name.
    pub fn webhooks(&self) -> Arc<Vec<Arc<Webhook>>> {
        self.shown.webhooks.load_full()
    }

    /// One webhook of a tenant.
    pub fn webhook(&self, tenant: &TenantId, name: &Name) -> Option<Arc<Webhook>> {
        let all = self.shown.webhooks.load();
        let sought = (tenant.as_str(), name.as_str());
        let found = all.binary_search_by(|webhook| {
            (webhook.tenant.as_str(), webhook.name.as_str()).cmp(&sought)
        });
        found.ok().map(|at| all[at].clone())
    }

    /// Adds a webhook of the caller's tenant, or gives one another address, which leaves it its
    /// secret; returns whether it is new.
    pub async fn put_webhook(
        &self,
        caller: &Caller,
        (name, url): (Name, WebhookUrl),
        secret: &SecretValue,
        at: SystemTime,
    ) -> Result<bool, WebhookError> {
        let secret = self.seal_webhook(caller, &name, secret)?;
        self.submit(
            |reply| PutWebhook::new(caller.clone(), (name, url), secret, at, reply),
            |reason| WebhookError::Storage { reason },
        )
        .await
    }

    /// Gives a webhook another secret at a time; the one before is good until another, unless it was
    /// damaged.
    pub async fn rotate_webhook(
        &self,
        caller: &Caller,
        name: Name,
        secret: &SecretValue,
        (at, previous_until): (SystemTime, SystemTime),
    ) -> Result<(), WebhookError> {
        let secrets_key = self.secrets_key.clone().ok_or(WebhookError::NoKey)?;
        let sealed = (secrets_key, self.seal_webhook(caller, &name, secret)?);
        let times = (at, previous_until);
        self.submit(
            |reply| RotateWebhook::new(caller.clone(), name, sealed, times, reply),
            |reason| WebhookError::Storage { reason },
        )
        .await
    }

    /// Takes a webhook of the caller's tenant away.
    pub async fn delete_webhook(&self, caller: &Caller, name: Name) -> Result<(), WebhookError> {
        self.submit(
            |reply| DeleteWebhook::new(caller.clone(), name, reply),
            |reason| WebhookError::Storage { reason },
        )
        .await
    }

    fn seal_webhook(
        &self,
        caller: &Caller,
        name: &Name,
        secret: &SecretValue,
    ) -> Result<SealedWebhook, WebhookError> {
        let secrets_key = self.secrets_key.as_ref().ok_or(WebhookError::NoKey)?;
        SealedWebhook::seal(secrets_key, &caller.tenant, name, secret)
            .map_err(|error| WebhookError::Storage { reason: error.to_string().into() })
    }
}
