//! What functions printed.

use std::time::{Duration, UNIX_EPOCH};

use prometheus::Registry;
use quern_store::{
    LogError, LogFilter, LogPosition, LogQuery, LogRecord, LogStream, Store, StoreConfig,
    StoredRecord,
};
use quern_types::{ByteSize, LogLevel, TenantId, TraceId};

use crate::common::{config, metric, name, number, open, tenant};

fn record(function: &str, text: impl Into<String>) -> LogRecord {
    LogRecord {
        tenant: tenant(),
        function: name(function),
        version: number(3),
        invocation: "019a0000-0000-7000-8000-000000000001".parse().expect("a UUID"),
        trace: None,
        time: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        stream: LogStream::Stderr,
        text: text.into(),
    }
}

/// The first records of versions from `oldest` on after `after`, or the newest.
async fn tail(
    store: &Store,
    function: &str,
    oldest: u32,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<StoredRecord>, LogError> {
    let from = after.map_or(LogPosition::Before(u64::MAX), LogPosition::After);
    let query = LogQuery { oldest: number(oldest), from, limit, filter: LogFilter::default() };
    Ok(store.logs().page(&tenant(), &name(function), query).await?.records)
}

/// Waits until a function's newest record is this.
async fn written(store: &Store, function: &str, text: &str) {
    let mut changes = store.logs().subscribe();
    loop {
        let newest = tail(store, function, 3, None, 1).await.expect("reads");
        if newest.last().is_some_and(|stored| stored.record.text == text) {
            return;
        }
        changes.changed().await.expect("the writer lives");
    }
}

async fn texts(store: &Store, function: &str, after: Option<u64>, limit: usize) -> Vec<String> {
    let tail = tail(store, function, 3, after, limit).await.expect("reads");
    tail.into_iter().map(|stored| stored.record.text).collect()
}

#[tokio::test]
async fn records_come_back_as_they_were_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    for text in ["one", "two", "three"] {
        store.logs().append(record("f", text));
        store
            .logs()
            .append(LogRecord { tenant: TenantId::new("other"), ..record("f", "not mine") });
    }
    written(&store, "f", "three").await;
    let all = tail(&store, "f", 3, None, 10).await.expect("reads");
    assert_eq!(all[0].record, record("f", "one"));
    assert_eq!(texts(&store, "f", None, 2).await, ["two", "three"]);
    assert_eq!(texts(&store, "f", Some(all[0].sequence), 1).await, ["two"]);
    assert_eq!(texts(&store, "f", Some(all[2].sequence), 10).await, [""; 0]);
    assert_eq!(texts(&store, "unknown", None, 10).await, [""; 0]);
}

#[tokio::test]
async fn the_newest_records_are_kept_of_each_function_and_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..2 {
        let configuration = StoreConfig { log_records: 5, ..config(folder.path(), 2) };
        let store = Store::open(configuration, &Registry::new()).await.expect("opens");
        store.logs().append(record("quiet", format!("quiet {round}")));
        for i in 0..6 {
            store.logs().append(record("loud", format!("{round} {i}")));
        }
        store.close().await;
        let expected: Vec<_> = (1..6).map(|i| format!("{round} {i}")).collect();
        assert_eq!(texts(&store, "loud", None, 100).await, expected);
        assert_eq!(texts(&store, "quiet", None, 100).await.len(), round + 1);
    }
}

#[tokio::test]
async fn a_flood_of_large_records_stays_within_its_bytes_whatever_their_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |round: usize, i: usize| format!("{round} {i} {}", "é".repeat(498 - i / 10));
    for round in 0..2 {
        let configuration = StoreConfig { log_bytes: ByteSize(5_000), ..config(folder.path(), 2) };
        let store = Store::open(configuration, &Registry::new()).await.expect("opens");
        store.logs().append(record("quiet", format!("quiet {round}")));
        for i in 0..12 {
            store.logs().append(record("loud", text(round, i)));
        }
        store.close().await;
        let kept = texts(&store, "loud", None, 100).await;
        let expected: Vec<_> = (7..12).map(|i| text(round, i)).collect();
        assert_eq!(kept, expected, "the newest five of a thousand bytes each");
        assert_eq!(texts(&store, "quiet", None, 100).await.len(), round + 1);
    }
    // A record that is larger than all that is kept leaves nothing.
    let configuration = StoreConfig { log_bytes: ByteSize(999), ..config(folder.path(), 2) };
    let store = Store::open(configuration, &Registry::new()).await.expect("opens");
    store.logs().append(record("loud", "x".repeat(1_000)));
    store.close().await;
    assert_eq!(texts(&store, "loud", None, 100).await, [""; 0]);
}

