//! Backups of a store that is in use: what is restored is what was acknowledged, and whatever is
//! damaged is told and not restored.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus::Registry;
use quern_store::{
    AuditQuery, Backup, BackupEnd, BackupError, OpenError, RestoreError, StoppedFolder, Store,
    restore_backup, verify_backup,
};
use quern_types::{BucketId, CallState, Change, Class, Digest};
use rusqlite::Connection;
use serde_json::json;
use tar::EntryType;

use crate::{
    common::{blob_files, caller, config, deploy, metric, name, open, tenant},
    queue::{PLENTY, call},
    settings::{all, open_with, secrets_key, set},
};

async fn prepare(store: &Store) -> Result<Backup, BackupError> {
    store.prepare_backup(&caller(&tenant()), true, "1.2.3").await
}

/// A backup as bytes.
async fn backup(store: &Store) -> Vec<u8> {
    let backup = prepare(store).await.expect("prepared");
    let mut archive = Vec::new();
    backup.write(&mut archive).expect("written");
    assert_eq!(archive.len() as u64, backup.archive_bytes());
    drop(backup);
    store.end_backup(BackupEnd::Complete).await.expect("ended");
    archive
}

fn bucket() -> BucketId {
    BucketId { tenant: tenant(), name: name("notes") }
}

