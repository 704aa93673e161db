//! Shares, aliases and canaries in the catalog: what is kept, what goes, and what is refused.

use quern_store::{AuditQuery, DeleteVersionError, Store, TrafficChange, TrafficError, VersionUse};
use quern_types::{
    Canary, CanaryLimits, CanaryState, Class, Routing, Shadow, Share, Shares, Sticky, Traffic,
};

use crate::common::{
    caller, config, deploy, http, keep, name, number, open, roll_back, tenant, version,
};

/// Adds a version that gets no requests.
async fn add(store: &Store, content: &[u8]) {
    let content = keep(store, content).await;
    let mut new = version(&tenant(), "f", content, http());
    new.live = false;
    store.catalog().commit_function(new).await.expect("committed");
}

async fn change(store: &Store, change: TrafficChange) -> Result<(), TrafficError> {
    store.catalog().change_traffic(&caller(&tenant()), Class::Function, &name("f"), change).await
}

fn traffic(shares: &[(u32, u8)]) -> Traffic {
    let share =
        |(version, percent): &(u32, u8)| Share { version: number(*version), percent: *percent };
    let shares = Shares::new(shares.iter().map(share).collect()).expect("shares");
    Traffic { shares: Some(shares), ..Traffic::default() }
}

fn canary(step: usize) -> Canary {
    Canary {
        version: number(2),
        from: number(1),
        steps: "10% 1m, 20% 1m, 100%".parse().expect("steps"),
        limits: CanaryLimits::default(),
        started_us: 7,
        token: None,
        state: CanaryState::Running { step, since_us: 7 },
    }
}

/// The live version of `f`, its kept versions, and what decides beside it.
fn shown(store: &Store) -> (u32, Vec<u32>, Routing) {
    let routes = store.catalog().routes();
    let function = routes.function(&tenant(), &name("f")).expect("deployed");
    let kept = function.versions().map(|version| version.number.get()).collect();
    let routing = function.routing().cloned().unwrap_or_default();
    (function.live().number.get(), kept, routing)
}

#[tokio::test]
async fn what_is_set_comes_back_from_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    add(&store, b"two").await;
    add(&store, b"three").await;
    let set = Traffic {
        sticky: Some(Sticky::header("x-user").expect("a name")),
        shadow: Some(Shadow { version: number(3), percent: 5 }),
        ..traffic(&[(1, 70), (2, 30)])
    };
    change(&store, TrafficChange::Set(set.clone())).await.expect("set");
    let alias = TrafficChange::SetAlias { alias: name("stable"), version: number(1) };
    change(&store, alias).await.expect("set");
    let before = shown(&store);
    assert_eq!((before.0, &before.2.traffic), (1, &set), "a split leaves the live version alone");
    store.close().await;
    drop(store);
    let store = open(folder.path(), 10).await;
    assert_eq!(shown(&store), before);
    // All to one is no split: it is live.
    change(&store, TrafficChange::Set(traffic(&[(2, 100)]))).await.expect("set");
    let (live, _, routing) = shown(&store);
    assert_eq!((live, routing.traffic), (2, Traffic::default()));
    store.catalog().delete(&caller(&tenant()), Class::Function, &name("f")).await.expect("deleted");
    deploy(&store, "f", b"one").await.expect("committed");
    assert_eq!(
        shown(&store).2,
        Routing::default(),
        "a new function of the name knows nothing of it"
    );
}

#[tokio::test]
async fn retention_keeps_what_the_traffic_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 1).await;
    deploy(&store, "f", b"one").await.expect("committed");
    for content in [b"two", b"thr", b"fou"] {
        add(&store, content).await;
        let last = shown(&store).1.pop().expect("a version");
        let shadow = Some(Shadow { version: number(last), percent: 1 });
        let set = Traffic { shadow, ..traffic(&[(1, 100)]) };
        change(&store, TrafficChange::Set(set)).await.expect("set");
    }
    assert_eq!(
        shown(&store).1,
        [1, 3, 4],
        "the live one, the newest, and what was the shadow then"
    );
    change(&store, TrafficChange::SetAlias { alias: name("a"), version: number(3) })
        .await
        .expect("set");
    change(&store, TrafficChange::Set(traffic(&[(1, 50), (4, 50)]))).await.expect("set");
    deploy(&store, "f", b"fiv").await.expect("committed");
    assert_eq!(shown(&store).1, [3, 5], "the split has ended, the alias has not");
    change(&store, TrafficChange::RemoveAlias { alias: name("a") }).await.expect("removed");
    deploy(&store, "f", b"six").await.expect("committed");
    assert_eq!(shown(&store).1, [6]);
}

