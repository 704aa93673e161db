//! The ends of calls, told to webhooks: signed, sent until they are taken, and given up in the end.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use quern_jobs::{DeliveryQuery, DeliveryRecord, Jobs, JobsConfig, NewJob, WebhooksConfig};
use quern_types::{Caller, DeliveryState, Name, SecretValue, TenantId};
use ring::hmac;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    calls::Scripted,
    common::{PATIENCE, Posted, config, id, job, jobs, open, open_with, until_final},
};

fn shop() -> Name {
    "shop".parse().expect("a name")
}

/// A call that names the webhook, as there is one.
fn told(jobs: &Jobs, number: u8) -> NewJob {
    let webhook = jobs.webhook(&TenantId::default(), &shop()).expect("is there");
    NewJob { webhook: Some(webhook.named()), ..job(number) }
}

/// Takes a call in and calls it off: its message waits then.
async fn ended(jobs: &Jobs, number: u8) {
    jobs.enqueue(told(jobs, number)).await.expect("is taken in");
    jobs.cancel(&TenantId::default(), id(number)).await.expect("it waits");
}

async fn made(jobs: &Jobs) -> SecretValue {
    let url = "https://example.com/hooks?key=a".parse().expect("an address");
    let made = jobs.put_webhook(&Caller::unasked(), shop(), url).await;
    made.expect("there is a key for secrets").expect("it is new")
}

/// Waits until the only message has ended.
async fn until_ended(jobs: &Jobs) -> DeliveryRecord {
    until_it(jobs, |message| message.state != DeliveryState::Waiting).await
}