#[tokio::test]
async fn what_is_restored_is_what_there_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = secrets_key("7");
    let store = open_with(&folder.path().join("data"), &key).await;
    for content in [&b"one"[..], b"two", b"three"] {
        deploy(&store, "f", content).await.expect("committed");
    }
    deploy(&store, "gone", b"gone").await.expect("committed");
    store
        .catalog()
        .delete(&caller(&tenant()), Class::Function, &name("gone"))
        .await
        .expect("deleted");
    set(&store, "token", "hunter2").await.expect("set");
    let change = Change::Set("k".into(), "v".into());
    store.key_value().write(bucket(), vec![change]).await.expect("written");
    store.queue().enqueue(call(1), PLENTY).await.expect("there is room");
    let archive = backup(&store).await;
    assert!(!archive.windows(7).any(|bytes| bytes == b"hunter2"));
    let later = Change::Set("k".into(), "later".into());
    store.key_value().write(bucket(), vec![later]).await.expect("written");

    let described = verify_backup(&*archive).expect("sound");
    assert_eq!(described.made_by, "1.2.3");
    let paths: Vec<_> = described.files.iter().map(|file| &*file.path).collect();
    let databases = ["catalog.sqlite", "queue.sqlite", "keyvalue.sqlite", "logs.sqlite"];
    assert_eq!(paths[..4], databases);
    assert_eq!(paths.len(), 6, "two versions are kept: {paths:?}");
    let place = folder.path().join("restored");
    let restored = restore_backup(&*archive, &place).expect("restored");
    assert_eq!((restored.deployed, restored.versions, restored.calls), (1, 2, 1));
    assert_eq!(restored.sealed_with, [key.id().clone()]);
    let again = open_with(&place, &key).await;
    assert_eq!(
        again.catalog().routes().function(&tenant(), &name("f")).map(|f| f.live().number),
        store.catalog().routes().function(&tenant(), &name("f")).map(|f| f.live().number)
    );
    assert_eq!(again.blobs().read(&Digest::of(b"three")).await.expect("there"), "three");
    assert_eq!(all(&again), all(&store));
    let kept = again.key_value().get(bucket(), vec!["k".into()]).await.expect("readable");
    assert_eq!(kept, [Some("v".into())]);
    let waiting = again.queue().count(tenant(), CallState::Queued).await.expect("readable");
    assert_eq!(waiting, 1);
    let newest = AuditQuery { limit: 1, ..AuditQuery::default() };
    let records = again.catalog().audit(newest).await.expect("readable");
    assert_eq!(records[0].action, "backup", "who has it is recorded in it");
    assert_eq!(deploy(&again, "gone", b"new").await.expect("committed").version.get(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_constant_deploys_has_all_that_was_acknowledged_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(&folder.path().join("data"), 2).await);
    let stop = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(std::sync::Mutex::new([0u32; 3]));
    let workers = (0..3).map(|worker| {
        let (store, stop, newest) = (store.clone(), stop.clone(), newest.clone());
        tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Each has a content of its own, so that one goes with each that comes.
                let content = format!("{worker} {number}");
                let function = format!("f{worker}");
                let done = deploy(&store, &function, content.as_bytes()).await.expect("committed");
                newest.lock().expect("no panic")[worker] = done.version.get();
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    for round in 0..4 {
        while newest.lock().expect("no panic").iter().any(|newest| *newest < 5 * (round + 1)) {
            tokio::task::yield_now().await;
        }
        let before = *newest.lock().expect("no panic");
        let archive = backup(&store).await;
        let place = folder.path().join(format!("restored-{round}"));
        restore_backup(&*archive, &place).expect("restored");
        let restored = open(&place, 2).await;
        for (worker, before) in before.iter().enumerate() {
            let routes = restored.catalog().routes();
            let function = routes.function(&tenant(), &name(&format!("f{worker}"))).expect("there");
            assert!(function.live().number.get() >= *before, "f{worker} was at {before} before");
            for version in function.versions() {
                restored.blobs().read(&version.content).await.expect("each has its content");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("no panic");
    }
    let routes = store.catalog().routes();
    let tenants = routes.tenants().flat_map(|(_, tenant)| tenant.functions.values());
    let contents = tenants.flat_map(|function| function.versions());
    let needed: BTreeSet<_> = contents.map(|version| version.content.hex()).collect();
    assert_eq!(
        blob_files(&folder.path().join("data")),
        needed,
        "what was kept for backups is gone"
    );
}

/// A backup with a function of that many bytes.
pub(crate) async fn some_backup(folder: &Path, bytes: usize) -> Vec<u8> {
    let store = open(&folder.join("data"), 2).await;
    deploy(&store, "f", &vec![7; bytes]).await.expect("committed");
    let archive = backup(&store).await;
    store.close().await;
    archive
}

#[tokio::test]
async fn damage_anywhere_is_found_and_nothing_of_it_is_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = some_backup(folder.path(), 3_000).await;
    let sound = verify_backup(&*archive).expect("sound");
    // Some of each field in the first blocks and the last, and one in five hundred between.
    let end = archive.len() - 1024;
    let ends = (0..4_096).chain(end - 4_096..end).step_by(11);
    let places = ends.chain((4_096..end).step_by(499));
    for place in places {
        let mut damaged = archive.clone();
        damaged[place] ^= 0x10;
        // What is beside names, lengths and contents may differ: it says nothing.
        if let Ok(found) = verify_backup(&*damaged) {
            assert_eq!(found, sound, "byte {place}");
        }
    }
    for length in (0..end).step_by(2_003) {
        let place = folder.path().join("cut");
        restore_backup(&archive[..length], &place).expect_err("cut off");
        assert!(!place.exists(), "{length} bytes");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing is left of what was not restored: {left:?}");
}

/// An archive of a description, which has its digest, and other entries.
fn described(text: &str, others: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let line = format!("{}  quern-backup.json\n", Digest::of(text.as_bytes()).hex());
    let own = [
        (EntryType::Regular, "quern-backup.json", text.as_bytes()),
        (EntryType::Regular, "quern-backup.json.sha256", line.as_bytes()),
    ];
    for (kind, path, content) in own.iter().chain(others) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        // As it is: the crate would refuse a path that leads elsewhere.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("in memory");
    }
    archive.into_inner().expect("in memory")
}

fn description(files: &[(&str, u64, &[u8])]) -> String {
    let files = files.iter().map(|(path, bytes, content)| {
        json!({"path": path, "bytes": bytes, "digest": Digest::of(content)})
    });
    let files: Vec<_> = files.collect();
    json!({"format": 1, "made_by": "x", "made_us": 0, "files": files}).to_string()
}

#[test]
fn what_a_stranger_has_made_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    let blob = format!("blobs/sha256/2d/{}", Digest::of(b"x").hex());
    let refused = |archive: &[u8]| {
        let refused = restore_backup(archive, &place).expect_err("refused");
        assert!(!place.exists(), "{refused}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "{refused}");
        refused
    };
    let archive = refused(b"PK\x03\x04 an archive of another kind");
    assert!(matches!(archive, RestoreError::Foreign { .. }), "{archive}");
    let newer = refused(&described(r#"{"format": 9, "made_by": "9.9\u001b[2J"}"#, &[])).to_string();
    assert!(newer.contains("format 9") && newer.contains("9.9\\u{1b}[2J"), "{newer:?}");
    for path in ["../catalog.sqlite", "/etc/passwd", "blobs/sha256/00/x", "lock", "restoring", ""] {
        let files = description(&[("catalog.sqlite", 1, b"x"), (path, 1, b"x")]);
        let refused = refused(&described(&files, &[])).to_string();
        assert!(refused.contains("what no backup has"), "{path}: {refused}");
    }
    let twice = [("catalog.sqlite", 1, &b"x"[..]), ("catalog.sqlite", 1, b"x")];
    let told = refused(&described(&description(&twice), &[])).to_string();
    assert!(told.contains("what no backup has"), "{told}");
    let told = refused(&described(&description(&[(&blob, 1, b"x")]), &[])).to_string();
    assert!(told.contains("no catalog"), "{told}");
    let told = refused(&described("{\"format\": 1", &[])).to_string();
    assert!(told.contains("no backup of Quern"), "{told}");

    let one = description(&[("catalog.sqlite", 1, b"x")]);
    let file = EntryType::Regular;
    let damaged: [&[(EntryType, &str, &[u8])]; 6] = [
        &[(file, "catalog.sqlite", b"y")],
        // Longer than was said.
        &[(file, "catalog.sqlite", b"xxxx")],
        &[(file, "../catalog.sqlite", b"x")],
        &[(EntryType::Symlink, "catalog.sqlite", b"x")],
        // Names that stand in an entry before.
        &[(EntryType::GNULongName, "catalog.sqlite", b"x"), (file, "catalog.sqlite", b"x")],
        // All of it is as was said, and is no database.
        &[(file, "catalog.sqlite", b"x")],
    ];
    for others in damaged {
        let refused = refused(&described(&one, others));
        assert!(matches!(refused, RestoreError::Damaged { .. }), "{others:?}: {refused}");
    }
    let others = [(file, "catalog.sqlite", &b"x"[..]), (file, "more", b"x")];
    let told = refused(&described(&one, &others)).to_string();
    assert!(told.contains("more files"), "{told}");
    let cut = refused(&described(&one, &[]));
    assert!(matches!(cut, RestoreError::Unreadable(_)), "{cut}");
    for bytes in [u64::MAX, 1 << 60] {
        let huge = description(&[("catalog.sqlite", bytes, b"x"), (&blob, bytes, b"x")]);
        let refused = refused(&described(&huge, &[(file, "catalog.sqlite", b"x")]));
        assert!(matches!(refused, RestoreError::NoRoom { .. }), "{refused}");
    }
}

/// The same backup with another catalog, which is described as it is.
fn with_catalog(archive: &[u8], change: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut described_files = Vec::new();
    let mut contents = Vec::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive").skip(2) {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_str().expect("text").to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("readable");
        if path == "catalog.sqlite" {
            let file = folder.path().join("catalog.sqlite");
            std::fs::write(&file, &content).expect("written");
            let catalog = Connection::open(&file).expect("opens");
            catalog.execute_batch(change).expect("changed");
            drop(catalog);
            content = std::fs::read(&file).expect("readable");
        }
        contents.push((path, content));
    }
    for (path, content) in &contents {
        described_files.push((&**path, content.len() as u64, &**content));
    }
    let entries: Vec<_> = described_files
        .iter()
        .map(|(path, _, content)| (EntryType::Regular, *path, *content))
        .collect();
    described(&description(&described_files), &entries)
}

#[tokio::test]
async fn a_catalog_that_this_program_can_not_serve_is_not_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = some_backup(folder.path(), 9).await;
    let place = folder.path().join("place");
    let restore = |change: &str| restore_backup(&*with_catalog(&archive, change), &place);
    let newer = restore("PRAGMA user_version = 99").expect_err("newer");
    assert!(
        matches!(newer, RestoreError::Open(OpenError::NewerSchema { found: 99, .. })),
        "{newer}"
    );
    let other = Digest::of(b"never stored");
    let missing =
        restore(&format!("UPDATE versions SET content = '{other}'")).expect_err("missing");
    assert!(matches!(missing, RestoreError::Missing { digest } if digest == other), "{missing}");
    let no_table = restore("PRAGMA foreign_keys = off; DROP TABLE versions; DROP TABLE names")
        .expect_err("no versions");
    assert!(matches!(no_table, RestoreError::Open(OpenError::Database { .. })), "{no_table}");
    assert!(!place.exists());
    restore("").expect("the same is restored");
}

#[tokio::test]
async fn a_corrupt_blob_breaks_a_backup_off_and_one_is_made_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = Registry::new();
    let store = Store::open(config(folder.path(), 2), &registry).await.expect("opens");
    deploy(&store, "f", b"one").await.expect("committed");
    let first = prepare(&store).await.expect("prepared");
    let second = prepare(&store).await;
    assert!(matches!(second, Err(BackupError::Busy)), "{second:?}");
    let hex = Digest::of(b"one").hex();
    let blob = folder.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(&blob, "eno").expect("damaged");
    let written = first.write(std::io::sink());
    assert!(matches!(written, Err(BackupError::Corrupt { .. })), "{written:?}");
    drop(first);
    store.end_backup(BackupEnd::BrokenOff).await.expect("ended");
    let outcome = |outcome| format!("quern_store_backups_total{{outcome=\"{outcome}\"}}");
    assert_eq!(metric(&registry, &outcome("broken-off")), 1.0);
    assert_eq!(metric(&registry, &outcome("complete")), 0.0);
    let copies = folder.path().join("backups");
    assert_eq!(std::fs::read_dir(&copies).expect("a folder").count(), 0, "the copies are gone");
    std::fs::create_dir(copies.join("left")).expect("made");
    store.close().await;
    drop(store);
    let store = open(folder.path(), 2).await;
    assert!(!copies.join("left").exists(), "what a kill left goes at the start");
    std::fs::remove_file(&blob).expect("removed");
    let missing = prepare(&store).await;
    assert!(matches!(missing, Err(BackupError::Missing { .. })), "{missing:?}");
}

/// Takes a few bytes, and then no more.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_backup_that_can_not_be_made_or_written_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let copies = folder.path().join("backups");
    for room in [0, 600, 9_000] {
        let written = prepare(&store).await.expect("prepared").write(Full(room));
        assert!(matches!(written, Err(BackupError::Write(_))), "{room}: {written:?}");
        assert_eq!(std::fs::read_dir(&copies).expect("a folder").count(), 0);
    }
    std::fs::remove_dir(&copies).expect("removed");
    std::fs::write(&copies, "in the way").expect("written");
    let in_the_way = prepare(&store).await;
    assert!(matches!(in_the_way, Err(BackupError::File { .. })), "{in_the_way:?}");
    store.close().await;
    let closed = prepare(&store).await;
    assert!(matches!(closed, Err(BackupError::Storage { .. })), "{closed:?}");
}

#[tokio::test]
async fn what_goes_during_a_backup_stays_until_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 1).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let backup = prepare(&store).await.expect("prepared");
    let replaced = deploy(&store, "f", b"two").await.expect("committed");
    assert_eq!(replaced.removed.contents, []);
    assert!(blob_files(folder.path()).contains(&Digest::of(b"one").hex()));
    let mut archive = Vec::new();
    backup.write(&mut archive).expect("written");
    let described = verify_backup(&*archive).expect("sound");
    assert_eq!(described.files.last().expect("a blob").digest, Digest::of(b"one"));
    drop(backup);
    let removed = store.end_backup(BackupEnd::Complete).await.expect("ended");
    assert_eq!(removed.contents, [Digest::of(b"one")]);
    assert_eq!(blob_files(folder.path()), BTreeSet::from([Digest::of(b"two").hex()]));
}