#[tokio::test]
async fn a_canary_moves_only_from_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    add(&store, b"two").await;
    change(&store, TrafficChange::StartCanary(canary(0))).await.expect("started");
    let shares = |percent| Shares::between(number(1), number(2), percent).ok();
    assert_eq!(shown(&store).2.traffic.shares, shares(10));
    let next = CanaryState::Running { step: 1, since_us: 8 };
    let forward = TrafficChange::MoveCanary { canary: canary(0), to: next.clone() };
    change(&store, forward.clone()).await.expect("moved");
    assert_eq!(shown(&store).2.traffic.shares, shares(20));
    let (class, f) = (Class::Function, name("f"));
    let none = Err(TrafficError::NoCanary { class, name: f.clone() });
    assert_eq!(change(&store, forward).await, none, "it is decided once");
    let at_next = Canary { state: next, ..canary(0) };
    let promoted = CanaryState::Promoted { at_us: 9, reason: "well".into() };
    let promote = TrafficChange::MoveCanary { canary: at_next, to: promoted.clone() };
    change(&store, promote).await.expect("promoted");
    let (live, _, routing) = shown(&store);
    assert_eq!((live, routing.traffic.shares), (2, None));
    assert_eq!(routing.canary.expect("it is remembered").state, promoted);
    // A rollback goes below the live version again, as there is no split.
    assert_eq!(roll_back(&store, "f", None).await, Ok(number(1)));
    change(&store, TrafficChange::StartCanary(canary(0))).await.expect("started");
    assert_eq!(roll_back(&store, "f", None).await, Ok(number(1)), "and else to what is behind it");
    let ended = shown(&store).2.canary.expect("it is remembered").state.clone();
    assert!(matches!(ended, CanaryState::Aborted { .. }), "{ended:?}");
}

#[tokio::test]
async fn a_closed_store_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(config(folder.path(), 10), &prometheus::Registry::new()).await;
    let store = store.expect("opens");
    deploy(&store, "f", b"one").await.expect("committed");
    store.close().await;
    let refused = change(&store, TrafficChange::Set(traffic(&[(1, 100)]))).await;
    assert!(matches!(refused, Err(TrafficError::Storage { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_version_goes_with_its_blob_unless_something_stands_by_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    let (class, f) = (Class::Function, name("f"));
    let caller = caller(&tenant());
    let delete = |version| store.catalog().delete_version(&caller, class, &f, number(version));
    let missing = DeleteVersionError::NotFound { class, name: f.clone() };
    assert_eq!(delete(1).await, Err(missing));
    deploy(&store, "f", b"one").await.expect("committed");
    let mut contents = vec![];
    for content in [b"two", b"tri", b"for", b"fiv"] {
        add(&store, content).await;
        contents.push(quern_types::Digest::of(content));
    }
    let used = |version, by| {
        Err(DeleteVersionError::InUse { class, name: name("f"), version: number(version), by })
    };
    change(&store, TrafficChange::StartCanary(canary(0))).await.expect("started");
    assert_eq!(delete(1).await, used(1, VersionUse::Live));
    assert_eq!(delete(2).await, used(2, VersionUse::Canary));
    let (canary, at_us) = (canary(0), 9);
    let to = CanaryState::Aborted { at_us, reason: "enough".into() };
    change(&store, TrafficChange::MoveCanary { canary, to }).await.expect("aborted");
    let shadow = Some(Shadow { version: number(3), percent: 5 });
    let set = Traffic { shadow, ..traffic(&[(1, 70), (2, 30)]) };
    change(&store, TrafficChange::Set(set)).await.expect("set");
    let alias = TrafficChange::SetAlias { alias: name("next"), version: number(4) };
    change(&store, alias).await.expect("set");
    assert_eq!(delete(2).await, used(2, VersionUse::Share(30)));
    assert_eq!(delete(3).await, used(3, VersionUse::Shadow));
    assert_eq!(delete(4).await, used(4, VersionUse::Alias(name("next"))));
    assert_eq!(shown(&store).1, [1, 2, 3, 4, 5], "nothing has changed");

    assert_eq!(delete(5).await.expect("deleted").contents, [contents[3]]);
    let version = number(5);
    let gone = DeleteVersionError::VersionNotFound { class, name: f.clone(), version };
    assert_eq!(delete(5).await, Err(gone));
    // What an ended canary was about stands by nothing.
    change(&store, TrafficChange::Set(traffic(&[(1, 100)]))).await.expect("set");
    assert_eq!(delete(2).await.expect("deleted").contents, [contents[0]]);
    let audit = AuditQuery { tenant: None, before: None, limit: 1 };
    let [newest] = &store.catalog().audit(audit).await.expect("read")[..] else {
        panic!("one record")
    };
    assert_eq!((&*newest.action, &*newest.subject), ("version.delete", "function f"));
    assert_eq!(newest.detail["version"], 2);
    store.close().await;
    drop(store);
    let store = open(folder.path(), 10).await;
    assert_eq!(shown(&store).1, [1, 3, 4]);
    add(&store, b"two").await;
    assert_eq!(shown(&store).1, [1, 3, 4, 6], "its number is not given again");
}
