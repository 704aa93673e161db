//! Messages to webhooks on a real folder: queued with the end of their call, sent, settled, sent once
//! more, and removed.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use http::StatusCode;
use quern_store::{
    CallQueue, Delivery, DeliveryQuery, DueQuery, EnqueueError, GivingUp, HeldWebhook, Keep,
    NewCall, Next, QueueFull, QueueLimits, Retry, RetryError, Scope, Sending, Store,
};
use quern_types::{ByteSize, CallState, DeliveryId, DeliveryState, NamedWebhook, TenantId};
use tempfile::TempDir;

use crate::{
    common::{name, open, tenant},
    queue::{ALL, PLENTY, at, begun, call, cancellation, ending, id, of_tenant, take_in},
};

/// The webhook of a name that was made at a time.
fn webhook(webhook: &str, seconds: u64) -> NamedWebhook {
    NamedWebhook { name: name(webhook), created: Some(at(seconds)) }
}

fn told(call: NewCall) -> NewCall {
    NewCall { webhook: Some(webhook("shop", 1)), ..call }
}

/// A store with calls that have ended one second apart, from 51 on.
async fn ended(folder: &TempDir, calls: Vec<NewCall>) -> Store {
    let store = open(folder.path(), 3).await;
    take_in(store.queue(), calls).await;
    for (call, second) in begun(store.queue(), ALL, 50).await.into_iter().zip(51..) {
        let end = ending(CallState::Succeeded, second);
        assert_eq!(store.queue().finish(call, end).await, Ok(true), "it has a message");
    }
    store
}

fn query(seconds: u64) -> DueQuery {
    let under_way = HashMap::new();
    let longest_pause = Duration::from_secs(1_000);
    let now = at(seconds);
    DueQuery { most: 10, of_tenant: 10, after: None, under_way, longest_pause, now }
}

async fn due(queue: &CallQueue, query: DueQuery) -> Vec<Delivery> {
    queue.due_deliveries(query).await.expect("reads").deliveries
}

fn sent(seconds: u64, next: Next) -> Sending {
    let (status, reason) = (Some(StatusCode::BAD_GATEWAY), Some("502".to_owned()));
    Sending { at: at(seconds), counts: true, status, reason, next }
}

fn end(state: DeliveryState, seconds: u64) -> Next {
    Next::End { state, kept_until: at(seconds) }
}

fn unknown() -> DeliveryId {
    "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id")
}

#[tokio::test]
async fn each_end_of_a_call_that_asks_for_it_is_told_once_and_survives_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 3).await;
    let queue = store.queue();
    take_in(queue, [told(call(1)), call(2), told(call(3))]).await;
    assert_eq!(queue.cancel(tenant(), id(3), cancellation(4)).await, Ok(true));
    assert_eq!(begun(queue, ALL, 50).await, [id(1), id(2)]);
    let finish = async |number| queue.finish(id(number), ending(CallState::Dead, 51)).await;
    assert_eq!(finish(1).await, Ok(true));
    assert_eq!(finish(1).await, Ok(false), "it has ended already");
    assert_eq!(finish(2).await, Ok(false), "nobody asked for it");
    let shown = queue.call(tenant(), id(1)).await.expect("reads").expect("is there");
    assert_eq!(shown.webhook, Some(name("shop")));
    store.close().await;
    drop(store);

    let store = open(folder.path(), 3).await;
    let queue = store.queue();
    assert_eq!(due(queue, query(3)).await, [], "its time has not come");
    let [cancelled, dead] = &due(queue, query(51)).await[..] else { panic!("two messages") };
    assert_eq!((&*cancelled.body, &*dead.body), ("cancelled", "dead"));
    assert_eq!((&dead.webhook, dead.attempts, dead.expires), (&webhook("shop", 1), 0, at(151)));
    // One that is replayed ends once more, which is another message.
    queue.replay(tenant(), id(1), PLENTY, at(60)).await.expect("it is dead");
    assert_eq!(begun(queue, ALL, 60).await, [id(1)]);
    queue.finish(id(1), ending(CallState::Succeeded, 61)).await.expect("writes");
    let bodies: Vec<_> = due(queue, query(61)).await.into_iter().map(|due| due.body).collect();
    assert_eq!(bodies, ["cancelled", "dead", "succeeded"]);
}