#[tokio::test]
async fn a_stopped_folder_is_saved_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let of_stopped = || {
        let folder = Arc::new(StoppedFolder::take(&data)?);
        Backup::of_stopped(folder, false, "1.2.3")
    };
    let nothing = of_stopped().expect_err("no folder");
    assert!(matches!(nothing, BackupError::Open(OpenError::Folder { .. })), "{nothing}");
    let store = open(&data, 2).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let in_use = of_stopped().expect_err("in use");
    assert!(matches!(in_use, BackupError::Open(OpenError::Locked { .. })), "{in_use}");
    store.close().await;
    drop(store);
    let prepared = of_stopped().expect("prepared");
    let locked = Store::open(config(&data, 2), &Registry::new()).await.expect_err("being saved");
    assert!(matches!(locked, OpenError::Locked { .. }), "{locked}");
    let mut archive = Vec::new();
    prepared.write(&mut archive).expect("written");
    drop(prepared);
    let restored = restore_backup(&*archive, &folder.path().join("place")).expect("restored");
    assert_eq!(restored.deployed, 1);
    // One that is given up in the middle.
    let stopped = Arc::new(StoppedFolder::take(&data).expect("no server has it open"));
    let given_up = Backup::of_stopped(stopped.clone(), false, "1.2.3").expect("prepared");
    stopped.remove_copies().expect("removed");
    assert!(!data.join("backups").exists(), "nothing is left of it");
    let written = given_up.write(std::io::sink()).expect_err("its copies are gone");
    assert!(matches!(written, BackupError::File { .. }), "{written}");
    drop((given_up, stopped));
    open(&data, 2).await;
}

