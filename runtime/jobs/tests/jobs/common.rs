//! What the tests share: a queue in a temporary folder, a call, and somebody who takes messages.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use prometheus::Registry;
use quern_jobs::{CallRecord, Jobs, JobsConfig, NewJob, WebhooksConfig};
use quern_store::{SecretsKey, Store, StoreConfig};
use quern_types::{CallKind, Callee, Courier, Digest, InvocationId, NotSent, Receipt, TenantId};
use tempfile::TempDir;

/// Nothing here takes long: a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Answers the messages with these statuses, the last one from then on; 0 is no answer at all.
pub(crate) struct Posted {
    statuses: &'static [u16],
    requests: Mutex<Vec<Request<Bytes>>>,
}

impl Posted {
    pub(crate) fn new(statuses: &'static [u16]) -> Arc<Self> {
        Arc::new(Self { statuses, requests: Mutex::default() })
    }

    /// What was sent.
    pub(crate) fn take(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }

    /// Where there is nothing to be sent.
    pub(crate) fn nothing() -> Arc<Self> {
        Self::new(&[0])
    }
}

impl Courier for Posted {
    fn send(
        &self,
        request: Request<Bytes>,
        _: Duration,
    ) -> BoxFuture<'static, Result<Receipt, NotSent>> {
        let mut requests = self.requests.lock().expect("no panic");
        requests.push(request);
        let status = self.statuses[requests.len().min(self.statuses.len()) - 1];
        let answer = match status {
            0 => Err(NotSent { reason: "nobody is there".into() }),
            status => {
                Ok(Receipt { status: status.try_into().expect("a status"), retry_after: None })
            }
        };
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) async fn open(folder: &TempDir) -> Arc<Store> {
    open_with(folder, Some(Arc::new("7".repeat(64).parse().expect("a key")))).await
}

pub(crate) async fn open_with(
    folder: &TempDir,
    secrets_key: Option<Arc<SecretsKey>>,
) -> Arc<Store> {
    let config = StoreConfig {
        directory: folder.path().to_owned(),
        keep_versions: 1,
        log_records: 1,
        log_bytes: quern_types::ByteSize::mib(1),
        bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
        secrets_key,
    };
    Arc::new(Store::open(config, &Registry::new()).await.expect("opens"))
}

pub(crate) fn config() -> JobsConfig {
    JobsConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        webhooks: WebhooksConfig {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(5),
            ..WebhooksConfig::default()
        },
        ..JobsConfig::default()
    }
}

pub(crate) fn jobs(store: &Arc<Store>, config: JobsConfig) -> Arc<Jobs> {
    Jobs::new(store.clone(), config, &Registry::new()).expect("registers")
}

pub(crate) fn id(number: u8) -> InvocationId {
    format!("01936a5e-0000-7000-8000-0000000000{number:02x}").parse().expect("an id")
}

pub(crate) fn job(number: u8) -> NewJob {
    NewJob {
        id: id(number),
        tenant: TenantId::default(),
        callee: Callee { kind: CallKind::Http, name: "hello".parse().expect("a name") },
        request: Request::builder().uri("/f/hello").body("flour".into()).expect("a request"),
        key: None,
        webhook: None,
        digest: Digest::of(b"flour"),
        attempts: None,
        age: None,
    }
}

pub(crate) async fn until_final(jobs: &Jobs, number: u8) -> CallRecord {
    let wait = async {
        loop {
            let call = jobs.call(&TenantId::default(), id(number)).await.expect("reads");
            let call = call.expect("is there");
            if call.state.is_final() {
                return call;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to its end")
}
