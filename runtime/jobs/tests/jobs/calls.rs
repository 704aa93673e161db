//! Calls over a real queue, carried out by whatever the test says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use quern_jobs::{JobsConfig, NewJob};
use quern_types::{CallState, CarryOut, InvocationId, TenantId};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};

use crate::common::{PATIENCE, Posted, config, id, job, jobs, open, until_final};

/// Answers the tries of each call with these statuses, the last one from then on, once it is let.
pub(crate) struct Scripted {
    statuses: &'static [u16],
    tries: Mutex<HashMap<InvocationId, usize>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    turns: Semaphore,
    begun: Notify,
}

impl Scripted {
    pub(crate) fn new(statuses: &'static [u16], turns: usize) -> Arc<Self> {
        Arc::new(Self {
            statuses,
            tries: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            turns: Semaphore::new(turns),
            begun: Notify::new(),
        })
    }
}

impl CarryOut for Scripted {
    fn carry_out(
        self: Arc<Self>,
        id: InvocationId,
        _: TenantId,
        request: Request<Bytes>,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_running.fetch_max(running, Ordering::SeqCst);
            self.begun.notify_one();
            self.turns.acquire().await.expect("is never closed").forget();
            let tries = {
                let mut tries = self.tries.lock().expect("no panic");
                let tries = tries.entry(id).or_insert(0);
                *tries += 1;
                *tries
            };
            self.running.fetch_sub(1, Ordering::SeqCst);
            let status = self.statuses[tries.min(self.statuses.len()) - 1];
            let mut response = Response::new(request.into_body());
            *response.status_mut() = status.try_into().expect("a status");
            if status == 503 {
                response.headers_mut().insert("quern-error", "busy".parse().expect("a value"));
            }
            response
        })
    }
}

#[tokio::test]
async fn a_call_is_tried_until_it_succeeds() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    jobs.start(Scripted::new(&[500, 503, 503, 502, 200], usize::MAX >> 4), Posted::nothing());
    jobs.enqueue(job(1)).await.expect("is taken in");
    let call = until_final(&jobs, 1).await;
    assert_eq!(call.state, CallState::Succeeded);
    assert_eq!(call.attempts, 3, "what was busy does not count");
    let found = jobs.response(&TenantId::default(), id(1)).await.expect("reads");
    let response = found.expect("is there").content.expect("an answer");
    assert_eq!(response.body(), "flour");
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn a_call_that_was_never_begun_is_begun_however_long_that_takes() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    // Its time is over once it is taken in, as if the server had been down since.
    let jobs = jobs(&store, JobsConfig { age: Duration::ZERO, ..config() });
    jobs.enqueue(job(1)).await.expect("is taken in");
    jobs.enqueue(NewJob { age: Some(Duration::ZERO), ..job(2) }).await.expect("is taken in");
    jobs.enqueue(job(3)).await.expect("is taken in");
    jobs.start(Scripted::new(&[200], usize::MAX >> 4), Posted::nothing());
    for number in [1, 3] {
        assert_eq!(until_final(&jobs, number).await.state, CallState::Succeeded);
    }
    let said = until_final(&jobs, 2).await;
    assert_eq!(said.state, CallState::Dead, "its caller has said for how long");
    assert_eq!(said.reason.as_deref(), Some("its time was over before it could be begun"));
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn no_more_run_than_may() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, JobsConfig { concurrency: 3, ..config() });
    let carrier = Scripted::new(&[200], usize::MAX >> 4);
    jobs.start(carrier.clone(), Posted::nothing());
    for number in 1..=20 {
        jobs.enqueue(job(number)).await.expect("is taken in");
    }
    for number in 1..=20 {
        until_final(&jobs, number).await;
    }
    assert!(carrier.most_running.load(Ordering::SeqCst) <= 3);
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn what_ran_when_the_server_ended_is_tried_again_but_not_for_ever() {
    let folder = TempDir::new().expect("a folder");
    for (cycle, expected) in
        [CallState::Running, CallState::Running, CallState::Dead].iter().enumerate()
    {
        let store = open(&folder).await;
        let jobs = jobs(&store, config());
        if cycle == 0 {
            jobs.enqueue(NewJob { attempts: Some(2), ..job(1) }).await.expect("is taken in");
        }
        // It never gets its turn, so that it runs until the server ends.
        let carrier = Scripted::new(&[200], 0);
        jobs.start(carrier.clone(), Posted::nothing());
        if *expected == CallState::Running {
            let begun = tokio::time::timeout(PATIENCE, carrier.begun.notified()).await;
            begun.expect("it is begun");
            let call = jobs.call(&TenantId::default(), id(1)).await.expect("reads");
            assert_eq!(call.expect("is there").attempts as usize, cycle + 1);
        } else {
            let call = until_final(&jobs, 1).await;
            assert_eq!(call.state, CallState::Dead);
            let reason = call.reason.expect("a reason");
            assert_eq!(reason, "the server ended while it ran, at the last of 2 tries");
            assert_eq!(call.status, None);
        }
        jobs.close();
        // As a kill would: what runs is not settled.
        store.close().await;
    }
}
