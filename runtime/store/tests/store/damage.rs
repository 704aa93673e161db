//! Databases that are not as they were written: each is named, nothing is repaired, and no server
//! starts on them.

use std::{path::Path, sync::Arc};

use prometheus::Registry;
use quern_store::{Backup, OpenError, StoppedFolder, Store, rotate_secrets};

use crate::{
    common::{config, deploy, open},
    queue::{PLENTY, call},
    settings::secrets_key,
};

const PAGE: usize = 4096;

/// A data folder with some pages in its databases.
async fn fill(folder: &Path) {
    let store = open(folder, 2).await;
    for number in 0..100 {
        deploy(&store, &format!("f{number}"), b"one").await.expect("committed");
        store.queue().enqueue(call(number), PLENTY).await.expect("there is room");
    }
    store.close().await;
}

async fn refused(folder: &Path) -> Option<OpenError> {
    Store::open(config(folder, 2), &Registry::new()).await.err()
}

/// Whether a page is one of a tree, whose content begins in its first quarter: what a page has no use
/// for may be anything. See "B-tree Pages" in SQLite's description of its file format.
fn is_full(database: &[u8], page: usize) -> bool {
    let header = page * PAGE + if page == 0 { 100 } else { 0 };
    let content = u16::from_be_bytes([database[header + 5], database[header + 6]]);
    matches!(database[header], 2 | 5 | 10 | 13) && (1..=PAGE / 4).contains(&content.into())
}

/// Opens a folder in which a file is damaged; asserts that it is refused by name with advice, and that
/// the file is left alone.
async fn assert_refused(folder: &Path, name: &str, what: &str) {
    let path = folder.join(name);
    let damaged = std::fs::read(&path).ok();
    let refused = refused(folder).await.unwrap_or_else(|| panic!("{name} opens: {what}"));
    assert!(
        matches!(&refused, OpenError::Damaged { path: told, .. } if *told == path),
        "{refused}"
    );
    let told = refused.to_string();
    assert!(told.contains(&format!("{name} is damaged")), "{what}: {told}");
    assert!(told.contains("quern restore"), "{what}: {told}");
    assert!(std::fs::read(&path).ok() == damaged, "{what}: {name} was changed");
}

#[tokio::test]
async fn a_damaged_page_keeps_the_folder_from_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path()).await;
    for name in ["catalog.sqlite", "queue.sqlite"] {
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).expect("a file");
        let mut tried = 0;
        for page in 0..sound.len() / PAGE {
            let middle = page * PAGE + PAGE / 4..(page + 1) * PAGE - PAGE / 4;
            if !is_full(&sound, page) {
                continue;
            }
            let mut damaged = sound.clone();
            damaged[middle].fill(0xa5);
            std::fs::write(&path, &damaged).expect("damaged");
            assert_refused(folder.path(), name, &format!("the middle of page {page}")).await;
            tried += 1;
        }
        assert!(tried > 5, "{name}: {tried}");
        std::fs::write(&path, &sound).expect("mended");
    }
    assert!(refused(folder.path()).await.is_none(), "nothing else is wrong");
}

#[tokio::test]
async fn a_file_that_is_no_database_or_a_part_of_one_keeps_the_folder_from_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path()).await;
    for name in ["catalog.sqlite", "keyvalue.sqlite", "queue.sqlite"] {
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).expect("a file");
        let mut header = sound.clone();
        header[..16].fill(0xa5);
        let mut first_page = sound.clone();
        first_page[..PAGE].fill(0);
        let cases: [(&str, &[u8]); 6] = [
            ("its header is garbage", &header),
            ("its first page is empty", &first_page),
            ("it is half of itself", &sound[..sound.len() / 2]),
            ("it ends within a page", &sound[..sound.len() - 100]),
            ("it has less than a header", &sound[..50]),
            ("it is empty", b""),
        ];
        for (what, content) in cases {
            std::fs::write(&path, content).expect("damaged");
            assert_refused(folder.path(), name, what).await;
        }
        std::fs::write(&path, &sound).expect("mended");
    }
    let catalog = folder.path().join("catalog.sqlite");
    let aside = folder.path().join("aside");
    std::fs::rename(&catalog, &aside).expect("moved");
    // A new one would refer to none of the blobs, and they would go.
    assert_refused(folder.path(), "catalog.sqlite", "it is missing").await;
    std::fs::rename(&aside, &catalog).expect("moved back");
    let logs = folder.path().join("logs.sqlite");
    std::fs::write(&logs, "no database, but longer than a header of one".repeat(9))
        .expect("written");
    assert_refused(folder.path(), "logs.sqlite", "it is another file").await;
    std::fs::remove_file(&logs).expect("removed");
    assert!(refused(folder.path()).await.is_none(), "logs are made anew");
}

#[tokio::test]
async fn a_damaged_log_that_commits_lie_behind_keeps_the_folder_from_opening() {
    let (folder, copy) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let store = open(folder.path(), 2).await;
    for number in 0..9 {
        deploy(&store, &format!("f{number}"), b"one").await.expect("committed");
        store.queue().enqueue(call(number), PLENTY).await.expect("there is room");
    }
    // As a kill leaves it.
    std::fs::create_dir(copy.path().join("blobs")).expect("made");
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("text");
        if path.is_file() && !name.ends_with("-shm") {
            std::fs::copy(&path, copy.path().join(name)).expect("copied");
        }
    }
    for name in ["catalog.sqlite", "queue.sqlite"] {
        let log = copy.path().join(format!("{name}-wal"));
        let sound = std::fs::read(&log).expect("a log");
        for place in [20, 100, sound.len() / 2] {
            let mut damaged = sound.clone();
            damaged[place] ^= 1;
            std::fs::write(&log, &damaged).expect("damaged");
            assert_refused(copy.path(), name, &format!("byte {place} of its log")).await;
            let stopped = StoppedFolder::take(copy.path()).expect("nobody has it open");
            let saved = Backup::of_stopped(Arc::new(stopped), false, "x").expect_err("damaged");
            assert!(saved.to_string().contains(&format!("{name} is damaged")), "{saved}");
            let (old, new) = (secrets_key("7"), secrets_key("8"));
            let rotated = rotate_secrets(copy.path(), &old, &new).expect_err("damaged");
            assert!(rotated.to_string().contains(&format!("{name} is damaged")), "{rotated}");
            assert!(std::fs::read(&log).expect("a log") == damaged, "it was changed");
        }
        std::fs::write(&log, &sound).expect("mended");
    }
    let again = open(copy.path(), 2).await;
    assert_eq!(again.catalog().routes().tenants().flat_map(|(_, of)| &of.functions).count(), 9);
}
