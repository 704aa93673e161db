//! The key-value store: what each operation does, what is refused, and that writers at the same
//! time never lose anything.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use prometheus::Registry;
use quern_store::{Store, StoreConfig};
use quern_types::{BucketId, ByteSize, Change, KeyPage, KeyValue, KeyValueError, TenantId};
use rusqlite::Connection;

use crate::common::{config, metric, name, open, tenant};

fn bucket(text: &str) -> BucketId {
    BucketId { tenant: tenant(), name: name(text) }
}

async fn open_small(folder: &Path, bucket_bytes: u64) -> Store {
    let config = StoreConfig { bucket_bytes: ByteSize(bucket_bytes), ..config(folder, 2) };
    Store::open(config, &Registry::new()).await.expect("the store opens")
}

async fn set(pairs: &dyn KeyValue, bucket: &BucketId, key: &str, value: impl Into<Bytes>) {
    let change = Change::Set(key.into(), value.into());
    pairs.write(bucket.clone(), vec![change]).await.expect("written");
}

async fn get(pairs: &dyn KeyValue, bucket: &BucketId, key: &str) -> Option<Bytes> {
    pairs.get(bucket.clone(), vec![key.into()]).await.expect("read").pop().expect("one answer")
}

#[tokio::test]
async fn pairs_are_set_read_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    assert_eq!(get(&*pairs, &b, "a").await, None);
    set(&*pairs, &b, "a", "1").await;
    set(&*pairs, &b, "nul\0é", &b"\0\xff"[..]).await;
    assert_eq!(get(&*pairs, &b, "a").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&*pairs, &b, "nul\0é").await.as_deref(), Some(&b"\0\xff"[..]));
    let changes = vec![
        Change::Set("a".into(), "2".into()),
        Change::Delete("absent".into()),
        Change::Set("empty".into(), Bytes::new()),
        Change::Delete("nul\0é".into()),
    ];
    pairs.write(b.clone(), changes).await.expect("written");
    let keys = ["empty", "absent", "a", "nul\0é"].map(String::from).to_vec();
    let values = pairs.get(b, keys).await.expect("read");
    assert_eq!(values, [Some(Bytes::new()), None, Some("2".into()), None]);
}

#[tokio::test]
async fn keys_come_in_order_and_in_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    let page = async |after: Option<&str>, count| {
        pairs.keys(b.clone(), after.map(String::from), count).await.expect("read")
    };
    assert_eq!(page(None, 10).await, KeyPage::default());
    for key in ["c", "a", "é", "b"] {
        set(&*pairs, &b, key, "").await;
    }
    let expected = |keys: &[&str], more| KeyPage {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        more,
    };
    assert_eq!(page(None, 2).await, expected(&["a", "b"], true));
    assert_eq!(page(Some("b"), 2).await, expected(&["c", "é"], false));
    assert_eq!(page(Some("aa"), 1).await, expected(&["b"], true));
    assert_eq!(page(Some("é"), 2).await, expected(&[], false));
    let many = (0..1_500).map(|i| Change::Delete(format!("k{i}"))).collect::<Vec<_>>();
    for part in many.chunks(1_000) {
        let sets = part.iter().map(|change| match change {
            Change::Delete(key) | Change::Set(key, _) => Change::Set(key.clone(), Bytes::new()),
        });
        pairs.write(b.clone(), sets.collect()).await.expect("written");
    }
    let largest = page(None, usize::MAX).await;
    assert_eq!((largest.keys.len(), largest.more), (1_000, true), "a page has a limit of its own");
}