#[tokio::test]
async fn what_is_due_is_given_by_tenant_and_nothing_twice() {
    let folder = TempDir::new().expect("a folder");
    let flood = (1..=5).map(|number| told(of_tenant(number, "a")));
    let store = ended(&folder, flood.chain([told(of_tenant(6, "b"))]).collect()).await;
    let queue = store.queue();
    let of = |deliveries: &[Delivery]| -> Vec<String> {
        deliveries.iter().map(|delivery| delivery.tenant.to_string()).collect()
    };
    let first = due(queue, DueQuery { of_tenant: 2, ..query(100) }).await;
    assert_eq!(of(&first), ["a", "a", "b"], "none has more than its share");
    let mut under_way: HashMap<TenantId, HashSet<_>> = HashMap::new();
    for delivery in &first {
        under_way.entry(delivery.tenant.clone()).or_default().insert(delivery.id);
    }
    let held = DueQuery { of_tenant: 2, under_way: under_way.clone(), ..query(100) };
    assert_eq!(due(queue, held.clone()).await, []);
    let rest = due(queue, DueQuery { of_tenant: 10, ..held }).await;
    assert_eq!(of(&rest), ["a", "a", "a"]);
    assert!(rest.iter().all(|delivery| first.iter().all(|other| other.id != delivery.id)));
    let after = DueQuery { most: 1, after: Some(TenantId::new("a")), ..query(100) };
    assert_eq!(of(&due(queue, after).await), ["b"], "whoever was not served comes first");
    let early = queue.due_deliveries(query(52)).await.expect("reads");
    assert_eq!((early.deliveries.len(), early.next), (2, Some(at(53))));
}

#[tokio::test]
async fn a_message_is_sent_again_until_it_is_taken_or_given_up() {
    let folder = TempDir::new().expect("a folder");
    let store = ended(&folder, vec![told(call(1)), told(call(2))]).await;
    let queue = store.queue();
    let ids: Vec<_> = due(queue, query(100)).await.iter().map(|due| due.id).collect();
    let [one, two] = ids[..] else { panic!("two messages") };
    queue.settle_delivery(one, sent(60, Next::Again { due: at(70) })).await.expect("writes");
    assert_eq!(due(queue, query(69)).await.len(), 1, "the other one");
    let shown = queue.delivery(tenant(), one).await.expect("reads").expect("is there");
    assert_eq!((shown.state, shown.attempts), (DeliveryState::Waiting, 1));
    assert_eq!((shown.due, shown.status), (Some(at(70)), Some(StatusCode::BAD_GATEWAY)));
    assert_eq!((shown.call, shown.reason.as_deref()), (id(1), Some("502")));
    // A pause is never so long: the clock was set back since.
    let set_back = DueQuery { longest_pause: Duration::from_secs(1), ..query(68) };
    assert_eq!(due(queue, set_back).await.len(), 2);
    let unsent = Sending { counts: false, ..sent(71, Next::Again { due: at(72) }) };
    queue.settle_delivery(one, unsent).await.expect("writes");
    let given_up = sent(73, end(DeliveryState::Failed, 80));
    queue.settle_delivery(one, given_up.clone()).await.expect("writes");
    queue.settle_delivery(two, sent(74, end(DeliveryState::Delivered, 90))).await.expect("writes");
    // What has ended is settled: a late writer changes nothing.
    queue.settle_delivery(two, given_up).await.expect("writes");
    let shown = queue.delivery(tenant(), one).await.expect("reads").expect("is there");
    assert_eq!((shown.attempts, shown.ended, shown.kept_until), (2, Some(at(73)), Some(at(80))));
    let other = queue.delivery(TenantId::new("other"), one).await;
    assert_eq!(other, Ok(None), "it is nobody else's");
    let list = async |webhook: Option<&str>, state, before| {
        let webhook = webhook.map(name);
        let query = DeliveryQuery { tenant: tenant(), webhook, state, before, limit: 10 };
        let listed = queue.deliveries(query).await.expect("reads");
        listed.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None).await, [two, one]);
    assert_eq!(list(None, None, Some(two)).await, [one]);
    assert_eq!(list(None, Some(DeliveryState::Failed), None).await, [one]);
    assert_eq!(list(Some("shop"), Some(DeliveryState::Delivered), None).await, [two]);
    assert_eq!(list(Some("other"), None, None).await, []);
    let counts = [DeliveryState::Waiting, DeliveryState::Delivered, DeliveryState::Failed];
    let expected = counts.into_iter().zip([0, 1, 1]).collect::<Vec<_>>();
    assert_eq!(queue.delivery_counts().await, Ok(expected));
}

