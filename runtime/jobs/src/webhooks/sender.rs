//! Sends messages to webhooks: those whose time has come, as many as may be under way, and settles
//! what comes of them. One loop begins them all; each is a task, and one that is lost with the server
//! is sent again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    HeaderName, Request,
    header::{CONTENT_TYPE, USER_AGENT},
};
use quern_store::{Delivery, DueQuery, HeldWebhook, Next, Sending};
use quern_types::{Courier, DeliveryId, DeliveryState, TenantId, Webhook};
use tokio::task::{Id, JoinSet};

use super::{
    DELETED, held,
    signature::{secrets_of, sign},
    verdict::{Verdict, judge},
};
use crate::{Jobs, backoff::Backoff};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Longest sleep while nothing is due: the clock may have been set in between.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after the disk has failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Why a message is given up whose webhook was made anew, and why one is held back.
const REPLACED: &str = "its webhook was deleted, and the one that has its name now was made later";
const HELD: &str =
    "the secret of its webhook can't be opened by this server: it waits until it can";

/// What came of a message, and how it came to that.
struct Outcome {
    verdict: Verdict,
    status: Option<http::StatusCode>,
    /// Whether it was sent at all.
    counts: bool,
}

/// Sends messages until nothing more is to be begun, and waits for those under way then.
pub(crate) async fn run(jobs: Arc<Jobs>, courier: Arc<dyn Courier>) {
    let mut tasks = JoinSet::new();
    let mut under_way: HashMap<Id, (TenantId, DeliveryId)> = HashMap::new();
    let (mut last, mut followed) = (None, None);
    loop {
        let webhooks = jobs.catalog().webhooks();
        if followed.as_ref().is_none_or(|followed| !Arc::ptr_eq(followed, &webhooks)) {
            match held::release(&jobs).await {
                Ok(()) => followed = Some(webhooks),
                Err(error) => tracing::error!(%error, "messages that are held back stay so"),
            }
        }
        while let Some(ended) = tasks.try_join_next_with_id() {
            under_way.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        let mut wait = IDLE;
        let most = (jobs.config.webhooks.concurrency as usize).saturating_sub(tasks.len());
        if most > 0 {
            let query = DueQuery {
                most,
                of_tenant: jobs.config.webhooks.tenant_concurrency as usize,
                after: last.take(),
                under_way: by_tenant(under_way.values()),
                longest_pause: jobs.config.webhooks.longest_pause,
                now: SystemTime::now(),
            };
            match jobs.queue.due_deliveries(query).await {
                Ok(due) => {
                    last = due.last;
                    for delivery in due.deliveries {
                        let names = (delivery.tenant.clone(), delivery.id);
                        let task = tasks.spawn(deliver(jobs.clone(), courier.clone(), delivery));
                        under_way.insert(task.id(), names);
                    }
                    let until = |next: SystemTime| next.duration_since(SystemTime::now());
                    let next = due.next.map(|next| until(next).unwrap_or_default());
                    wait = next.map_or(IDLE, |next| next.min(IDLE));
                }
                Err(error) => tracing::error!(%error, "no messages to webhooks can be sent"),
            }
        }
        tokio::select! {
            biased;
            () = jobs.closing.cancelled() => break,
            Some(ended) = tasks.join_next_with_id() => {
                under_way.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            () = jobs.messages.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    // Each has its timeout.
    while tasks.join_next().await.is_some() {}
}

fn by_tenant<'a>(
    under_way: impl Iterator<Item = &'a (TenantId, DeliveryId)>,
) -> HashMap<TenantId, HashSet<DeliveryId>> {
    let mut tenants: HashMap<_, HashSet<_>> = HashMap::new();
    for (tenant, id) in under_way {
        tenants.entry(tenant.clone()).or_default().insert(*id);
    }
    tenants
}

async fn deliver(jobs: Arc<Jobs>, courier: Arc<dyn Courier>, delivery: Delivery) {
    let outcome = attempt(&jobs, &*courier, &delivery).await;
    let at = SystemTime::now();
    let kept_until = at + jobs.config.webhooks.keep;
    let end = |state| Next::End { state, kept_until };
    let (word, next, reason) = match outcome.verdict {
        Verdict::Delivered => (Some("delivered"), end(DeliveryState::Delivered), None),
        Verdict::Held => (None, Next::Held, Some(HELD.to_owned())),
        Verdict::Again { pause, reason } => {
            (Some("retried"), Next::Again { due: at + pause }, Some(reason))
        }
        Verdict::GivenUp(reason) => {
            let Delivery { id, tenant, webhook, .. } = &delivery;
            let webhook = &webhook.name;
            tracing::warn!(%id, %tenant, %webhook, reason, "message to a webhook is given up");
            (Some("failed"), end(DeliveryState::Failed), Some(reason))
        }
    };
    if let Some(word) = word {
        jobs.metrics.sent(word);
    }
    let sending = Sending { at, counts: outcome.counts, status: outcome.status, reason, next };
    while let Err(error) = jobs.queue.settle_delivery(delivery.id, sending.clone()).await {
        tracing::error!(id = %delivery.id, %error, "what came of a message can't be written");
        if jobs.closes_within(DISK_PAUSE).await {
            // It still waits, and is sent again after the next start.
            return;
        }
    }
    if next == Next::Held {
        // Its webhook may have got a secret since it was looked at, and nobody else would look again.
        let webhook = HeldWebhook { tenant: delivery.tenant, webhook: delivery.webhook };
        if let Err(error) = held::release_of(&jobs, webhook).await {
            tracing::error!(id = %delivery.id, %error, "a message may be held back until the next start");
        }
    }
}

/// Sends a message once, if it can be.
async fn attempt(jobs: &Jobs, courier: &dyn Courier, delivery: &Delivery) -> Outcome {
    let config = &jobs.config.webhooks;
    let backoff = Backoff { first: config.first_pause, longest: config.longest_pause };
    let unsent = |verdict| Outcome { verdict, status: None, counts: false };
    let webhook = match jobs.catalog().webhook(&delivery.tenant, &delivery.webhook.name) {
        None => return unsent(Verdict::GivenUp(DELETED.into())),
        Some(webhook) if !delivery.webhook.is(&webhook) => {
            return unsent(Verdict::GivenUp(REPLACED.into()));
        }
        Some(webhook) => webhook,
    };
    let Some(request) = request(&webhook, delivery, SystemTime::now()) else {
        return unsent(Verdict::Held);
    };
    let outcome = courier.send(request, config.timeout).await;
    let verdict = judge(&outcome, delivery, backoff, jobs.moment());
    tracing::debug!(id = %delivery.id, ?outcome, ?verdict, "message to a webhook was sent");
    Outcome { verdict, status: outcome.ok().map(|receipt| receipt.status), counts: true }
}

/// The request that has a message in it, signed; none if the webhook has no secret that can be used.
fn request(webhook: &Webhook, delivery: &Delivery, now: SystemTime) -> Option<Request<Bytes>> {
    let id = delivery.id.to_string();
    let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signature = sign(&secrets_of(webhook, now)?, &id, timestamp, &delivery.body)?;
    let request = Request::post(webhook.url.uri().clone())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "quern")
        .header(WEBHOOK_ID, id)
        .header(WEBHOOK_TIMESTAMP, timestamp)
        .header(WEBHOOK_SIGNATURE, signature)
        .body(Bytes::from(delivery.body.clone()));
    Some(request.expect("an address that was parsed, and headers of ASCII"))
}
