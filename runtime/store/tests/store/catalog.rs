//! Versions, names, retention, and what is removed.

use std::{collections::BTreeSet, sync::Arc};

use prometheus::Registry;
use quern_store::{CommitError, DeleteError, RollbackError, Store};
use quern_types::{Class, Digest, TenantId};

use crate::common::{
    blob_files, caller, config, deploy, http, inference, keep, metric, model, name, number, open,
    roll_back, tenant, version,
};

#[tokio::test]
async fn versions_are_numbered_and_the_newest_is_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    for expected in 1..=3 {
        let committed = deploy(&store, "f", &[expected as u8]).await.expect("committed");
        assert_eq!((committed.version, committed.created), (number(expected), true));
    }
    let before = store.catalog().routes();
    store.close().await;
    drop(store);
    let store = open(folder.path(), 10).await;
    let after = store.catalog().routes();
    let function = after.function(&tenant(), &name("f")).expect("deployed");
    assert_eq!(function.live().number, number(3));
    assert_eq!(Some(function), before.function(&tenant(), &name("f")), "nothing is lost");
}

#[tokio::test]
async fn the_same_digest_becomes_live_again_without_a_new_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    deploy(&store, "f", b"two").await.expect("committed");
    let again = deploy(&store, "f", b"one").await.expect("committed");
    assert_eq!((again.version, again.created), (number(1), false));
    let next = deploy(&store, "f", b"three").await.expect("committed");
    assert_eq!((next.version, next.created), (number(3), true));
}

#[tokio::test]
async fn numbers_are_not_used_again_after_a_delete() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    store.catalog().delete(&caller(&tenant()), Class::Function, &name("f")).await.expect("deleted");
    assert!(store.catalog().routes().function(&tenant(), &name("f")).is_none());
    let again = deploy(&store, "f", b"one").await.expect("committed");
    assert_eq!((again.version, again.created), (number(2), true));
}

#[tokio::test]
async fn the_newest_and_the_live_version_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let first = Digest::of(b"one");
    deploy(&store, "f", b"one").await.expect("committed");
    deploy(&store, "f", b"two").await.expect("committed");
    let third = deploy(&store, "f", b"three").await.expect("committed");
    assert_eq!(third.removed.contents, [first]);
    assert!(store.blobs().read(&first).await.is_err(), "its blob went with it");
    assert_eq!(roll_back(&store, "f", None).await, Ok(number(2)));
    let routes = store.catalog().routes();
    let kept = routes.function(&tenant(), &name("f")).expect("deployed");
    assert_eq!(kept.versions().map(|v| v.number.get()).collect::<Vec<_>>(), [2, 3]);
    let gone = roll_back(&store, "f", Some(1)).await;
    assert!(matches!(gone, Err(RollbackError::VersionNotFound { .. })));
}

#[tokio::test]
async fn a_rollback_without_a_target_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let class = Class::Function;
    assert_eq!(
        roll_back(&store, "f", None).await,
        Err(RollbackError::NotFound { class, name: name("f") }),
    );
    deploy(&store, "f", b"one").await.expect("committed");
    assert_eq!(
        roll_back(&store, "f", None).await,
        Err(RollbackError::NoPreviousVersion { class, name: name("f"), live: number(1) }),
    );
    assert_eq!(
        roll_back(&store, "f", Some(7)).await,
        Err(RollbackError::VersionNotFound { class, name: name("f"), version: number(7) }),
    );
    let deleted = store.catalog().delete(&caller(&tenant()), Class::Model, &name("f")).await;
    let missing = DeleteError::NotFound { class: Class::Model, name: name("f") };
    assert_eq!(deleted, Err(missing), "the function is no model");
}

#[tokio::test]
async fn models_and_inference_functions_share_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    let catalog = store.catalog();
    let content = keep(&store, b"x").await;
    let (mine, yours) = (tenant(), TenantId::new("other"));
    let taken = |by| Err(CommitError::NameTaken { name: name("a"), by });

    catalog.commit_function(version(&mine, "a", content, inference())).await.expect("free");
    let clash = catalog.commit_model(version(&mine, "a", content, model())).await;
    assert_eq!(clash, taken(Class::Function));
    catalog.commit_model(version(&yours, "a", content, model())).await.expect("another tenant's");
    let clash = catalog.commit_function(version(&yours, "a", content, inference())).await;
    assert_eq!(clash, taken(Class::Model));
    catalog.commit_function(version(&yours, "a", content, http())).await.expect("http is apart");

    catalog.commit_function(version(&mine, "b", content, http())).await.expect("free");
    catalog.commit_model(version(&mine, "b", content, model())).await.expect("http is apart");

    // A kept version counts: a rollback must never bring two to one name.
    let mut newer = version(&mine, "a", content, http());
    newer.digest = Digest::of(b"newer");
    catalog.commit_function(newer).await.expect("the same function");
    let clash = catalog.commit_model(version(&mine, "a", content, model())).await;
    assert_eq!(clash, taken(Class::Function));
    catalog.delete(&caller(&mine), Class::Function, &name("a")).await.expect("deleted");
    catalog.commit_model(version(&mine, "a", content, model())).await.expect("free again");
}