/// Waits until something is so of the only message.
async fn until_it(jobs: &Jobs, is_so: impl Fn(&DeliveryRecord) -> bool) -> DeliveryRecord {
    let wait = async {
        loop {
            let (tenant, webhook) = (TenantId::default(), Some(shop()));
            let query = DeliveryQuery { tenant, webhook, state: None, before: None, limit: 9 };
            let found = jobs.deliveries(query).await.expect("reads");
            match &found[..] {
                [one] if is_so(one) => return one.clone(),
                [] | [_] => tokio::time::sleep(Duration::from_millis(2)).await,
                more => panic!("one message, not {more:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes so far")
}

/// Whether one of a request's signatures is made with a secret, as the specification has it.
fn is_signed_with(request: &Request<Bytes>, secret: &SecretValue) -> bool {
    let header = |name: &str| request.headers()[name].to_str().expect("ASCII");
    let content = [header("webhook-id"), header("webhook-timestamp"), ""].join(".");
    let content = [content.as_bytes(), request.body()].concat();
    let bytes = BASE64_STANDARD.decode(&secret.expose()["whsec_".len()..]).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
    header("webhook-signature").split(' ').any(|signature| {
        let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").expect("version 1"));
        hmac::verify(&key, &content, &tag.expect("base64")).is_ok()
    })
}

#[tokio::test]
async fn the_end_of_a_call_is_told_until_it_is_taken() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    let secret = made(&jobs).await;
    let posted = Posted::new(&[0, 500, 302, 200]);
    jobs.start(Scripted::new(&[200], usize::MAX >> 4), posted.clone());
    jobs.enqueue(told(&jobs, 1)).await.expect("is taken in");
    jobs.enqueue(job(2)).await.expect("is taken in, and asks for no message");
    let ended = until_ended(&jobs).await;
    assert_eq!((ended.state, ended.attempts), (DeliveryState::Delivered, 4));
    assert_eq!((ended.call, ended.reason), (id(1), None));
    until_final(&jobs, 2).await;
    let requests = posted.take();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!(request.uri(), "https://example.com/hooks?key=a");
        assert_eq!(request.headers()["webhook-id"], *ended.id.to_string());
        assert_eq!(request.body(), requests[0].body(), "it says the same each time");
        assert!(is_signed_with(request, &secret));
    }
    let message: Value = serde_json::from_slice(requests[0].body()).expect("JSON");
    assert_eq!(message["type"], "invocation.succeeded");
    assert_eq!(message["data"]["id"], *id(1).to_string());
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn both_secrets_sign_while_one_replaces_the_other() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    let old = made(&jobs).await;
    let keep = Duration::from_secs(3_600);
    let new = jobs.rotate_webhook(&Caller::unasked(), shop(), keep).await.expect("is there");
    let posted = Posted::new(&[204]);
    jobs.start(Scripted::new(&[404], usize::MAX >> 4), posted.clone());
    jobs.enqueue(told(&jobs, 1)).await.expect("is taken in");
    until_ended(&jobs).await;
    let requests = posted.take();
    let [request] = &requests[..] else { panic!("one request") };
    assert!(is_signed_with(request, &old) && is_signed_with(request, &new));
    let other = SecretValue::new("whsec_b3RoZXI=".into()).expect("a secret");
    assert!(!is_signed_with(request, &other));
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn a_message_that_nobody_takes_is_given_up_and_can_be_sent_once_more() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let hasty = WebhooksConfig { max_age: Duration::from_millis(30), ..config().webhooks };
    let jobs = jobs(&store, JobsConfig { webhooks: hasty, ..config() });
    made(&jobs).await;
    jobs.start(Scripted::new(&[200], usize::MAX >> 4), Posted::new(&[0]));
    jobs.enqueue(told(&jobs, 1)).await.expect("is taken in");
    let ended = until_ended(&jobs).await;
    assert_eq!(ended.state, DeliveryState::Failed);
    let reason = ended.reason.expect("a reason");
    assert!(reason.contains("time"), "{reason}");
    let tenant = TenantId::default();
    jobs.retry_delivery(&tenant, ended.id).await.expect("it was given up");
    let again = until_ended(&jobs).await;
    assert_eq!((again.id, again.state), (ended.id, DeliveryState::Failed));
    assert!(again.ended > ended.ended);
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_deleted_is_given_up_at_once() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    made(&jobs).await;
    ended(&jobs, 1).await;
    jobs.delete_webhook(&Caller::unasked(), shop()).await.expect("is there");
    let given_up = until_ended(&jobs).await;
    assert_eq!((given_up.state, given_up.attempts), (DeliveryState::Failed, 0));
    assert_eq!(given_up.reason.as_deref(), Some("its webhook was deleted"));
}

#[tokio::test]
async fn what_was_for_a_webhook_never_goes_to_another_one_of_its_name() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    made(&jobs).await;
    jobs.enqueue(told(&jobs, 1)).await.expect("is taken in");
    jobs.delete_webhook(&Caller::unasked(), shop()).await.expect("is there");
    made(&jobs).await;
    let posted = Posted::new(&[200]);
    jobs.start(Scripted::new(&[200], usize::MAX >> 4), posted.clone());
    let given_up = until_ended(&jobs).await;
    assert_eq!((given_up.state, given_up.attempts), (DeliveryState::Failed, 0));
    let reason = "its webhook was deleted, and the one that has its name now was made later";
    assert_eq!(given_up.reason.as_deref(), Some(reason));
    assert_eq!(posted.take().len(), 0);
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn what_was_never_sent_is_sent_however_old_it_is() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    // Its time is over with the call, as if the server had been down since.
    let hasty = WebhooksConfig { max_age: Duration::ZERO, ..config().webhooks };
    let jobs = jobs(&store, JobsConfig { webhooks: hasty, ..config() });
    made(&jobs).await;
    ended(&jobs, 1).await;
    let posted = Posted::new(&[200]);
    jobs.start(Scripted::new(&[200], 0), posted.clone());
    let sent = until_ended(&jobs).await;
    assert_eq!((sent.state, sent.attempts), (DeliveryState::Delivered, 1));
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn what_has_no_secret_to_be_signed_with_waits_for_it_however_long_and_goes_out_then() {
    let folder = TempDir::new().expect("a folder");
    let hasty = WebhooksConfig { max_age: Duration::ZERO, ..config().webhooks };
    let config = JobsConfig { webhooks: hasty, ..config() };
    let store = open(&folder).await;
    let first = jobs(&store, config.clone());
    made(&first).await;
    ended(&first, 1).await;
    store.close().await;
    drop((first, store));

    let store = open_with(&folder, None).await;
    let locked = jobs(&store, config.clone());
    let posted = Posted::new(&[200]);
    locked.start(Scripted::new(&[200], 0), posted.clone());
    let held = until_it(&locked, |message| message.due.is_none()).await;
    assert_eq!((held.state, held.attempts), (DeliveryState::Waiting, 0));
    let reason = held.reason.expect("a reason");
    assert!(reason.contains("secret"), "{reason}");
    assert_eq!(posted.take().len(), 0);
    locked.close();
    locked.drain().await;
    store.close().await;
    drop((locked, store));

    let store = open(&folder).await;
    let unlocked = jobs(&store, config);
    unlocked.start(Scripted::new(&[200], 0), posted.clone());
    let sent = until_ended(&unlocked).await;
    assert_eq!((sent.id, sent.state), (held.id, DeliveryState::Delivered));
    assert_eq!((sent.attempts, sent.reason), (1, None));
    unlocked.close();
    unlocked.drain().await;
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_gone_is_given_up_and_never_sent() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    made(&jobs).await;
    let posted = Posted::nothing();
    let carrier = Scripted::new(&[200], 0);
    jobs.enqueue(told(&jobs, 1)).await.expect("is taken in");
    jobs.delete_webhook(&Caller::unasked(), shop()).await.expect("is there");
    jobs.cancel(&TenantId::default(), id(1)).await.expect("it waits");
    jobs.start(carrier, Arc::clone(&posted) as _);
    let ended = until_ended(&jobs).await;
    assert_eq!((ended.state, ended.attempts), (DeliveryState::Failed, 0));
    assert_eq!(ended.reason.as_deref(), Some("its webhook was deleted"));
    assert_eq!(posted.take().len(), 0);
    jobs.close();
    jobs.drain().await;
}

#[tokio::test]
async fn a_message_whose_sending_was_cut_off_is_sent_after_the_next_start() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let first = jobs(&store, config());
    made(&first).await;
    first.enqueue(told(&first, 1)).await.expect("is taken in");
    // It has ended, and nobody has sent anything: as if the server had been killed in between.
    first.cancel(&TenantId::default(), id(1)).await.expect("it waits");
    store.close().await;
    drop((first, store));

    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    let posted = Posted::new(&[200]);
    jobs.start(Scripted::new(&[200], 0), posted.clone());
    let ended = until_ended(&jobs).await;
    assert_eq!((ended.state, ended.attempts), (DeliveryState::Delivered, 1));
    assert_eq!(posted.take().len(), 1);
    jobs.close();
    jobs.drain().await;
}