#[tokio::test]
async fn a_damaged_database_is_not_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    for number in 0..100 {
        deploy(&store, &format!("f{number}"), b"one").await.expect("committed");
    }
    store.close().await;
    drop(store);
    let catalog = folder.path().join("catalog.sqlite");
    let mut damaged = std::fs::read(&catalog).expect("a file");
    let page = damaged.len() / 4096 / 2 * 4096;
    damaged[page..page + 4096].fill(0xa5);
    std::fs::write(&catalog, damaged).expect("damaged");
    let stopped = Arc::new(StoppedFolder::take(folder.path()).expect("nobody has it open"));
    let refused = Backup::of_stopped(stopped, false, "x").expect_err("damaged");
    assert!(matches!(refused, BackupError::Open(OpenError::Damaged { .. })), "{refused}");
    // As if it had been damaged while a server has it open.
    let sound = tempfile::tempdir().expect("a folder");
    let store = open(sound.path(), 2).await;
    let path = sound.path().join("keyvalue.sqlite");
    let damaged = vec![0xa5; std::fs::metadata(&path).expect("there").len() as usize];
    std::fs::write(&path, damaged).expect("damaged");
    std::fs::remove_file(sound.path().join("keyvalue.sqlite-wal")).expect("removed");
    let refused = prepare(&store).await.expect_err("damaged");
    assert!(refused.to_string().contains("keyvalue.sqlite"), "{refused}");
    let copies = sound.path().join("backups");
    assert_eq!(std::fs::read_dir(copies).expect("a folder").count(), 0);
}
