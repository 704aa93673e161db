//! The queue of calls on a real folder: what is taken in, begun, put back, ended, and removed.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use quern_store::{
    Announcement, CallQuery, CallQueue, Cancellation, ChangeError, ClaimLimits, Ending,
    EnqueueError, Keep, NewCall, Pause, QueueFull, QueueLimits, Scope, Store,
};
use quern_types::{ByteSize, CallKind, CallState, Callee, Digest, InvocationId, TenantId};
use tempfile::TempDir;

use crate::common::{open, tenant};

pub(crate) const PLENTY: QueueLimits = QueueLimits {
    tenant_calls: 1_000,
    calls: 1_000,
    tenant_bytes: ByteSize::mib(64),
    bytes: ByteSize::mib(64),
    tenant_messages: 1_000,
    messages: 1_000,
};
const LONGEST: Duration = Duration::from_secs(1_000);
pub(crate) const ALL: ClaimLimits =
    ClaimLimits { most: 64, tenant_running: 64, longest_pause: LONGEST };

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) fn id(number: u8) -> InvocationId {
    format!("01936a5e-0000-7000-8000-0000000000{number:02x}").parse().expect("an id")
}

pub(crate) fn call(number: u8) -> NewCall {
    let body = Bytes::from(format!("body {number}"));
    let request = Request::builder().method("POST").uri("/f/hello/a?b=1").header("x-a", "1");
    NewCall {
        id: id(number),
        tenant: tenant(),
        callee: callee(CallKind::Http, "hello"),
        digest: Digest::of(&body),
        request: request.body(body).expect("a request"),
        key: None,
        webhook: None,
        max_attempts: 3,
        max_age: Duration::from_secs(100),
        lapses: false,
        created: at(number.into()),
    }
}

fn callee(kind: CallKind, name: &str) -> Callee {
    Callee { kind, name: name.parse().expect("a name") }
}

/// What a message says where it does not matter.
pub(crate) const SILENT: Announcement =
    Announcement { compose: |call| call.state.to_string(), max_age: Duration::from_secs(100) };

pub(crate) fn cancellation(seconds: u64) -> Cancellation {
    Cancellation { at: at(seconds), kept_until: at(seconds + 10), announcement: SILENT }
}

pub(crate) fn of_tenant(number: u8, tenant: &str) -> NewCall {
    NewCall { tenant: TenantId::new(tenant), ..call(number) }
}

async fn queue(folder: &TempDir) -> Store {
    open(folder.path(), 3).await
}

pub(crate) async fn take_in(queue: &CallQueue, calls: impl IntoIterator<Item = NewCall>) {
    for call in calls {
        queue.enqueue(call, PLENTY).await.expect("there is room");
    }
}

pub(crate) async fn begun(
    queue: &CallQueue,
    limits: ClaimLimits,
    seconds: u64,
) -> Vec<InvocationId> {
    let claimed = queue.claim(limits, None, at(seconds)).await.expect("claims");
    claimed.calls.into_iter().map(|call| call.id).collect()
}

pub(crate) fn ending(state: CallState, seconds: u64) -> Ending {
    let response = Response::builder().status(201).header("x-b", "2").body("made".into());
    Ending {
        state,
        response: Some(response.expect("a response")),
        reason: None,
        at: at(seconds),
        kept_until: at(seconds + 10),
        announcement: SILENT,
    }
}

#[tokio::test]
async fn a_call_comes_out_as_it_went_in() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    take_in(store.queue(), [call(1)]).await;
    let claimed = store.queue().claim(ALL, None, at(5)).await.expect("claims");
    let [begun] = &claimed.calls[..] else { panic!("one call, not {claimed:?}") };
    assert_eq!((begun.id, &begun.tenant), (id(1), &tenant()));
    assert_eq!((begun.progress.attempts, begun.progress.max_attempts), (1, 3));
    assert_eq!((begun.progress.expires, begun.progress.lapses), (at(101), false));
    assert_eq!(
        (begun.request.method().as_str(), begun.request.body().as_ref()),
        ("POST", &b"body 1"[..])
    );
    assert_eq!(begun.request.uri(), "/f/hello/a?b=1");
    assert_eq!(begun.request.headers()["x-a"], "1");

    let record = store.queue().call(tenant(), id(1)).await.expect("reads").expect("is there");
    assert_eq!((record.state, record.started), (CallState::Running, Some(at(5))));
    assert_eq!((record.due, record.finished), (None, None));
    store.queue().finish(id(1), ending(CallState::Succeeded, 6)).await.expect("writes");
    let found = store.queue().response(tenant(), id(1)).await.expect("reads").expect("is there");
    let response = found.content.expect("an answer");
    assert_eq!((found.state, response.status()), (CallState::Succeeded, StatusCode::CREATED));
    assert_eq!(
        (&response.headers()["x-b"], response.body().as_ref()),
        (&"2".parse().expect("a value"), &b"made"[..])
    );
    let other = store.queue().call(TenantId::new("other"), id(1)).await.expect("reads");
    assert_eq!(other, None, "it is nobody else's");
}

