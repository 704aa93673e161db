//! Webhooks in the catalog: their secrets are open to whoever sends messages, and nowhere on the disk.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus::Registry;
use quern_store::{
    AuditQuery, OpenError, RotateError, Rotated, Store, WebhookError, rotate_secrets,
};
use quern_types::{SecretValue, Webhook};
use rusqlite::Connection;

use crate::{
    common::{caller, name, open, tenant},
    settings::{open_with, secrets_key, with_key},
};

const ONE: &str = "whsec_b25lIGlzIHRoZSBzZWNyZXQ=";
const TWO: &str = "whsec_dHdvIGlzIHRoZSBzZWNyZXQ=";

fn secret(text: &str) -> SecretValue {
    SecretValue::new(text.into()).expect("a secret")
}

async fn put(store: &Store, webhook: &str, url: &str) -> Result<bool, WebhookError> {
    let named = (name(webhook), url.parse().expect("an address"));
    let now = SystemTime::now();
    store.catalog().put_webhook(&caller(&tenant()), named, &secret(ONE), now).await
}

async fn rotate(store: &Store, keep: Duration) -> Result<(), WebhookError> {
    let now = SystemTime::now();
    let times = (now, now + keep);
    store.catalog().rotate_webhook(&caller(&tenant()), name("shop"), &secret(TWO), times).await
}

fn shop(store: &Store) -> Arc<Webhook> {
    store.catalog().webhook(&tenant(), &name("shop")).expect("is there")
}

fn secrets(webhook: &Webhook) -> (Option<&str>, Option<&str>) {
    let previous = webhook.previous.as_ref().and_then(|previous| previous.secret.as_ref());
    (webhook.secret.as_ref().map(SecretValue::expose), previous.map(SecretValue::expose))
}

/// Whether any file of a folder has a text in it.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let files = files.filter(|entry| entry.file_type().expect("a type").is_file());
    files
        .map(|entry| std::fs::read(entry.path()).expect("read"))
        .any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test]
async fn a_webhook_is_put_moved_rotated_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = secrets_key("7");
    let store = open_with(folder.path(), &key).await;
    assert_eq!(put(&store, "shop", "https://example.com/a?key=mine").await, Ok(true));
    assert_eq!(secrets(&shop(&store)), (Some(ONE), None));
    assert_eq!(put(&store, "shop", "https://example.com/b").await, Ok(false));
    assert_eq!(shop(&store).url.to_string(), "https://example.com/b");
    rotate(&store, Duration::from_secs(60)).await.expect("is there");
    assert_eq!(secrets(&shop(&store)), (Some(TWO), Some(ONE)));
    assert!(!is_on_disk(folder.path(), &ONE[6..]) && !is_on_disk(folder.path(), &TWO[6..]));
    store.close().await;
    drop(store);

    let store = open_with(folder.path(), &key).await;
    assert_eq!(secrets(&shop(&store)), (Some(TWO), Some(ONE)), "they survive");
    rotate(&store, Duration::ZERO).await.expect("is there");
    assert_eq!(secrets(&shop(&store)), (Some(TWO), None), "one that is known to others");
    let all = AuditQuery { limit: 10, ..AuditQuery::default() };
    let records = store.catalog().audit(all).await.expect("readable");
    let actions: Vec<_> = records.iter().map(|record| &*record.action).collect();
    assert_eq!(actions, ["webhook.rotate", "webhook.rotate", "webhook.put", "webhook.put"]);
    assert_eq!(records[3].detail["to"], "https://example.com", "and no more of the address");
    let delete = async || store.catalog().delete_webhook(&caller(&tenant()), name("shop")).await;
    delete().await.expect("is there");
    let missing = || Err(WebhookError::NotFound { name: name("shop") });
    assert_eq!(delete().await, missing());
    assert_eq!(rotate(&store, Duration::ZERO).await, missing());
    assert!(store.catalog().webhooks().is_empty());
}

#[tokio::test]
async fn without_the_key_no_webhook_is_made_and_none_can_sign() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    put(&store, "shop", "https://example.com").await.expect("made");
    store.close().await;
    drop(store);
    let store = open(folder.path(), 3).await;
    assert_eq!(put(&store, "other", "https://example.com").await, Err(WebhookError::NoKey));
    assert_eq!(rotate(&store, Duration::ZERO).await, Err(WebhookError::NoKey));
    assert_eq!(secrets(&shop(&store)), (None, None));
}

