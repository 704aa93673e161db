//! Shows how much there is in the queue, and removes what is kept no longer, a little at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use quern_store::{Keep, QueueFailure};
use quern_types::Hesitation;

use crate::Jobs;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Calls that one step removes: others wait for the disk meanwhile.
const STEP: usize = 500;

/// Looks after the queue until nothing more is to be begun.
pub(crate) async fn run(jobs: Arc<Jobs>) {
    let mut hesitation = Hesitation::new(SystemTime::now(), Instant::now());
    loop {
        let now = SystemTime::now();
        let removes = !hesitation.holds(now, Instant::now());
        if let Err(error) = look(&jobs, now, removes).await {
            tracing::warn!(%error, "the queue of asynchronous calls can't be swept");
        }
        if jobs.closes_within(PERIOD).await {
            return;
        }
    }
}

async fn look(jobs: &Jobs, now: SystemTime, removes: bool) -> Result<(), QueueFailure> {
    let keep = Keep { tenant_bytes: jobs.config.keep_bytes, step: STEP };
    while removes && !jobs.closing.is_cancelled() {
        let removed = jobs.queue.sweep(keep, now).await?;
        jobs.metrics.removed.inc_by(removed as u64);
        if removed < STEP {
            break;
        }
    }
    jobs.metrics.show(&jobs.queue.usage().await?, now);
    Ok(())
}