#[tokio::test]
async fn calls_wait_for_their_time_and_survive_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    take_in(store.queue(), [call(9), call(2)]).await;
    assert_eq!(begun(store.queue(), ALL, 1).await, []);
    let claimed = store.queue().claim(ALL, None, at(1)).await.expect("claims");
    assert_eq!(claimed.next_due, Some(at(2)));
    assert_eq!(begun(store.queue(), ALL, 2).await, [id(2)]);
    let pause = Pause {
        due: at(7),
        counts: true,
        status: Some(StatusCode::BAD_GATEWAY),
        reason: "502".into(),
    };
    store.queue().put_back(id(2), pause).await.expect("writes");
    store.close().await;
    drop(store);

    let store = queue(&folder).await;
    let record = store.queue().call(tenant(), id(2)).await.expect("reads").expect("is there");
    assert_eq!((record.state, record.attempts, record.due), (CallState::Queued, 1, Some(at(7))));
    assert_eq!(
        (record.status, record.reason.as_deref()),
        (Some(StatusCode::BAD_GATEWAY), Some("502"))
    );
    assert_eq!(begun(store.queue(), ALL, 100).await, [id(2), id(9)], "the longest due first");
    let stranded = store.queue().stranded(10).await.expect("reads");
    let tries: Vec<_> = stranded.iter().map(|(id, progress)| (*id, progress.attempts)).collect();
    assert_eq!(tries, [(id(9), 1), (id(2), 2)]);
}

#[tokio::test]
async fn a_try_that_was_not_begun_is_taken_back() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    take_in(store.queue(), [call(1)]).await;
    let progress = async |seconds| {
        let claimed = store.queue().claim(ALL, None, at(seconds)).await.expect("claims");
        let progress = claimed.calls[0].progress;
        (progress.attempts, progress.refusals)
    };
    let back = async |counts, seconds| {
        let pause = Pause { due: at(seconds), counts, status: None, reason: "busy".into() };
        store.queue().put_back(id(1), pause).await.expect("writes");
    };
    assert_eq!(progress(1).await, (1, 0));
    back(false, 2).await;
    assert_eq!(progress(2).await, (1, 1));
    back(false, 3).await;
    assert_eq!(progress(3).await, (1, 2));
    back(true, 4).await;
    assert_eq!(progress(4).await, (2, 0));
}

#[tokio::test]
async fn tenants_take_turns_and_none_has_more_than_its_share() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    let flood = (1..=20).map(|number| of_tenant(number, "a"));
    take_in(store.queue(), flood).await;
    take_in(store.queue(), [of_tenant(30, "b"), of_tenant(31, "b"), of_tenant(32, "c")]).await;
    let limits = ClaimLimits { most: 6, tenant_running: 4, ..ALL };
    let claimed = store.queue().claim(limits, None, at(100)).await.expect("claims");
    let mut begun = BTreeMap::new();
    for call in &claimed.calls {
        *begun.entry(call.tenant.to_string()).or_insert(0) += 1;
    }
    let expected = [("a", 3), ("b", 2), ("c", 1)].map(|(tenant, count)| (tenant.to_owned(), count));
    assert_eq!(begun, BTreeMap::from(expected));
    assert_eq!(claimed.last, Some(TenantId::new("a")), "whoever was served last");
    let claimed = store.queue().claim(limits, claimed.last, at(100)).await.expect("claims");
    assert_eq!(claimed.calls.len(), 1, "four of one tenant run, and no more may");
    assert_eq!(claimed.next_due, Some(at(5)), "of those that wait");
}

#[tokio::test]
async fn tenants_take_turns_where_one_call_at_a_time_can_begin() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    let calls = (0..3).flat_map(|round| {
        [(1, "a"), (2, "b"), (3, "c")].map(|(number, tenant)| of_tenant(3 * round + number, tenant))
    });
    take_in(store.queue(), calls).await;
    let limits = ClaimLimits { most: 1, tenant_running: 100, ..ALL };
    let (mut last, mut begun) = (None, Vec::new());
    for _ in 0..6 {
        let claimed = store.queue().claim(limits, last, at(100)).await.expect("claims");
        begun.extend(claimed.calls.iter().map(|call| call.tenant.to_string()));
        last = claimed.last;
    }
    assert_eq!(begun, ["a", "b", "c", "a", "b", "c"]);
}

