//! Opening a folder: what is refused, and what is put in order.

use std::collections::BTreeSet;

use prometheus::Registry;
use quern_store::{AuditQuery, OpenError, Store};
use quern_types::Digest;
use rusqlite::Connection;

use crate::common::{
    blob_files, config, deploy, keep, metric, name, number, open, stage, tenant, upload_files,
};

#[tokio::test]
async fn two_servers_can_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let refused = Store::open(config(folder.path(), 2), &Registry::new()).await;
    let refused = refused.expect_err("in use");
    assert!(matches!(refused, OpenError::Locked { .. }));
    assert!(refused.to_string().contains("in use by another server"), "{refused}");
    store.close().await;
    open(folder.path(), 2).await;
}

#[tokio::test]
async fn leftovers_are_removed_and_versions_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    deploy(&store, "f", b"deployed").await.expect("committed");
    keep(&store, b"kept, never committed").await;
    std::mem::forget(stage(&store, b"staged, never kept").await);
    let uploads = folder.path().join("blobs/uploads");
    std::fs::write(uploads.join("half#1"), b"an upload that was cut").expect("written");
    let stranger = folder.path().join("blobs/sha256/00/README");
    std::fs::write(&stranger, b"somebody's note").expect("written");
    store.close().await;
    drop(store);

    let store = open(folder.path(), 2).await;
    assert_eq!(upload_files(folder.path()), BTreeSet::new());
    let deployed = Digest::of(b"deployed");
    assert_eq!(blob_files(folder.path()), BTreeSet::from(["README".into(), deployed.hex()]));
    assert_eq!(store.blobs().read(&deployed).await.expect("there"), "deployed");
}

#[tokio::test]
async fn a_missing_blob_does_not_keep_the_others_from_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    deploy(&store, "broken", b"lost").await.expect("committed");
    deploy(&store, "sound", b"there").await.expect("committed");
    store.close().await;
    drop(store);
    let hex = Digest::of(b"lost").hex();
    let path = folder.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::remove_file(path).expect("removed");
    let store = open(folder.path(), 2).await;
    assert!(store.catalog().routes().function(&tenant(), &name("broken")).is_some());
    assert!(store.blobs().read(&Digest::of(b"there")).await.is_ok());
    deploy(&store, "broken", b"lost").await.expect("another upload heals it");
    assert!(store.blobs().read(&Digest::of(b"lost")).await.is_ok());
}

#[tokio::test]
async fn a_catalog_from_before_there_were_tokens_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
    catalog.execute_batch(include_str!("version_1.sql")).expect("written");
    drop(catalog);
    let store = open(folder.path(), 2).await;
    let routes = store.catalog().routes();
    let function = routes.function(&tenant(), &name("hello")).expect("kept");
    assert_eq!(function.live().number, number(3));
    assert!(routes.model(&tenant(), &name("digits-mlp")).is_some());
    assert!(routes.function(&tenant(), &name("deleted")).is_none());
    assert_eq!(store.catalog().access().tokens().count(), 0);
    // What is done to it from now on is recorded, and numbers are not given again.
    let version = deploy(&store, "deleted", b"again").await.expect("committed").version;
    assert_eq!(version, number(8));
    let newest = AuditQuery { limit: 9, ..AuditQuery::default() };
    let records = store.catalog().audit(newest).await.expect("readable");
    let told: Vec<_> = records.iter().map(|record| (record.sequence, &*record.subject)).collect();
    assert_eq!(told, [(1, "function deleted")]);
}

#[tokio::test]
async fn a_catalog_that_makes_no_sense_is_refused_by_name() {
    let cases = [
        ("PRAGMA user_version = 99", "schema version 99, this server knows up to"),
        ("UPDATE versions SET spec = '{}'", "version 1 of function \"f\" can't be understood"),
        (
            "PRAGMA foreign_keys = off; UPDATE names SET live = 9",
            "function \"f\" has a live version that is not kept",
        ),
        ("UPDATE versions SET digest = 'md5:0'", "digest is not of the form"),
        ("DROP TABLE versions", "no such table"),
    ];
    for (damage, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path(), 2).await;
        deploy(&store, "f", b"x").await.expect("committed");
        store.close().await;
        let catalog = Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
        catalog.execute_batch(&format!("PRAGMA foreign_keys = off; {damage}")).expect("damaged");
        drop(catalog);
        let refused = Store::open(config(folder.path(), 2), &Registry::new()).await;
        let refused = refused.expect_err(damage).to_string();
        assert!(refused.contains(expected), "{refused:?} should contain {expected:?}");
        assert!(refused.contains("catalog.sqlite"), "{refused:?} should name the file");
    }
}

#[tokio::test]
async fn blobs_that_can_not_be_listed_are_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path(), 2).await.close().await;
    std::os::unix::fs::symlink("..", folder.path().join("blobs/sha256/00/loop")).expect("linked");
    let refused = Store::open(config(folder.path(), 2), &Registry::new()).await;
    let refused = refused.expect_err("an endless folder");
    assert!(matches!(refused, OpenError::Blobs { .. }), "{refused}");
}

#[tokio::test]
async fn metrics_are_registered_once() {
    let (folder, other) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 2), &registry).await.expect("opens");
    deploy(&store, "f", b"12345").await.expect("committed");
    for (name, expected) in [
        ("quern_store_commit_seconds_count", 1.0),
        ("quern_store_group_operations_sum", 1.0),
        ("quern_store_queued_operations", 0.0),
        ("quern_store_blob_bytes", 5.0),
        ("quern_store_dropped_log_records_total", 0.0),
    ] {
        assert_eq!(metric(&registry, name), expected, "{name}");
    }
    let refused = Store::open(config(other.path(), 2), &registry).await.expect_err("twice");
    assert!(matches!(refused, OpenError::Metrics(_)));
}