#[tokio::test]
async fn buckets_and_tenants_do_not_see_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let pairs = store.key_value();
    let other = BucketId { tenant: TenantId::new("other"), name: name("b") };
    set(&*pairs, &bucket("b"), "key", "mine").await;
    set(&*pairs, &other, "key", "theirs").await;
    assert_eq!(get(&*pairs, &bucket("b"), "key").await.as_deref(), Some(&b"mine"[..]));
    assert_eq!(get(&*pairs, &other, "key").await.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(get(&*pairs, &bucket("c"), "key").await, None);
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    let set_one = |key: String, length: usize| Change::Set(key, vec![0; length].into());
    let write = async |changes: Vec<Change>| pairs.write(b.clone(), changes).await;
    let key = |length: usize| "k".repeat(length);
    for length in [0, 1_025] {
        let expected = KeyValueError::Key { length, limit: 1_024 };
        assert_eq!(write(vec![set_one(key(length), 1)]).await, Err(expected.clone()));
        assert_eq!(write(vec![Change::Delete(key(length))]).await, Err(expected.clone()));
        assert_eq!(pairs.get(b.clone(), vec![key(length)]).await, Err(expected.clone()));
        assert_eq!(pairs.increment(b.clone(), key(length), 1).await, Err(expected.clone()));
        let swap = pairs.compare_and_set(b.clone(), key(length), None, Bytes::new()).await;
        assert_eq!(swap, Err(expected));
    }
    let mib = 1 << 20;
    let expected = KeyValueError::ValueTooLarge { limit: ByteSize::mib(1) };
    assert_eq!(write(vec![set_one("v".into(), mib + 1)]).await, Err(expected));
    let many = (0..1_001).map(|i| i.to_string());
    let expected = KeyValueError::TooManyKeys { count: 1_001, limit: 1_000 };
    assert_eq!(write(many.clone().map(Change::Delete).collect()).await, Err(expected.clone()));
    assert_eq!(pairs.get(b.clone(), many.collect()).await, Err(expected));
    let expected = KeyValueError::BatchTooLarge { limit: ByteSize::mib(8) };
    let keys: Vec<String> = (0..9).map(|i| i.to_string()).collect();
    let large = || keys.iter().map(|key| set_one(key.clone(), mib));
    assert_eq!(write(large().collect()).await, Err(expected.clone()));
    assert_eq!(pairs.keys(b.clone(), None, 10).await, Ok(KeyPage::default()), "nothing is there");
    for change in large() {
        write(vec![change]).await.expect("each alone is allowed");
    }
    assert_eq!(pairs.get(b.clone(), keys[..8].to_vec()).await.map(|values| values.len()), Ok(8));
    assert_eq!(pairs.get(b.clone(), keys).await, Err(expected));
}

#[tokio::test]
async fn a_full_bucket_takes_nothing_more_until_something_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (b, limit) = (bucket("b"), ByteSize(300));
    let full = KeyValueError::BucketFull { bucket: name("b"), limit };
    let set = |key: &str, length: usize| Change::Set(key.into(), vec![0; length].into());
    let store = open_small(folder.path(), limit.0).await;
    let pairs = store.key_value();
    let write = async |changes| pairs.write(b.clone(), changes).await;
    assert_eq!(write(vec![set("a", 235)]).await, Ok(()), "just fits: 1 + 235 + 64");
    assert_eq!(write(vec![set("b", 0)]).await, Err(full.clone()));
    assert_eq!(write(vec![set("a", 236)]).await, Err(full.clone()));
    assert_eq!(pairs.increment(b.clone(), "n".into(), 1).await, Err(full.clone()));
    let swap = pairs.compare_and_set(b.clone(), "c".into(), None, "x".into()).await;
    assert_eq!(swap, Err(full.clone()));
    let refused = write(vec![Change::Delete("a".into()), set("b", 100), set("c", 100)]).await;
    assert_eq!(refused, Err(full), "all or nothing");
    assert_eq!(get(&*pairs, &b, "a").await.map(|value| value.len()), Some(235));
    assert_eq!(write(vec![set("a", 100), set("b", 70)]).await, Ok(()), "exactly 300 again");
    assert_eq!(pairs.write(bucket("c"), vec![set("a", 235)]).await, Ok(()), "has its own room");
    store.close().await;
    let store = open_small(folder.path(), 100).await;
    let pairs = store.key_value();
    let lowered = KeyValueError::BucketFull { bucket: name("b"), limit: ByteSize(100) };
    assert_eq!(pairs.write(b.clone(), vec![set("b", 71)]).await, Err(lowered));
    assert_eq!(pairs.write(b, vec![set("b", 69)]).await, Ok(()), "it may shrink");
}

#[tokio::test]
async fn numbers_are_incremented_and_nothing_else_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    let increment =
        async |key: &str, delta| pairs.increment(b.clone(), key.to_owned(), delta).await;
    assert_eq!(increment("n", 5).await, Ok(5));
    assert_eq!(increment("n", -7).await, Ok(-2));
    assert_eq!(get(&*pairs, &b, "n").await.as_deref(), Some(&b"-2"[..]));
    set(&*pairs, &b, "max", i64::MAX.to_string()).await;
    set(&*pairs, &b, "word", "seven").await;
    set(&*pairs, &b, "bytes", &b"\xff"[..]).await;
    for (key, part) in
        [("max", "more than 64 bits"), ("word", "no decimal"), ("bytes", "no decimal")]
    {
        match increment(key, 1).await {
            Err(KeyValueError::NotANumber { key: named, reason }) => {
                assert!(named == key && reason.contains(part), "{named}: {reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(&*pairs, &b, "word").await.as_deref(), Some(&b"seven"[..]));
}

#[tokio::test]
async fn a_value_is_swapped_if_it_is_the_expected_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    let swap = async |expected: Option<&'static str>, value: &'static str| {
        let expected = expected.map(Bytes::from);
        pairs.compare_and_set(b.clone(), "k".into(), expected, value.into()).await
    };
    assert_eq!(swap(Some("a"), "b").await, Ok(false), "it is not there");
    assert_eq!(swap(None, "a").await, Ok(true));
    assert_eq!(swap(None, "b").await, Ok(false), "it is there");
    assert_eq!(swap(Some("b"), "c").await, Ok(false));
    assert_eq!(swap(Some("a"), "").await, Ok(true));
    assert_eq!(swap(None, "d").await, Ok(false), "empty is not absent");
    assert_eq!(get(&*pairs, &b, "k").await, Some(Bytes::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_writers_at_the_same_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 2), &registry).await.expect("opens");
    let (pairs, b) = (store.key_value(), bucket("b"));
    let increments = (1..=40_i64).map(|delta| {
        let (pairs, b) = (pairs.clone(), b.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                pairs.increment(b.clone(), "sum".into(), delta).await.expect("incremented");
            }
        })
    });
    let swaps = (0..8).map(|_| {
        let (pairs, b) = (pairs.clone(), b.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                while !append(&pairs, &b).await {}
            }
        })
    });
    for ended in join_all(increments.chain(swaps).collect::<Vec<_>>()).await {
        ended.expect("no panic");
    }
    assert_eq!(get(&*pairs, &b, "sum").await.as_deref(), Some(&b"8200"[..]));
    assert_eq!(get(&*pairs, &b, "text").await.map(|text| text.len()), Some(80));
    let count = |name: &str| metric(&registry, &format!("quern_store_keyvalue_{name}"));
    assert!(count("group_operations_sum") >= 480.0);
    assert!(count("commit_seconds_count") < count("group_operations_sum"), "commits are shared");
}

