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
    common::{PATIENCE, Posted, config, id, job, jobs, open, until_final},
};

fn shop() -> Name {
    "shop".parse().expect("a name")
}

fn told(number: u8) -> NewJob {
    NewJob { webhook: Some(shop()), ..job(number) }
}

async fn made(jobs: &Jobs) -> SecretValue {
    let url = "https://example.com/hooks?key=a".parse().expect("an address");
    let made = jobs.put_webhook(&Caller::unasked(), shop(), url).await;
    made.expect("there is a key for secrets").expect("it is new")
}

/// Waits until the only message has ended.
async fn until_ended(jobs: &Jobs) -> DeliveryRecord {
    let wait = async {
        loop {
            let (tenant, webhook) = (TenantId::default(), Some(shop()));
            let query = DeliveryQuery { tenant, webhook, state: None, before: None, limit: 9 };
            let found = jobs.deliveries(query).await.expect("reads");
            match &found[..] {
                [one] if one.state != DeliveryState::Waiting => return one.clone(),
                [] | [_] => tokio::time::sleep(Duration::from_millis(2)).await,
                more => panic!("one message, not {more:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to its end")
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
    jobs.enqueue(told(1)).await.expect("is taken in");
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
    jobs.enqueue(told(1)).await.expect("is taken in");
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
    jobs.enqueue(told(1)).await.expect("is taken in");
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
async fn what_waits_for_a_webhook_that_is_gone_is_given_up_and_never_sent() {
    let folder = TempDir::new().expect("a folder");
    let store = open(&folder).await;
    let jobs = jobs(&store, config());
    made(&jobs).await;
    let posted = Posted::nothing();
    let carrier = Scripted::new(&[200], 0);
    jobs.enqueue(told(1)).await.expect("is taken in");
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
    first.enqueue(told(1)).await.expect("is taken in");
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
