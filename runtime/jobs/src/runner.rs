//! Carries calls out: claims those whose time has come, as many as may run, and settles what comes
//! of them. Each call is a task; one loop begins them all.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::try_join_all;
use http::Response;
use quern_store::{ClaimLimits, ClaimedCall, Ending, Pause, QueueFailure};
use quern_types::{CallState, CarryOut, InvocationId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Jobs,
    backoff::Backoff,
    verdict::{Outcome, Verdict, judge, too_late},
};

/// Most calls of one claim.
const CLAIM: usize = 64;
/// Longest sleep while nothing is due: the clock may have been set in between.
const IDLE: Duration = Duration::from_secs(1);
/// Pause while calls are due, but not allowed to run.
const HELD: Duration = Duration::from_millis(20);
/// Pause after the disk has failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Calls that one step takes care of after a start.
const STRANDED: usize = 1_000;

/// Carries calls out until nothing more is to be begun.
pub(crate) async fn run(jobs: Arc<Jobs>, carrier: Arc<dyn CarryOut>) {
    while let Err(error) = recover(&jobs).await {
        tracing::error!(%error, "calls that ran when the server ended can't be settled yet");
        if jobs.closes_within(DISK_PAUSE).await {
            return;
        }
    }
    let permits = Arc::new(Semaphore::new(jobs.config.concurrency as usize));
    let mut last = None;
    loop {
        let first = tokio::select! {
            biased;
            () = jobs.closing.cancelled() => return,
            permit = permits.clone().acquire_owned() => permit.expect("is never closed"),
        };
        let others = std::iter::from_fn(|| permits.clone().try_acquire_owned().ok());
        let mut free: Vec<_> = std::iter::once(first).chain(others.take(CLAIM - 1)).collect();
        let limits = ClaimLimits {
            most: free.len(),
            tenant_running: jobs.config.tenant_concurrency.into(),
            longest_pause: jobs.config.longest_pause,
        };
        let now = SystemTime::now();
        let claimed = match jobs.queue.claim(limits, last.take(), now).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "no calls can be begun");
                drop(free);
                if jobs.closes_within(DISK_PAUSE).await {
                    return;
                }
                continue;
            }
        };
        last = claimed.last;
        let nothing = claimed.calls.is_empty();
        for (call, permit) in claimed.calls.into_iter().zip(free.drain(..)) {
            jobs.tasks.spawn(attempt(jobs.clone(), carrier.clone(), call, permit));
        }
        drop(free);
        if nothing {
            let wait = match claimed.next_due.map(|due| due.duration_since(now)) {
                None => IDLE,
                Some(Ok(wait)) => wait.min(IDLE),
                Some(Err(_)) => HELD,
            };
            tokio::select! {
                biased;
                () = jobs.closing.cancelled() => return,
                () = jobs.news.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// Settles the calls that ran when the server ended: each may run again, unless this was its last
/// try, so that a call which ends the server does not do so for ever.
async fn recover(jobs: &Jobs) -> Result<(), QueueFailure> {
    loop {
        let stranded = jobs.queue.stranded(STRANDED).await?;
        if stranded.is_empty() {
            return Ok(());
        }
        tracing::info!(calls = stranded.len(), "calls ran when the server ended last");
        // Together, so that they share their commits.
        let settle = stranded.into_iter().map(|(id, progress)| async move {
            let verdict = judge(Outcome::Interrupted, &progress, jobs.backoff(), jobs.moment());
            jobs.metrics.tried(verdict.word());
            jobs.settle(id, &verdict, None).await
        });
        try_join_all(settle).await?;
    }
}

async fn attempt(
    jobs: Arc<Jobs>,
    carrier: Arc<dyn CarryOut>,
    call: ClaimedCall,
    permit: OwnedSemaphorePermit,
) {
    let ClaimedCall { id, tenant, request, progress } = call;
    let backoff = jobs.backoff();
    let (verdict, response) = match too_late(&progress, backoff, jobs.moment()) {
        Some(verdict) => (verdict, None),
        None => {
            let response = carrier.carry_out(id, tenant, request).await;
            let moment = jobs.moment();
            let outcome = Outcome::of(&response, moment.now);
            (judge(outcome, &progress, backoff, moment), Some(response))
        }
    };
    jobs.metrics.tried(verdict.word());
    tracing::debug!(%id, attempt = progress.attempts, ?verdict, "asynchronous call was tried");
    if let Verdict::GivenUp(reason) = &verdict {
        tracing::info!(invocation = %id, reason, "asynchronous call is a dead letter");
    }
    // Not before it is on the disk may it be taken for settled.
    while let Err(error) = jobs.settle(id, &verdict, response.clone()).await {
        tracing::error!(%id, %error, "what came of a call can't be written");
        if jobs.closes_within(DISK_PAUSE).await {
            // It still counts as running, and will be settled at the next start.
            return;
        }
    }
    drop(permit);
    jobs.news.notify_one();
}

impl Jobs {
    fn backoff(&self) -> Backoff {
        Backoff { first: self.config.first_pause, longest: self.config.longest_pause }
    }

    /// Waits for a while; returns whether nothing more is to be begun.
    pub(crate) async fn closes_within(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.closing.cancelled()).await.is_ok()
    }

    /// Writes down what was decided of a running call.
    async fn settle(
        &self,
        id: InvocationId,
        verdict: &Verdict,
        response: Option<Response<Bytes>>,
    ) -> Result<(), QueueFailure> {
        let at = SystemTime::now();
        let (state, reason, keep) = match verdict {
            Verdict::Again { pause, counts, reason } => {
                let status = response.map(|response| response.status());
                let pause =
                    Pause { due: at + *pause, counts: *counts, status, reason: reason.clone() };
                return self.queue.put_back(id, pause).await;
            }
            Verdict::Ended(state) => (*state, None, self.config.keep_results),
            Verdict::GivenUp(reason) => {
                (CallState::Dead, Some(reason.clone()), self.config.keep_dead)
            }
        };
        let announcement = self.announcement();
        let ending = Ending { state, response, reason, at, kept_until: at + keep, announcement };
        if self.queue.finish(id, ending).await? {
            self.messages.notify_one();
        }
        Ok(())
    }
}

impl Verdict {
    /// The label of its metric.
    fn word(&self) -> &'static str {
        match self {
            Self::Ended(state) => state.as_str(),
            Self::GivenUp(_) => CallState::Dead.as_str(),
            Self::Again { counts: true, .. } => "retried",
            Self::Again { counts: false, .. } => "refused",
        }
    }
}
