//! Shows how much there is in the queue, and removes what is kept no longer, a little at a time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quern_store::{Keep, QueueFailure};

use crate::{Jobs, verdict::Moment};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Calls, or messages, that one step removes: others wait for the disk meanwhile.
const STEP: usize = 500;
/// Messages to webhooks of one tenant that are kept once they were taken or given up.
const KEPT_MESSAGES: u64 = 10_000;

/// Looks after the queue until nothing more is to be begun.
pub(crate) async fn run(jobs: Arc<Jobs>) {
    if jobs.moment().hesitates {
        tracing::info!(
            "nothing was queued in the ten minutes before this start, or the clock was set forward: \
             for ten minutes nothing is removed that has expired, or given up for its age"
        );
    }
    loop {
        let Moment { now, hesitates, .. } = jobs.moment();
        if let Err(error) = look(&jobs, now, hesitates).await {
            tracing::warn!(%error, "the queue of asynchronous calls can't be swept");
        }
        if jobs.closes_within(PERIOD).await {
            return;
        }
    }
}

async fn look(jobs: &Jobs, now: SystemTime, hesitates: bool) -> Result<(), QueueFailure> {
    // What there is too much of goes in any case, whatever the clock says.
    let expired = if hesitates { UNIX_EPOCH } else { now };
    let tenant_bytes = jobs.config.keep_bytes;
    let keep = Keep { tenant_bytes, tenant_messages: KEPT_MESSAGES, step: STEP };
    while !jobs.closing.is_cancelled() {
        let removed = jobs.queue.sweep(keep, expired).await?;
        jobs.metrics.removed.inc_by(removed as u64);
        if removed < STEP {
            break;
        }
    }
    while !jobs.closing.is_cancelled() {
        if jobs.queue.sweep_deliveries(keep, expired).await? < STEP {
            break;
        }
    }
    jobs.metrics.show(&jobs.queue.usage().await?, now);
    jobs.metrics.show_deliveries(&jobs.queue.delivery_counts().await?);
    Ok(())
}
