//! Messages whose webhook has no secret that this server can open are held back, for however long that
//! takes, and let go once it has one, or is gone.

use quern_store::{HeldWebhook, QueueFailure};

use super::{STEP, signature::can_sign};
use crate::Jobs;

/// Lets go what need not be held back any more.
pub(super) async fn release(jobs: &Jobs) -> Result<(), QueueFailure> {
    for webhook in jobs.queue.held_webhooks().await? {
        release_of(jobs, webhook).await?;
    }
    Ok(())
}

/// Lets go what is held back for a webhook, unless that still has no secret.
pub(super) async fn release_of(jobs: &Jobs, webhook: HeldWebhook) -> Result<(), QueueFailure> {
    let HeldWebhook { tenant, webhook: named } = &webhook;
    let found = jobs.catalog().webhook(tenant, &named.name);
    let now = jobs.moment().now;
    if found.is_some_and(|found| named.is(&found) && !can_sign(&found, now)) {
        return Ok(());
    }
    let step = || jobs.queue.release_deliveries(webhook.clone(), STEP, now);
    while step().await? == STEP && !jobs.closing.is_cancelled() {}
    Ok(())
}