#[tokio::test]
async fn what_is_held_back_waits_for_its_webhook_and_for_no_time() {
    let folder = TempDir::new().expect("a folder");
    let calls = [told(call(1)), told(call(2)), told(call(3)), told(of_tenant(4, "b"))];
    let store = ended(&folder, calls.into()).await;
    let queue = store.queue();
    let all = due(queue, query(100)).await;
    let hold = Sending { counts: false, status: None, ..sent(60, Next::Held) };
    for delivery in &all[..3] {
        queue.settle_delivery(delivery.id, hold.clone()).await.expect("writes");
    }
    let far = query(1 << 30);
    assert_eq!(due(queue, far.clone()).await.len(), 1, "the one that is not");
    let set_back = DueQuery { longest_pause: Duration::from_secs(1), ..query(0) };
    assert_eq!(due(queue, set_back).await.len(), 1, "nor does a clock let it go");
    assert_eq!(queue.due_deliveries(query(0)).await.expect("reads").next, Some(at(54)));
    let shown = queue.delivery(tenant(), all[1].id).await.expect("reads").expect("is there");
    assert_eq!((shown.state, shown.attempts, shown.due), (DeliveryState::Waiting, 0, None));
    let limits = QueueLimits { tenant_messages: 3, ..PLENTY };
    let full = QueueFull::Messages { scope: Scope::Tenant, limit: 3 };
    let refused = queue.enqueue(told(call(5)), limits).await;
    assert_eq!(refused, Err(EnqueueError::Full(full)), "it takes up room");

    let of = |tenant| HeldWebhook { tenant, webhook: webhook("shop", 1) };
    let mut held = queue.held_webhooks().await.expect("reads");
    held.sort_by_key(|held| held.tenant.to_string());
    assert_eq!(held, [of(TenantId::new("b")), of(tenant())]);
    let other = HeldWebhook { tenant: tenant(), webhook: webhook("shop", 2) };
    assert_eq!(queue.release_deliveries(other, 10, at(90)).await, Ok(0), "another of its name");
    assert_eq!(queue.release_deliveries(of(tenant()), 1, at(90)).await, Ok(1), "a step");
    assert_eq!(queue.release_deliveries(of(tenant()), 10, at(90)).await, Ok(1), "the rest");
    assert_eq!(queue.held_webhooks().await, Ok(vec![of(TenantId::new("b"))]));
    let free = due(queue, query(90)).await;
    let ids: HashSet<_> = free.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids, all[1..].iter().map(|delivery| delivery.id).collect());
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_gone_is_given_up_and_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    let named = |number, webhook| NewCall { webhook: Some(webhook), ..call(number) };
    let unknown = NamedWebhook { name: name("shop"), created: None };
    let calls = vec![
        named(1, webhook("shop", 1)),
        named(2, webhook("shop", 1)),
        named(3, unknown),
        named(4, webhook("shop", 2)),
        named(5, webhook("other", 1)),
        NewCall { tenant: TenantId::new("b"), ..named(6, webhook("shop", 1)) },
    ];
    let store = ended(&folder, calls).await;
    let queue = store.queue();
    let all = due(queue, query(100)).await;
    let hold = Sending { counts: false, ..sent(60, Next::Held) };
    let first = all.iter().find(|delivery| delivery.tenant == tenant()).expect("one of six");
    queue.settle_delivery(first.id, hold).await.expect("writes");
    let (at, kept_until) = (at(70), at(80));
    let end = GivingUp { at, kept_until, reason: "it is gone", most: 2 };
    let step = async || {
        let given_up = queue.give_up_deliveries(tenant(), webhook("shop", 1), end.clone()).await;
        given_up.expect("writes")
    };
    assert_eq!((step().await, step().await, step().await), (2, 1, 0));
    let failed = DeliveryQuery {
        tenant: tenant(),
        webhook: None,
        state: Some(DeliveryState::Failed),
        before: None,
        limit: 9,
    };
    let failed = queue.deliveries(failed).await.expect("reads");
    let mut calls: Vec<_> = failed.iter().map(|delivery| delivery.call).collect();
    calls.sort();
    assert_eq!(calls, [id(1), id(2), id(3)]);
    for delivery in failed {
        let ended = (delivery.ended, delivery.kept_until, delivery.due);
        assert_eq!(ended, (Some(at), Some(kept_until), None));
        assert_eq!(delivery.reason.as_deref(), Some("it is gone"));
    }
    assert_eq!(queue.held_webhooks().await, Ok(vec![]));
}