#[tokio::test]
async fn a_blob_stays_while_any_version_refers_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    let content = keep(&store, b"shared").await;
    let catalog = store.catalog();
    let (mine, yours) = (tenant(), TenantId::new("other"));
    catalog.commit_function(version(&mine, "f", content, http())).await.expect("committed");
    catalog.commit_model(version(&yours, "m", content, model())).await.expect("committed");
    let removed =
        catalog.delete(&caller(&mine), Class::Function, &name("f")).await.expect("deleted");
    assert_eq!(removed.contents, []);
    let removed = catalog.delete(&caller(&yours), Class::Model, &name("m")).await.expect("deleted");
    assert_eq!(removed.contents, [content]);
    assert_eq!(blob_files(folder.path()), BTreeSet::new());
}

#[tokio::test]
async fn a_blob_that_was_kept_survives_the_removal_of_its_last_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "old", b"shared").await.expect("committed");
    let content = keep(&store, b"shared").await;
    let removed = store.catalog().delete(&caller(&tenant()), Class::Function, &name("old")).await;
    assert_eq!(removed.expect("deleted").contents, [], "a deploy needs it");
    let new = version(&tenant(), "new", content, http());
    store.catalog().commit_function(new).await.expect("committed");
    assert_eq!(store.blobs().read(&content).await.expect("there"), "shared");
}

#[tokio::test]
async fn a_refused_commit_takes_its_blob_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    let mine = keep(&store, b"mine").await;
    let catalog = store.catalog();
    catalog.commit_model(version(&tenant(), "a", mine, model())).await.expect("committed");
    let refused = keep(&store, b"refused").await;
    let clash = catalog.commit_function(version(&tenant(), "a", refused, inference())).await;
    assert!(matches!(clash, Err(CommitError::NameTaken { .. })));
    assert_eq!(blob_files(folder.path()), BTreeSet::from([mine.hex()]));
}

#[tokio::test]
async fn content_that_was_never_kept_can_not_be_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    let content = Digest::of(b"never kept");
    let refused = store.catalog().commit_function(version(&tenant(), "f", content, http())).await;
    assert_eq!(refused, Err(CommitError::ContentMissing { name: name("f"), content }));
    assert!(store.catalog().routes().function(&tenant(), &name("f")).is_none());
}

/// Everyone deploys and deletes the same content; whoever has an acknowledgement can read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_deploys_and_deletes_of_one_content_never_lose_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(folder.path(), 1).await);
    let workers = (0..6).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let function = format!("f{worker}");
            for round in 0..15 {
                deploy(&store, &function, b"contended").await.expect("committed");
                let content = store.blobs().read(&Digest::of(b"contended")).await;
                assert!(content.is_ok(), "worker {worker}, round {round}: {content:?}");
                let key = name(&function);
                store
                    .catalog()
                    .delete(&caller(&tenant()), Class::Function, &key)
                    .await
                    .expect("deleted");
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("no worker fails");
    }
    assert_eq!(blob_files(folder.path()), BTreeSet::new(), "nothing is left behind");
}

#[tokio::test]
async fn a_failed_commit_fails_for_its_whole_group_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let content = keep(&store, b"two").await;
    let other = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let catalog = store.catalog();
    let (owner, key) = (tenant(), name("f"));
    let deleting = caller(&owner);
    let (committed, deleted) = tokio::join!(
        catalog.commit_function(version(&owner, "f", content, http())),
        catalog.delete(&deleting, Class::Function, &key),
    );
    assert!(matches!(committed, Err(CommitError::Storage { .. })), "{committed:?}");
    assert!(matches!(deleted, Err(DeleteError::Storage { .. })), "{deleted:?}");
    let back = roll_back(&store, "f", Some(1)).await;
    assert!(matches!(back, Err(RollbackError::Storage { .. })), "{back:?}");
    let routes = catalog.routes();
    assert_eq!(routes.function(&tenant(), &key).expect("deployed").live().number, number(1));

    other.execute_batch("ROLLBACK").expect("unlocked");
    let again = deploy(&store, "f", b"two").await.expect("the writer goes on");
    assert_eq!(again.version, number(2));
}

#[tokio::test]
async fn what_waits_for_the_writer_shares_a_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 10), &registry).await.expect("opens");
    let content = keep(&store, b"x").await;
    let owner = tenant();
    let commit = |i: u32| {
        let new = version(&owner, &format!("f{i}"), content, http());
        store.catalog().commit_function(new)
    };
    commit(0).await.expect("committed");
    let queued = async |waiting| {
        while metric(&registry, "quern_store_queued_operations") != f64::from(waiting) {
            tokio::task::yield_now().await;
        }
    };
    // The writer waits for the database with the first, while the others gather behind it.
    let other = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let gathered = async {
        queued(0).await;
        let others = async {
            queued(10).await;
            other.execute_batch("ROLLBACK").expect("unlocked");
        };
        let commits = futures::future::join_all((2..12).map(commit));
        tokio::join!(commits, others).0
    };
    let (first, gathered) = tokio::join!(commit(1), gathered);
    first.expect("committed");
    assert!(gathered.iter().all(Result::is_ok), "{gathered:?}");
    assert_eq!(metric(&registry, "quern_store_group_operations_sum"), 12.0);
    assert_eq!(metric(&registry, "quern_store_commit_seconds_count"), 3.0);
}

#[tokio::test]
async fn version_numbers_do_not_wrap() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let other = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
    other.execute("UPDATE names SET last_number = ?1", [u32::MAX]).expect("updated");
    let refused = deploy(&store, "f", b"two").await.expect_err("used up").to_string();
    assert!(refused.contains("\"f\" has used up its version numbers"), "{refused}");
}

#[tokio::test]
async fn a_closed_store_refuses_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    store.close().await;
    let refused = deploy(&store, "f", b"one").await;
    assert_eq!(refused, Err(CommitError::Storage { reason: "the store is closed".into() }));
}
