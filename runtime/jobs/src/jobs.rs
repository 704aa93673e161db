//! Asynchronous calls as the edge sees them: taken in, asked for, called off, replayed. Carrying
//! them out is in `runner`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use prometheus::Registry;
use quern_store::{
    CallQuery, CallQueue, CallRecord, Cancellation, Catalog, ChangeError, EnqueueError, Enqueued,
    Found, NewCall, QueueFailure, Store,
};
use quern_types::{
    Callee, CarryOut, Courier, Digest, Hesitation, InvocationId, NamedWebhook, TenantId,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{JobsConfig, cron, metrics::Metrics, runner, sweeper, verdict::Moment, webhooks};

/// The asynchronous calls of a server.
pub struct Jobs {
    store: Arc<Store>,
    pub(crate) queue: Arc<CallQueue>,
    pub(crate) config: JobsConfig,
    pub(crate) metrics: Metrics,
    /// Told when a call may be waiting to be begun.
    pub(crate) news: Notify,
    /// Told when a message to a webhook may be waiting to be sent.
    pub(crate) messages: Notify,
    /// Told when a schedule was put or deleted.
    pub(crate) changed: Notify,
    /// Cancelled when nothing more is to be begun.
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    hesitation: Mutex<Hesitation>,
}

/// A call that is to be taken in.
#[derive(Debug)]
pub struct NewJob {
    /// Names the request that brought it, and the call from then on.
    pub id: InvocationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The function or model that it calls.
    pub callee: Callee,
    /// What is to be carried out; its URI is a path with a query.
    pub request: Request<Bytes>,
    /// What its caller names it by.
    pub key: Option<String>,
    /// The webhook that is told how it ends.
    pub webhook: Option<NamedWebhook>,
    /// Of everything that a second call with its key must have in common with it.
    pub digest: Digest,
    /// How often it is tried; none: as the server is configured.
    pub attempts: Option<u32>,
    /// For how long it is tried, and not begun once that is over; none: as the server is configured,
    /// and it is begun once however long that takes.
    pub age: Option<Duration>,
}

impl Jobs {
    /// The calls of a store. Nothing is carried out before [`Jobs::start`].
    ///
    /// # Errors
    /// If its metrics are registered already.
    pub fn new(
        store: Arc<Store>,
        config: JobsConfig,
        registry: &Registry,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let (now, last) = (SystemTime::now(), store.queue().last_noted());
        Ok(Arc::new(Self {
            queue: store.queue().clone(),
            store,
            config,
            metrics: Metrics::register(registry)?,
            news: Notify::new(),
            messages: Notify::new(),
            changed: Notify::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            hesitation: Mutex::new(Hesitation::new(now, Instant::now(), last)),
        }))
    }

    /// Begins to carry out what waits, and to send messages, in tasks that end after
    /// [`Jobs::close`].
    pub fn start(self: &Arc<Self>, carrier: Arc<dyn CarryOut>, courier: Arc<dyn Courier>) {
        self.tasks.spawn(runner::run(self.clone(), carrier));
        self.tasks.spawn(webhooks::run(self.clone(), courier));
        self.tasks.spawn(sweeper::run(self.clone()));
        self.tasks.spawn(cron::run(self.clone()));
    }

    /// Begins nothing more.
    pub fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
    }

    /// Waits, after [`Jobs::close`], until what runs has come to its end or is back in the queue.
    pub async fn drain(&self) {
        self.tasks.wait().await;
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        self.store.catalog()
    }

    /// This moment. Whoever decides by it, looks at the clock with it.
    pub(crate) fn moment(&self) -> Moment {
        let (now, steady) = (SystemTime::now(), Instant::now());
        let mut hesitation = self.hesitation.lock().unwrap_or_else(PoisonError::into_inner);
        Moment { now, hesitates: hesitation.holds(now, steady), random: fastrand::u64(..) }
    }

    /// The limits.
    pub fn config(&self) -> &JobsConfig {
        &self.config
    }

    /// Takes a call in, or finds the one that has its key. Once this returns, it is not lost.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        let NewJob { id, tenant, callee, request, key, webhook, digest, attempts, age } = job;
        let call = NewCall {
            id,
            tenant,
            callee,
            request,
            key,
            webhook,
            digest,
            max_attempts: attempts.unwrap_or(self.config.attempts),
            max_age: age.unwrap_or(self.config.age),
            lapses: age.is_some(),
            created: SystemTime::now(),
        };
        let enqueued = self.queue.enqueue(call, self.config.waiting).await?;
        match enqueued.is_new {
            true => {
                self.metrics.enqueued.inc();
                self.news.notify_one();
            }
            false => self.metrics.repeated.inc(),
        }
        Ok(enqueued)
    }

    /// One call of a tenant.
    pub async fn call(
        &self,
        tenant: &TenantId,
        id: InvocationId,
    ) -> Result<Option<CallRecord>, QueueFailure> {
        self.queue.call(tenant.clone(), id).await
    }

    /// The answer to a call of a tenant, with the call's state.
    pub async fn response(
        &self,
        tenant: &TenantId,
        id: InvocationId,
    ) -> Result<Option<Found<Response<Bytes>>>, QueueFailure> {
        self.queue.response(tenant.clone(), id).await
    }

    /// The calls that are asked for, the newest first.
    pub async fn list(&self, query: CallQuery) -> Result<Vec<CallRecord>, QueueFailure> {
        self.queue.list(query).await
    }

    /// Calls a waiting call off.
    pub async fn cancel(&self, tenant: &TenantId, id: InvocationId) -> Result<(), ChangeError> {
        let at = SystemTime::now();
        let kept_until = at + self.config.keep_results;
        let end = Cancellation { at, kept_until, announcement: self.announcement() };
        if self.queue.cancel(tenant.clone(), id, end).await? {
            self.messages.notify_one();
        }
        Ok(())
    }

    /// Queues a dead letter again, as if it were new, if there is room for it.
    pub async fn replay(&self, tenant: &TenantId, id: InvocationId) -> Result<(), ChangeError> {
        let (limits, now) = (self.config.waiting, SystemTime::now());
        self.queue.replay(tenant.clone(), id, limits, now).await?;
        self.news.notify_one();
        Ok(())
    }

    /// Removes a dead letter.
    pub async fn drop_dead(&self, tenant: &TenantId, id: InvocationId) -> Result<(), ChangeError> {
        self.queue.drop_dead(tenant.clone(), id).await
    }
}
