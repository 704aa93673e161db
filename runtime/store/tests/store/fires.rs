//! Calls of schedules in the queue of a real folder: each time is called once, though the clock is set.

use quern_store::{Fire, Fired, Keep, LastFire, NewCall, QueueFull, QueueLimits, Scope};
use quern_types::{ByteSize, CallState, Digest, Overlap};
use tempfile::TempDir;

use crate::{
    common::{name, open, tenant},
    queue::{ALL, PLENTY, at, begun, call, ending, id},
};

#[tokio::test]
async fn each_time_of_a_schedule_is_called_once() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 3).await;
    let queue = store.queue();
    let fire = |until, calls: &[(u64, u8)], overlap| Fire {
        tenant: tenant(),
        name: name("hourly"),
        created: at(10),
        times: "0 * * * * UTC".into(),
        after: at(10),
        until: at(until),
        complete_since: at(10),
        calls: calls
            .iter()
            .map(|(time, number)| {
                (at(*time), NewCall { key: Some(format!("{time}")), ..call(*number) })
            })
            .collect(),
        overlap,
    };
    let first = fire(30, &[(10, 1), (20, 2), (30, 3)], Overlap::Allow);
    let all = |calls, until| Ok(Fired { calls, known: 0, until: at(until), refusal: None });
    assert_eq!(queue.fire(first.clone(), PLENTY).await, all(2, 30), "nothing before it was made");
    let again = Ok(Fired { calls: 0, known: 2, until: at(30), refusal: None });
    assert_eq!(queue.fire(first, PLENTY).await, again, "they were called");
    let left_out = fire(40, &[(40, 4)], Overlap::Skip);
    assert_eq!(queue.fire(left_out, PLENTY).await, all(0, 40), "the last call waits");
    let last = |time, number| LastFire {
        tenant: tenant(),
        name: name("hourly"),
        created: at(10),
        last: at(time),
        call: Some(id(number)),
    };
    assert_eq!(queue.fires().await, Ok(vec![last(40, 3)]));
    assert_eq!(begun(queue, ALL, 50).await, [id(2), id(3)]);
    queue.finish(id(3), ending(CallState::Dead, 51)).await.expect("writes");
    let one_of_two = queue.fire(fire(60, &[(50, 5), (60, 6)], Overlap::Skip), PLENTY).await;
    assert_eq!(one_of_two, all(1, 60));
    let full = QueueLimits { calls: 1, ..PLENTY };
    let refused = queue.fire(fire(70, &[(70, 7)], Overlap::Allow), full).await;
    assert_eq!(refused, Err(QueueFull::Calls { scope: Scope::Server, limit: 1 }.into()));
    assert_eq!(queue.fires().await, Ok(vec![last(60, 5)]), "it may be called yet");
    // One of its name that has other times begins anew.
    let other = Fire {
        created: at(55),
        times: "* * * * * UTC".into(),
        after: at(55),
        ..fire(60, &[(55, 8), (60, 9)], Overlap::Allow)
    };
    assert_eq!(queue.fire(other, PLENTY).await, all(1, 60));
    queue.forget_fires(tenant(), name("hourly")).await.expect("writes");
    assert_eq!(queue.fires().await, Ok(vec![]));
}

#[tokio::test]
async fn times_that_find_no_room_together_are_called_one_after_the_other() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 3).await;
    let queue = store.queue();
    let missed = |times: &[u64]| Fire {
        tenant: tenant(),
        name: name("hourly"),
        created: at(0),
        times: "0 * * * * UTC".into(),
        after: at(0),
        until: at(40),
        complete_since: at(0),
        calls: times
            .iter()
            .zip(1..)
            .map(|(time, number)| {
                let number = number + 10 * u8::try_from(*time).expect("is small");
                (at(*time), NewCall { key: Some(format!("{time}")), ..call(number) })
            })
            .collect(),
        overlap: Overlap::Allow,
    };
    let two = QueueLimits { calls: 2, ..PLENTY };
    let full = || QueueFull::Calls { scope: Scope::Server, limit: 2 }.into();
    let fired = queue.fire(missed(&[10, 20, 21, 22]), two).await;
    let refusal = Some(full());
    assert_eq!(fired, Ok(Fired { calls: 2, known: 0, until: at(20), refusal }), "as many as fit");
    let last = queue.last_fire(tenant(), name("hourly")).await.expect("reads");
    assert_eq!(last.map(|fire| fire.last), Some(at(20)));
    assert_eq!(queue.fire(missed(&[21, 22]), two).await, Err(full()), "there is no room yet");
    for call in begun(queue, ALL, 250).await {
        queue.finish(call, ending(CallState::Succeeded, 251)).await.expect("writes");
    }
    let fired = queue.fire(missed(&[10, 20, 21, 22]), two).await;
    assert_eq!(
        fired,
        Ok(Fired { calls: 2, known: 2, until: at(40), refusal: None }),
        "and none twice"
    );
}