#[tokio::test]
async fn a_key_is_one_call_of_a_tenant_and_what_it_calls() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    let with_key = |number, key: &str| NewCall { key: Some(key.into()), ..call(number) };
    let same = |number| NewCall { digest: call(1).digest, ..with_key(number, "k") };
    let first = store.queue().enqueue(with_key(1, "k"), PLENTY).await.expect("is taken in");
    assert_eq!((first.id, first.state, first.is_new), (id(1), CallState::Queued, true));
    let again = store.queue().enqueue(same(2), PLENTY).await.expect("is known");
    assert_eq!((again.id, again.is_new), (id(1), false));
    let reused = store.queue().enqueue(with_key(3, "k"), PLENTY).await.expect_err("is another");
    assert!(
        matches!(&reused, EnqueueError::KeyReused { key, id: of, .. } if key == "k" && *of == id(1))
    );
    for other in [
        NewCall { tenant: TenantId::new("other"), ..same(4) },
        NewCall { callee: callee(CallKind::Http, "other"), ..same(5) },
        // A model, and another tenant's function, of the same name.
        NewCall { callee: callee(CallKind::Inference, "hello"), ..same(9) },
        NewCall { callee: callee(CallKind::Http, "hello@acme"), ..same(10) },
        with_key(6, "l"),
    ] {
        assert!(store.queue().enqueue(other, PLENTY).await.expect("is taken in").is_new);
    }
    // Both at once, in one group.
    let (one, two) = (with_key(7, "m"), NewCall { digest: call(7).digest, ..with_key(8, "m") });
    let (one, two) =
        tokio::join!(store.queue().enqueue(one, PLENTY), store.queue().enqueue(two, PLENTY));
    let (one, two) = (one.expect("taken in"), two.expect("known"));
    assert_eq!((one.id, one.is_new, two.is_new), (two.id, true, false));
}

#[tokio::test]
async fn what_waits_is_bounded_by_number_and_size() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    take_in(store.queue(), [call(1), of_tenant(2, "b")]).await;
    let refused =
        async |limits| store.queue().enqueue(call(3), limits).await.expect_err("there is no room");
    let cases = [
        (
            QueueLimits { tenant_calls: 1, ..PLENTY },
            QueueFull::Calls { scope: Scope::Tenant, limit: 1 },
        ),
        (QueueLimits { calls: 2, ..PLENTY }, QueueFull::Calls { scope: Scope::Server, limit: 2 }),
        (
            QueueLimits { tenant_bytes: ByteSize(1_000), ..PLENTY },
            QueueFull::Bytes { scope: Scope::Tenant, limit: ByteSize(1_000) },
        ),
        (
            QueueLimits { bytes: ByteSize(1_200), ..PLENTY },
            QueueFull::Bytes { scope: Scope::Server, limit: ByteSize(1_200) },
        ),
    ];
    for (limits, expected) in cases {
        assert_eq!(refused(limits).await, expected.into());
    }
    // Those that run count, those that have ended don't.
    let one = QueueLimits { tenant_calls: 1, ..PLENTY };
    assert_eq!(begun(store.queue(), ALL, 1).await, [id(1)]);
    assert!(matches!(refused(one).await, EnqueueError::Full(QueueFull::Calls { .. })));
    store.queue().finish(id(1), ending(CallState::Failed, 2)).await.expect("writes");
    store.queue().enqueue(call(3), one).await.expect("there is room again");
    assert_eq!(store.queue().count(tenant(), CallState::Queued).await, Ok(1));
}