/// Appends a letter to a text by a swap; false if another was faster.
async fn append(pairs: &Arc<dyn KeyValue>, bucket: &BucketId) -> bool {
    let known = get(&**pairs, bucket, "text").await;
    let longer = [known.as_deref().unwrap_or_default(), b"x"].concat();
    let swapped = pairs.compare_and_set(bucket.clone(), "text".into(), known, longer.into());
    swapped.await.expect("swapped or not")
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let b = bucket("b");
    for round in 1..=3 {
        let store = open(folder.path(), 2).await;
        let pairs = store.key_value();
        assert_eq!(pairs.increment(b.clone(), "rounds".into(), 1).await, Ok(round));
        set(&*pairs, &b, &format!("round {round}"), vec![7; 100_000]).await;
        store.close().await;
        let closed = pairs.increment(b.clone(), "rounds".into(), 1).await;
        let closed = closed.expect_err("the store is closed");
        assert!(matches!(closed, KeyValueError::Storage { .. }), "{closed}");
    }
    let store = open(folder.path(), 2).await;
    let keys = store.key_value().keys(b, None, 10).await.expect("read").keys;
    assert_eq!(keys, ["round 1", "round 2", "round 3", "rounds"]);
}

#[tokio::test]
async fn a_flood_of_one_bucket_is_refused_and_leaves_room_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let pairs = store.key_value();
    // Somebody who holds the file keeps the writer from going on.
    let outside = Connection::open(folder.path().join("keyvalue.sqlite")).expect("opens");
    outside.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let write = |name: &str| pairs.increment(bucket(name), "n".into(), 1);
    let mut flood: Vec<_> = (0..513).map(|_| write("flood")).collect();
    let calm = write("calm");
    outside.execute_batch("COMMIT").expect("unlocked");
    let last = flood.pop().expect("the last one").await;
    assert_eq!(last, Err(KeyValueError::Busy));
    assert_eq!(calm.await, Ok(1));
    let sums: Result<Vec<_>, _> = join_all(flood).await.into_iter().collect();
    assert_eq!(sums.expect("had room"), Vec::from_iter(1..=512), "in the order of their calls");
    assert_eq!(write("flood").await, Ok(513), "there is room again");
}

#[tokio::test]
async fn a_disk_that_fails_is_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (pairs, b) = (store.key_value(), bucket("b"));
    let outside = Connection::open(folder.path().join("keyvalue.sqlite")).expect("opens");
    outside.execute_batch("ALTER TABLE pairs RENAME TO gone").expect("renamed");
    let written = pairs.increment(b.clone(), "n".into(), 1).await.expect_err("no table");
    let read = pairs.get(b.clone(), vec!["n".into()]).await;
    assert_eq!(read, Ok(vec![None]), "the failed group has made no bucket");
    assert!(matches!(&written, KeyValueError::Storage { reason } if reason.contains("pairs")));
    outside
        .execute_batch("INSERT INTO buckets (tenant, name) VALUES ('default', 'b')")
        .expect("made");
    let read = pairs.get(b.clone(), vec!["n".into()]).await.expect_err("no table");
    assert!(matches!(&read, KeyValueError::Storage { reason } if reason.contains("pairs")));
    outside.execute_batch("ALTER TABLE gone RENAME TO pairs").expect("renamed back");
    assert_eq!(pairs.increment(b, "n".into(), 1).await, Ok(1), "it goes on");
}