#[tokio::test]
async fn a_time_comes_once_though_the_clock_was_set_forward_and_back() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 3).await;
    let fire = |after, complete_since, calls: &[(u64, u8)]| Fire {
        tenant: tenant(),
        name: name("hourly"),
        created: at(10),
        times: "0 * * * * UTC".into(),
        after: at(after),
        until: calls.last().map_or(at(after), |(time, _)| at(*time)),
        complete_since: at(complete_since),
        calls: calls
            .iter()
            .map(|(time, number)| {
                let (key, digest) = (Some(format!("{time}")), Digest::of(b"tick"));
                (at(*time), NewCall { key, digest, ..call(*number) })
            })
            .collect(),
        overlap: Overlap::Allow,
    };
    let fired = async |fire: Fire| store.queue().fire(fire, PLENTY).await.expect("writes").calls;
    let last = async || {
        let last = store.queue().fires().await.expect("reads");
        (last[0].last, last[0].call)
    };
    assert_eq!(fired(fire(10, 10, &[(20, 1)])).await, 1);
    assert_eq!(fired(fire(20, 40, &[(50, 2)])).await, 1, "set forward, it leaves out 30 and 40");
    assert_eq!(fired(fire(20, 20, &[])).await, 0);
    assert_eq!(last().await, (at(20), Some(id(2))), "that it was set back is noted");
    assert_eq!(fired(fire(20, 20, &[(30, 3)])).await, 1, "and they come");
    // What was called is known when the calls are kept no longer.
    for call in begun(store.queue(), ALL, 70).await {
        store.queue().finish(call, ending(CallState::Succeeded, 70)).await.expect("writes");
    }
    let keep = Keep { tenant_bytes: ByteSize::mib(1), tenant_messages: 0, step: 10 };
    assert_eq!(store.queue().sweep(keep, at(80)).await, Ok(3));
    assert_eq!(fired(fire(30, 30, &[(40, 4), (50, 5), (60, 6)])).await, 2, "but not again");
    assert_eq!(last().await, (at(60), Some(id(6))));
    let again = fire(15, 15, &[(20, 7), (30, 8), (40, 9), (50, 10), (60, 11)]);
    assert_eq!(fired(again).await, 0, "it was set back once more");
}

#[tokio::test]
async fn what_is_changed_has_been_called_at_the_same_times_and_what_is_made_anew_has_not() {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 3).await;
    let fire = |created, times: &str, after, (time, number)| Fire {
        tenant: tenant(),
        name: name("hourly"),
        created: at(created),
        times: times.into(),
        after: at(after),
        until: at(time),
        complete_since: at(after),
        calls: vec![(at(time), NewCall { key: Some(format!("{created} {time}")), ..call(number) })],
        overlap: Overlap::Allow,
    };
    let fired = async |fire| store.queue().fire(fire, PLENTY).await.expect("writes");
    let known = |known, until| Fired { calls: 1 - known, known, until: at(until), refusal: None };
    assert_eq!(fired(fire(10, "0 *", 10, (20, 1))).await, known(0, 20));
    // It is changed at 22, and the clock is set back to 17.
    assert_eq!(fired(fire(22, "0 *", 15, (20, 2))).await, known(1, 20), "only its body changed");
    assert_eq!(fired(fire(22, "0 *", 20, (30, 3))).await, known(0, 30));
    assert_eq!(fired(fire(32, "* *", 15, (20, 4))).await, known(0, 20), "its times changed");
    assert_eq!(fired(fire(42, "* *", 15, (20, 5))).await, known(1, 20));
    store.queue().forget_fires(tenant(), name("hourly")).await.expect("writes");
    assert_eq!(fired(fire(52, "* *", 15, (20, 6))).await, known(0, 20), "another one");
}