#[tokio::test]
async fn only_what_was_given_up_is_sent_once_more_if_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let store = ended(&folder, vec![told(call(1)), told(call(2))]).await;
    let queue = store.queue();
    let ids: Vec<_> = due(queue, query(100)).await.iter().map(|due| due.id).collect();
    let retry = Retry { at: at(90), max_age: Duration::from_secs(9), limits: PLENTY };
    let again = async |tenant, id, retry| queue.retry_delivery(tenant, id, retry).await;
    let waits = RetryError::State { id: ids[0], state: DeliveryState::Waiting };
    assert_eq!(again(tenant(), ids[0], retry).await, Err(waits));
    queue.settle_delivery(ids[0], sent(73, end(DeliveryState::Failed, 80))).await.expect("writes");
    let id = unknown();
    assert_eq!(again(tenant(), id, retry).await, Err(RetryError::NotFound { id }));
    let id = ids[0];
    let other = again(TenantId::new("other"), id, retry).await;
    assert_eq!(other, Err(RetryError::NotFound { id }));
    let limits = QueueLimits { tenant_messages: 1, ..PLENTY };
    let full = QueueFull::Messages { scope: Scope::Tenant, limit: 1 };
    let refused = again(tenant(), id, Retry { limits, ..retry }).await;
    assert_eq!(refused, Err(RetryError::Full { id, full }));
    again(tenant(), id, retry).await.expect("it was given up");
    let shown = queue.delivery(tenant(), id).await.expect("reads").expect("is there");
    assert_eq!((shown.state, shown.attempts), (DeliveryState::Waiting, 0));
    assert_eq!((shown.due, shown.expires), (Some(at(90)), at(99)));
    assert_eq!(
        (shown.ended, shown.kept_until, shown.status, shown.reason),
        (None, None, None, None)
    );
}

#[tokio::test]
async fn no_call_is_taken_in_for_a_message_that_finds_no_room() {
    let folder = TempDir::new().expect("a folder");
    let store = ended(&folder, vec![told(call(1)), told(of_tenant(2, "b"))]).await;
    let queue = store.queue();
    let cases = [
        (
            QueueLimits { tenant_messages: 1, ..PLENTY },
            QueueFull::Messages { scope: Scope::Tenant, limit: 1 },
        ),
        (
            QueueLimits { messages: 2, ..PLENTY },
            QueueFull::Messages { scope: Scope::Server, limit: 2 },
        ),
    ];
    for (limits, full) in cases {
        let refused = queue.enqueue(told(call(3)), limits).await;
        assert_eq!(refused, Err(EnqueueError::Full(full)));
    }
    let none = QueueLimits { tenant_messages: 0, messages: 0, ..PLENTY };
    assert!(queue.enqueue(call(3), none).await.expect("asks for none").is_new);
}

#[tokio::test]
async fn what_has_ended_is_kept_for_its_time_and_not_in_any_number() {
    let folder = TempDir::new().expect("a folder");
    let store = ended(&folder, (1..=5).map(|number| told(call(number))).collect()).await;
    let queue = store.queue();
    let ids: Vec<_> = due(queue, query(100)).await.iter().map(|due| due.id).collect();
    for (id, second) in ids[..4].iter().zip(60..) {
        let state = if second == 60 { DeliveryState::Failed } else { DeliveryState::Delivered };
        let ended = sent(second, end(state, 10 + second));
        queue.settle_delivery(*id, ended).await.expect("writes");
    }
    let keep = Keep { tenant_bytes: ByteSize::mib(1), tenant_messages: 10, step: 10 };
    assert_eq!(queue.sweep_deliveries(keep, at(69)).await, Ok(0), "nothing is over");
    assert_eq!(queue.sweep_deliveries(keep, at(70)).await, Ok(1));
    let few = Keep { tenant_messages: 1, step: 1, ..keep };
    assert_eq!(queue.sweep_deliveries(few, at(70)).await, Ok(1), "a step");
    let few = Keep { step: 10, ..few };
    assert_eq!(queue.sweep_deliveries(few, at(70)).await, Ok(1), "the oldest go");
    let all =
        DeliveryQuery { tenant: tenant(), webhook: None, state: None, before: None, limit: 9 };
    let left = queue.deliveries(all).await.expect("reads");
    let left: Vec<_> = left.iter().map(|delivery| delivery.id).collect();
    assert_eq!(left, [ids[4], ids[3]], "what waits is never removed");
}