#[tokio::test]
async fn another_key_than_that_of_the_webhooks_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    put(&store, "shop", "https://example.com").await.expect("made");
    store.close().await;
    drop(store);
    let other = with_key(folder.path(), &secrets_key("8"));
    let refused = Store::open(other, &Registry::new()).await.expect_err("another key");
    assert!(matches!(refused, OpenError::SecretsKey { .. }), "{refused}");
}

#[tokio::test]
async fn the_key_that_seals_secrets_can_be_rotated() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (secrets_key("7"), secrets_key("8"));
    let store = open_with(folder.path(), &old).await;
    put(&store, "shop", "https://example.com").await.expect("made");
    rotate(&store, Duration::from_secs(60)).await.expect("rotated");
    store.close().await;
    drop(store);
    let wrong = rotate_secrets(folder.path(), &secrets_key("9"), &new).expect_err("another key");
    assert!(matches!(wrong, RotateError::WrongKey { .. }), "{wrong}");
    let rotated = |secrets| Rotated { secrets, dropped: Vec::new() };
    assert_eq!(rotate_secrets(folder.path(), &old, &new).expect("rotated"), rotated(1));
    assert_eq!(rotate_secrets(folder.path(), &old, &new).expect("again"), rotated(0));
    let store = open_with(folder.path(), &new).await;
    assert_eq!(secrets(&shop(&store)), (Some(TWO), Some(ONE)));
}

/// Changes the table of webhooks, while no server has the folder.
fn damage(folder: &Path, change: &str) {
    let catalog = Connection::open(folder.join("catalog.sqlite")).expect("opens");
    catalog.execute_batch(&format!("UPDATE webhooks SET {change}")).expect("changed");
}

/// What the table has of the secret before.
fn previous(folder: &Path) -> (Option<Vec<u8>>, Option<i64>) {
    let catalog = Connection::open(folder.join("catalog.sqlite")).expect("opens");
    let row = "SELECT previous, previous_until_us FROM webhooks";
    catalog.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a webhook")
}

#[tokio::test]
async fn a_secret_before_that_can_sign_no_more_is_not_in_the_way_of_a_new_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (secrets_key("7"), secrets_key("8"));
    let store = open_with(folder.path(), &old).await;
    put(&store, "shop", "https://example.com").await.expect("made");
    rotate(&store, Duration::from_secs(60)).await.expect("rotated");
    store.close().await;
    drop(store);
    damage(folder.path(), "previous = x'00'");
    let dropped = vec![(tenant(), name("shop"))];
    let rotated = rotate_secrets(folder.path(), &old, &new).expect("rotated");
    assert_eq!(rotated, Rotated { secrets: 1, dropped }, "it is named");
    assert_eq!(previous(folder.path()), (None, None));

    let store = open_with(folder.path(), &new).await;
    assert_eq!(secrets(&shop(&store)), (Some(TWO), None));
    rotate(&store, Duration::from_secs(60)).await.expect("rotated");
    store.close().await;
    drop(store);
    for change in ["previous_until_us = 1", "previous = x'00', previous_until_us = 1"] {
        damage(folder.path(), change);
        let rotated = rotate_secrets(folder.path(), &new, &old).expect(change);
        assert_eq!(rotated, Rotated { secrets: 1, dropped: Vec::new() }, "it has expired");
        assert_eq!(previous(folder.path()), (None, None));
        rotate_secrets(folder.path(), &old, &new).expect("and back");
    }
}

#[tokio::test]
async fn a_damaged_secret_is_named_and_another_one_mends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (secrets_key("7"), secrets_key("8"));
    let store = open_with(folder.path(), &old).await;
    put(&store, "shop", "https://example.com").await.expect("made");
    store.close().await;
    drop(store);
    damage(folder.path(), "sealed = x'00'");
    let damaged = rotate_secrets(folder.path(), &old, &new).expect_err("damaged");
    assert!(matches!(damaged, RotateError::DamagedWebhook { .. }), "{damaged}");
    let said = damaged.to_string();
    assert!(said.contains("\"shop\"") && said.contains("quern webhook rotate"), "{said}");
    let store = open_with(folder.path(), &old).await;
    assert_eq!(secrets(&shop(&store)), (None, None));
    rotate(&store, Duration::from_secs(60)).await.expect("rotated");
    assert_eq!(secrets(&shop(&store)), (Some(TWO), None), "nobody could sign with the damaged one");
    assert!(shop(&store).previous.is_none());
    store.close().await;
    drop(store);
    let rotated = rotate_secrets(folder.path(), &old, &new).expect("rotated");
    assert_eq!(rotated, Rotated { secrets: 1, dropped: Vec::new() });
}