#[tokio::test]
async fn only_what_waits_is_cancelled_and_only_what_is_dead_replayed_or_dropped() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    let queue = store.queue();
    take_in(queue, [call(1), call(2), call(3)]).await;
    queue.cancel(tenant(), id(1), cancellation(4)).await.expect("it waits");
    assert_eq!(begun(queue, ALL, 50).await, [id(2), id(3)]);
    queue.finish(id(2), ending(CallState::Dead, 51)).await.expect("writes");
    let state = |number, state, needed| Err(ChangeError::State { id: id(number), state, needed });
    let (queued, dead) = (CallState::Queued, CallState::Dead);
    assert_eq!(
        queue.cancel(tenant(), id(1), cancellation(5)).await.map(drop),
        state(1, CallState::Cancelled, queued)
    );
    assert_eq!(
        queue.cancel(tenant(), id(3), cancellation(5)).await.map(drop),
        state(3, CallState::Running, queued)
    );
    assert_eq!(
        queue.replay(tenant(), id(3), PLENTY, at(5)).await,
        state(3, CallState::Running, dead)
    );
    assert_eq!(queue.drop_dead(tenant(), id(1)).await, state(1, CallState::Cancelled, dead));
    let unknown = Err(ChangeError::NotFound { id: id(2) });
    assert_eq!(queue.replay(TenantId::new("other"), id(2), PLENTY, at(60)).await, unknown);
    assert_eq!(queue.drop_dead(TenantId::new("other"), id(2)).await, unknown);

    let full = QueueFull::Calls { scope: Scope::Tenant, limit: 1 };
    let one = QueueLimits { tenant_calls: 1, ..PLENTY };
    let refused = queue.replay(tenant(), id(2), one, at(60)).await;
    assert_eq!(refused, Err(ChangeError::Full { id: id(2), full }), "another one runs");
    let small = QueueLimits { bytes: ByteSize(1_000), ..PLENTY };
    let full = QueueFull::Bytes { scope: Scope::Server, limit: ByteSize(1_000) };
    let refused = queue.replay(tenant(), id(2), small, at(60)).await;
    assert_eq!(refused, Err(ChangeError::Full { id: id(2), full }));
    let found = queue.response(tenant(), id(2)).await.expect("reads").expect("is there");
    assert_eq!((found.state, found.content.is_some()), (dead, true), "nothing has changed");
    queue.replay(tenant(), id(2), PLENTY, at(60)).await.expect("it is dead");
    let record = queue.call(tenant(), id(2)).await.expect("reads").expect("is there");
    assert_eq!((record.state, record.attempts, record.expires), (queued, 0, at(160)));
    assert_eq!((record.finished, record.kept_until, record.status), (None, None, None));
    let claimed = queue.claim(ALL, None, at(60)).await.expect("claims");
    assert_eq!(claimed.calls[0].request.body(), "body 2", "it was kept");
    queue.finish(id(2), ending(CallState::Dead, 61)).await.expect("writes");
    queue.drop_dead(tenant(), id(2)).await.expect("it is dead");
    assert_eq!(queue.call(tenant(), id(2)).await, Ok(None));
}

#[tokio::test]
async fn what_has_ended_is_removed_by_time_and_by_size() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    let queue = store.queue();
    take_in(queue, (1..=6).map(call)).await;
    take_in(queue, [of_tenant(7, "b")]).await;
    assert_eq!(begun(queue, ALL, 50).await.len(), 7);
    for number in 1..=5 {
        let end = ending(CallState::Succeeded, 50 + u64::from(number));
        queue.finish(id(number), end).await.expect("writes");
    }
    let keep = Keep { tenant_bytes: ByteSize::mib(1), tenant_messages: 0, step: 2 };
    assert_eq!(queue.sweep(keep, at(60)).await, Ok(0), "nothing is over");
    assert_eq!(queue.sweep(keep, at(63)).await, Ok(2), "a step");
    assert_eq!(queue.sweep(keep, at(63)).await, Ok(1), "the rest");
    let small = Keep { tenant_bytes: ByteSize(700), step: 10, ..keep };
    assert_eq!(queue.sweep(small, at(63)).await, Ok(1), "the oldest goes");
    let query = CallQuery { tenant: tenant(), state: None, target: None, before: None, limit: 10 };
    let left = queue.list(query).await.expect("reads");
    let left: Vec<_> = left.iter().map(|call| call.id).collect();
    assert_eq!(left, [id(6), id(5)], "what runs is never removed");
    let usage = queue.usage().await.expect("reads");
    let counts: Vec<_> = usage.states.iter().map(|(_, count, _)| *count).collect();
    assert_eq!(counts, [0, 2, 1, 0, 0, 0]);
}

#[tokio::test]
async fn calls_that_wait_for_a_clock_that_was_set_back_are_begun() {
    let folder = TempDir::new().expect("a folder");
    let store = queue(&folder).await;
    take_in(store.queue(), [call(200), call(150), call(20)]).await;
    let limits = ClaimLimits { longest_pause: Duration::from_secs(100), ..ALL };
    let claimed = store.queue().claim(limits, None, at(60)).await.expect("claims");
    let ids: Vec<_> = claimed.calls.iter().map(|call| call.id).collect();
    assert_eq!(ids, [id(20), id(200)], "no pause is as long as that");
    assert_eq!(claimed.next_due, Some(at(150)), "one that may be a pause is waited for");
}
