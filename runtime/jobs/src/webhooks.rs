//! Webhooks as the edge sees them: put, given another secret, deleted; and the messages to them. They
//! are sent in `sender`.

mod held;
mod message;
mod sender;
mod signature;
mod verdict;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quern_store::{
    Announcement, DeliveryQuery, DeliveryRecord, GivingUp, QueueFailure, Retry, RetryError,
    WebhookError,
};
use quern_types::{
    Caller, DeliveryId, Name, NamedWebhook, SecretValue, TenantId, Webhook, WebhookUrl,
};

pub(crate) use self::sender::run;
use self::signature::new_secret;
use crate::Jobs;

/// Why messages are given up whose webhook is gone.
const DELETED: &str = "its webhook was deleted";
/// Messages that one step gives up or lets go: others wait for the disk meanwhile.
const STEP: usize = 500;

impl Jobs {
    /// Adds a webhook, and returns the secret that its messages will be signed with; or gives one that
    /// is there another address, which leaves it its secret, and returns none.
    pub async fn put_webhook(
        &self,
        caller: &Caller,
        name: Name,
        url: WebhookUrl,
    ) -> Result<Option<SecretValue>, WebhookError> {
        let (secret, now) = (made_secret()?, SystemTime::now());
        let is_new = self.catalog().put_webhook(caller, (name, url), &secret, now).await?;
        Ok(is_new.then_some(secret))
    }

    /// Gives a webhook another secret, and returns it. The one before signs as well for a while.
    pub async fn rotate_webhook(
        &self,
        caller: &Caller,
        name: Name,
        keep_previous: Duration,
    ) -> Result<SecretValue, WebhookError> {
        let (secret, now) = (made_secret()?, SystemTime::now());
        let times = (now, now + keep_previous);
        self.catalog().rotate_webhook(caller, name, &secret, times).await?;
        Ok(secret)
    }

    /// Takes a webhook away. Messages that wait for it are given up.
    pub async fn delete_webhook(&self, caller: &Caller, name: Name) -> Result<(), WebhookError> {
        let webhook = self.webhook(&caller.tenant, &name)?.named();
        self.catalog().delete_webhook(caller, name).await?;
        if let Err(error) = self.give_up_messages(&caller.tenant, &webhook).await {
            tracing::warn!(%error, "messages to a deleted webhook are given up when they are due only");
        }
        Ok(())
    }

    async fn give_up_messages(
        &self,
        tenant: &TenantId,
        webhook: &NamedWebhook,
    ) -> Result<(), QueueFailure> {
        let at = SystemTime::now();
        let kept_until = at + self.config.webhooks.keep;
        let end = GivingUp { at, kept_until, reason: DELETED, most: STEP };
        let step = || self.queue.give_up_deliveries(tenant.clone(), webhook.clone(), end.clone());
        while step().await? == STEP {}
        Ok(())
    }

    /// A tenant's webhooks, by name.
    pub fn webhooks(&self, tenant: &TenantId) -> Vec<Arc<Webhook>> {
        let all = self.catalog().webhooks();
        all.iter().filter(|webhook| webhook.tenant == *tenant).cloned().collect()
    }

    /// One webhook of a tenant.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn webhook(&self, tenant: &TenantId, name: &Name) -> Result<Arc<Webhook>, WebhookError> {
        let found = self.catalog().webhook(tenant, name);
        found.ok_or_else(|| WebhookError::NotFound { name: name.clone() })
    }

    /// The webhook of a tenant that has a name now; if there is none, the one that will have it.
    pub(crate) fn named_webhook(&self, tenant: &TenantId, name: &Name) -> NamedWebhook {
        let found = self.catalog().webhook(tenant, name);
        let none = || NamedWebhook { name: name.clone(), created: None };
        found.map_or_else(none, |webhook| webhook.named())
    }

    /// The messages that are asked for, the newest first.
    pub async fn deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<Vec<DeliveryRecord>, QueueFailure> {
        self.queue.deliveries(query).await
    }

    /// One message of a tenant.
    pub async fn delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<DeliveryRecord, RetryError> {
        let found = self.queue.delivery(tenant.clone(), id).await?;
        found.ok_or(RetryError::NotFound { id })
    }

    /// Has a message sent again that was given up, as if it were new.
    pub async fn retry_delivery(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<(), RetryError> {
        let (max_age, limits) = (self.config.webhooks.max_age, self.config.waiting);
        let retry = Retry { at: SystemTime::now(), max_age, limits };
        self.queue.retry_delivery(tenant.clone(), id, retry).await?;
        self.messages.notify_one();
        Ok(())
    }

    /// How the end of a call is told to its webhook.
    pub(crate) fn announcement(&self) -> Announcement {
        Announcement { compose: message::compose, max_age: self.config.webhooks.max_age }
    }
}

fn made_secret() -> Result<SecretValue, WebhookError> {
    let reason = |_| WebhookError::Storage { reason: "the system gives no randomness".into() };
    new_secret().map_err(reason)
}