#[tokio::test]
async fn what_waits_for_the_disk_is_bounded_in_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 2), &registry).await.expect("opens");
    let dropped = || metric(&registry, "quern_store_dropped_log_records_total") as u64;
    let other = rusqlite::Connection::open(folder.path().join("logs.sqlite")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let (sent, fits) = (1_000, (32 << 20) / (64 << 10));
    for _ in 0..sent {
        store.logs().append(record("f", "x".repeat(64 << 10)));
    }
    assert_eq!(dropped(), sent - fits, "far fewer than the queue's number of records");
    other.execute_batch("ROLLBACK").expect("unlocked");
    store.logs().remove(&tenant(), &name("other")).await.expect("the writer goes on");
    let after = dropped();
    store.logs().append(record("f", "there is room again"));
    store.close().await;
    assert_eq!(dropped(), after);
    assert_eq!(texts(&store, "f", None, 1).await, ["there is room again"]);
}

#[tokio::test]
async fn a_removed_function_leaves_no_records_and_no_number_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    store.logs().append(record("f", "before"));
    written(&store, "f", "before").await;
    let seen = tail(&store, "f", 3, None, 1).await.expect("reads")[0].sequence;
    store.logs().append(record("f", "still waiting"));
    store.logs().remove(&tenant(), &name("f")).await.expect("removed");
    assert_eq!(texts(&store, "f", None, 10).await, [""; 0]);
    store.logs().append(record("f", "after"));
    written(&store, "f", "after").await;
    assert_eq!(texts(&store, "f", Some(seen), 10).await, ["after"]);
}

#[tokio::test]
async fn long_texts_are_cut_and_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    store.logs().append(record("f", "é".repeat(40_000)));
    store.close().await;
    let text = texts(&store, "f", None, 1).await.remove(0);
    assert!(text.len() < 65 << 10 && text.ends_with("é… [cut: 80000 bytes]"), "{}", text.len());
}

#[tokio::test]
async fn what_can_not_be_written_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 2), &registry).await.expect("opens");
    let dropped = || metric(&registry, "quern_store_dropped_log_records_total") as u64;
    // The disk refuses, and the queue fills up behind it.
    let other = rusqlite::Connection::open(folder.path().join("logs.sqlite")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for i in 0..10_000 {
        store.logs().append(record("f", i.to_string()));
    }
    assert!(dropped() >= 10_000 - 4096 - 1024, "{} dropped by the full queue", dropped());
    other.execute_batch("ROLLBACK").expect("unlocked");
    store.logs().remove(&tenant(), &name("other")).await.expect("the writer goes on");
    let after = dropped();
    store.logs().append(record("f", "last"));
    store.close().await;
    assert_eq!(texts(&store, "f", None, 1).await, ["last"]);
    assert_eq!(dropped(), after);
    store.logs().append(record("f", "too late"));
    assert_eq!(dropped(), after + 1);
    let refused = store.logs().remove(&tenant(), &name("f")).await.expect_err("closed");
    assert!(matches!(refused, LogError::Storage { .. }), "{refused}");
}

#[tokio::test]
async fn logs_that_can_not_be_read_are_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let other = rusqlite::Connection::open(folder.path().join("logs.sqlite")).expect("opens");
    other.execute_batch("DROP TABLE records").expect("dropped");
    let failed = tail(&store, "f", 3, None, 1).await.expect_err("no table");
    assert!(failed.to_string().contains("logs of \"f\" can't be read"), "{failed}");
}

#[tokio::test]
async fn records_of_versions_before_the_oldest_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 10).await;
    for (version, text) in [(1, "a"), (2, "b"), (3, "c"), (1, "d"), (2, "e")] {
        store.logs().append(LogRecord { version: number(version), ..record("f", text) });
    }
    store.logs().append(record("f", "end"));
    written(&store, "f", "end").await;
    for (oldest, after, limit, expected) in [
        (1, None, 9, "a b c d e end"),
        (2, None, 9, "b c e end"),
        (2, None, 2, "e end"),
        (2, Some(0), 2, "b c"),
        (2, Some(3), 2, "e end"),
        (4, None, 9, ""),
    ] {
        let tail = tail(&store, "f", oldest, after, limit).await;
        let texts: Vec<_> =
            tail.expect("reads").into_iter().map(|stored| stored.record.text).collect();
        assert_eq!(texts.join(" "), expected, "{oldest} {after:?} {limit}");
    }
}

