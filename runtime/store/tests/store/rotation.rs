//! Rotation of the key for secrets: all of them or none, whatever ends the process.

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::Registry;
use quern_store::{AuditQuery, RotateError, Rotated, SecretsKey, Store, rotate_secrets};
use rusqlite::Connection;

use crate::{
    common::{deploy, open},
    settings::{all, open_with, secrets_key, set, with_key},
};

const CHILD: &str = "QUERN_STORE_ROTATION_FOLDER";
const CYCLES: u32 = 12;

/// A folder with a function that has some secrets.
async fn prepare(folder: &Path, key: &SecretsKey) {
    let store = open_with(folder, key).await;
    deploy(&store, "f", b"one").await.expect("committed");
    for number in 0..20 {
        set(&store, &format!("s{number:02}"), &format!("value {number}")).await.expect("set");
    }
    store.close().await;
}

fn expected() -> Vec<(String, String)> {
    (0..20).map(|number| (format!("s{number:02}"), format!("value {number}"))).collect()
}

#[tokio::test]
async fn everything_is_sealed_with_the_new_key_and_nothing_with_the_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (secrets_key("7"), secrets_key("8"));
    prepare(folder.path(), &old).await;
    let rotated = |secrets| Rotated { secrets, dropped: Vec::new() };
    assert_eq!(rotate_secrets(folder.path(), &old, &new).expect("rotated"), rotated(20));
    assert_eq!(rotate_secrets(folder.path(), &old, &new).expect("again"), rotated(0));
    let refused = Store::open(with_key(folder.path(), &old), &Registry::new()).await;
    refused.expect_err("the old key");
    let store = open_with(folder.path(), &new).await;
    assert_eq!(all(&store), expected());
    let newest = AuditQuery { limit: 1, ..AuditQuery::default() };
    let records = store.catalog().audit(newest).await.expect("readable");
    assert_eq!(records[0].action, "secrets.rotate");
    assert_eq!(records[0].detail["secrets"], 20);
    let busy = rotate_secrets(folder.path(), &new, &old).expect_err("open");
    assert!(busy.to_string().contains("in use by another server"), "{busy}");
}

#[tokio::test]
async fn what_can_not_be_rotated_stays_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new, other) = (secrets_key("7"), secrets_key("8"), secrets_key("9"));
    let nowhere = rotate_secrets(&folder.path().join("nothing"), &old, &new);
    let nowhere = nowhere.expect_err("no folder").to_string();
    assert!(nowhere.contains("can't find") && nowhere.contains("catalog.sqlite"), "{nowhere}");
    assert!(!folder.path().join("nothing").exists());
    prepare(folder.path(), &old).await;
    let refused = rotate_secrets(folder.path(), &other, &new).expect_err("another key");
    assert!(matches!(refused, RotateError::WrongKey { .. }), "{refused}");
    let catalog = Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
    catalog.execute_batch("UPDATE secrets SET sealed = x'00' WHERE key = 's19'").expect("damaged");
    drop(catalog);
    let refused = rotate_secrets(folder.path(), &old, &new).expect_err("damaged");
    assert!(matches!(refused, RotateError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("s19"), "{refused}");
    assert_eq!(all(&open_with(folder.path(), &old).await), expected()[..19]);
}

#[tokio::test]
async fn what_the_old_key_opened_is_gone_from_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (secrets_key("7"), secrets_key("8"));
    prepare(folder.path(), &old).await;
    let catalog = folder.path().join("catalog.sqlite");
    let sealed: Vec<u8> = Connection::open(&catalog)
        .and_then(|catalog| catalog.query_row("SELECT sealed FROM secrets", [], |row| row.get(0)))
        .expect("a row");
    let holds = |path: &Path| {
        let content = std::fs::read(path).unwrap_or_default();
        content.windows(sealed.len()).any(|window| window == sealed)
    };
    assert!(holds(&catalog));
    rotate_secrets(folder.path(), &old, &new).expect("rotated");
    assert!(!holds(&catalog) && !holds(&folder.path().join("catalog.sqlite-wal")));
}

#[test]
fn a_kill_at_any_instant_leaves_all_secrets_to_one_of_both_keys() {
    let keys = [secrets_key("7"), secrets_key("8")];
    if let Some(folder) = env::var_os(CHILD) {
        return rotate_for_ever(Path::new(&folder), &keys);
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(prepare(folder.path(), &keys[0]));
    let (mut rotations, mut delay_us) = (0, clock.subsec_nanos() % 1_000);
    for _ in 0..CYCLES {
        // Spread over some rotations, so that a kill hits each part of one sooner or later.
        delay_us = (delay_us + 7_919) % 40_000;
        rotations += run_and_kill(folder.path(), Duration::from_micros(delay_us.into()));
        runtime.block_on(check(folder.path(), &keys));
    }
    println!("{rotations} rotations were acknowledged");
    assert!(rotations > 0, "every kill came too early");
}

/// The child: rotates to and fro until it is killed.
fn rotate_for_ever(folder: &Path, keys: &[SecretsKey; 2]) {
    let [one, other] = keys;
    loop {
        for (old, new) in [(one, other), (other, one)] {
            rotate_secrets(folder, old, new).expect("rotated");
            std::io::stdout().write_all(b"rotated\n").expect("the parent reads");
        }
    }
}

/// Kills a child some time after its first rotation; gives how many there were.
fn run_and_kill(folder: &Path, delay: Duration) -> usize {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["rotation::a_kill_at_any_instant_leaves_all_secrets_to_one_of_both_keys", "--exact"])
        .arg("--nocapture")
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let is_rotated =
        |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.ends_with("rotated"));
    lines.find(is_rotated).expect("rotates").expect("readable");
    std::thread::sleep(delay);
    child.kill().expect("killed");
    child.wait().expect("ended");
    1 + lines.filter(is_rotated).count()
}

/// Exactly one key opens the folder, and all that is in it.
async fn check(folder: &Path, keys: &[SecretsKey; 2]) {
    let mut opened = 0;
    for key in keys {
        let Ok(store) = Store::open(with_key(folder, key), &Registry::new()).await else {
            continue;
        };
        assert_eq!(all(&store), expected());
        store.close().await;
        opened += 1;
    }
    assert_eq!(opened, 1);
    open(folder, 2).await.close().await;
}