#[tokio::test]
async fn a_logged_message_keeps_its_level_and_context() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let logged = |level: LogLevel| {
        let stream = LogStream::Log { level, context: format!("about {level}") };
        LogRecord { stream, ..record("f", format!("message of {level}")) }
    };
    let mut expected: Vec<_> = LogLevel::ALL.into_iter().map(logged).collect();
    expected.push(LogRecord { stream: LogStream::System, ..record("f", "end") });
    for record in &expected {
        store.logs().append(record.clone());
    }
    written(&store, "f", "end").await;
    let all = tail(&store, "f", 3, None, 10).await.expect("reads");
    let found: Vec<_> = all.into_iter().map(|stored| stored.record).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_log_of_an_older_server_is_read_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    store.logs().append(record("f", "old"));
    store.close().await;
    drop(store);
    let older = rusqlite::Connection::open(folder.path().join("logs.sqlite")).expect("opens");
    let undo = "ALTER TABLE records DROP COLUMN level; ALTER TABLE records DROP COLUMN context;
                ALTER TABLE records DROP COLUMN trace;
                PRAGMA user_version = 1";
    older.execute_batch(undo).expect("as the first migration left it");
    drop(older);
    let store = open(folder.path(), 2).await;
    assert_eq!(texts(&store, "f", None, 10).await, ["old"]);
    let level = LogStream::Log { level: LogLevel::Info, context: String::new() };
    store.logs().append(LogRecord { stream: level, ..record("f", "new") });
    written(&store, "f", "new").await;
}

#[tokio::test]
async fn records_are_filtered_by_whatever_is_known_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let log = |level| LogStream::Log { level, context: "c".into() };
    let plain = LogRecord { time: at(10), ..record("f", "a") };
    let invocation = "019a0000-0000-7000-8000-0000000000ff".parse().expect("a UUID");
    let trace: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().expect("a trace");
    for record in [
        LogRecord { stream: LogStream::Stdout, ..plain.clone() },
        LogRecord { stream: log(LogLevel::Debug), text: "b".into(), ..plain.clone() },
        LogRecord { stream: log(LogLevel::Error), text: "c".into(), ..plain.clone() },
        LogRecord { stream: LogStream::System, text: "d".into(), ..plain.clone() },
        LogRecord { version: number(4), text: "e".into(), ..plain.clone() },
        LogRecord { time: at(20), text: "needle f".into(), ..plain.clone() },
        LogRecord { invocation, trace: Some(trace), text: "g".into(), ..plain.clone() },
    ] {
        store.logs().append(record);
    }
    written(&store, "f", "g").await;
    let none = LogFilter::default();
    for (filter, expected) in [
        (none.clone(), "a b c d e needle f g"),
        (LogFilter { stream: Some("log"), ..none.clone() }, "b c"),
        (LogFilter { stream: Some("stderr"), ..none.clone() }, "e needle f g"),
        (LogFilter { level: Some(LogLevel::Info), ..none.clone() }, "a c d e needle f g"),
        (LogFilter { level: Some(LogLevel::Warn), ..none.clone() }, "c d"),
        (LogFilter { version: Some(number(4)), ..none.clone() }, "e"),
        (LogFilter { since: Some(at(20)), ..none.clone() }, "needle f"),
        (LogFilter { until: Some(at(10)), ..none.clone() }, ""),
        (LogFilter { until: Some(at(20)), stream: Some("system"), ..none.clone() }, "d"),
        (LogFilter { text: Some("needle".into()), ..none.clone() }, "needle f"),
        (LogFilter { invocation: Some("000000ff".into()), ..none.clone() }, "g"),
        (LogFilter { trace: Some(trace), ..none.clone() }, "g"),
    ] {
        for from in [LogPosition::After(0), LogPosition::Before(u64::MAX)] {
            let filter = filter.clone();
            let query = LogQuery { oldest: number(3), from, limit: 10, filter };
            let page = store.logs().page(&tenant(), &name("f"), query.clone()).await;
            let records = page.expect("reads").records.into_iter();
            let texts: Vec<_> = records.map(|stored| stored.record.text).collect();
            assert_eq!(texts.join(" "), expected, "{query:?}");
        }
    }
}

#[tokio::test]
async fn a_page_looks_at_so_many_records_however_few_it_finds() {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = StoreConfig { log_records: 5_000, ..config(folder.path(), 2) };
    let store = Store::open(configuration, &Registry::new()).await.expect("opens");
    for i in 0..3_000 {
        store.logs().append(record("f", if i % 1_500 == 0 { "rare" } else { "usual" }));
    }
    store.logs().append(record("f", "end"));
    written(&store, "f", "end").await;
    let filter = LogFilter { text: Some("rare".into()), ..LogFilter::default() };
    let (mut after, mut found, mut pages) = (0, 0, 0);
    loop {
        let (from, filter) = (LogPosition::After(after), filter.clone());
        let query = LogQuery { oldest: number(3), from, limit: 10, filter };
        let page = store.logs().page(&tenant(), &name("f"), query).await.expect("reads");
        found += page.records.len();
        let Some(looked_at) = page.looked_at else { break };
        (after, pages) = (looked_at, pages + 1);
    }
    assert_eq!((found, pages), (2, 3));
}
