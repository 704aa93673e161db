//! What is set for functions: it outlives versions and restarts, goes with its function, and has
//! limits; a secret lies on the disk only as it was sealed.

use std::{path::Path, sync::Arc};

use prometheus::Registry;
use quern_store::{
    AuditQuery, ConfigChange, Gone, OpenError, SecretsKey, SettingError, Store, StoreConfig,
};
use quern_types::{Caller, Class, SecretValue, SettingKey, Settings, TenantId};
use rusqlite::Connection;
use serde_json::json;

use crate::common::{
    caller, config, deploy, http, keep, name, number, open, roll_back, tenant, version,
};

pub(crate) fn secrets_key(text: &str) -> SecretsKey {
    text.repeat(64 / text.len()).parse().expect("a key")
}

pub(crate) fn with_key(directory: &Path, key: &SecretsKey) -> StoreConfig {
    StoreConfig { secrets_key: Some(Arc::new(key.clone())), ..config(directory, 2) }
}

pub(crate) async fn open_with(directory: &Path, key: &SecretsKey) -> Store {
    Store::open(with_key(directory, key), &Registry::new()).await.expect("the store opens")
}

fn key(text: &str) -> SettingKey {
    text.parse().expect("a key")
}

fn secret(text: &str) -> SecretValue {
    SecretValue::new(text.into()).expect("a value")
}

fn merge(changes: &[(&str, Option<&str>)]) -> ConfigChange {
    let changes = changes.iter().map(|(name, value)| (key(name), value.map(str::to_owned)));
    ConfigChange::Merge(changes.collect())
}

fn replace(values: impl IntoIterator<Item = (String, String)>) -> ConfigChange {
    ConfigChange::Replace(values.into_iter().map(|(name, value)| (key(&name), value)).collect())
}

fn unasked() -> Caller {
    caller(&tenant())
}

async fn change(store: &Store, change: ConfigChange) -> Result<(), SettingError> {
    store.catalog().change_config(&unasked(), &name("f"), change).await
}

pub(crate) async fn set(
    store: &Store,
    secret_key: &str,
    value: &str,
) -> Result<bool, SettingError> {
    let (key, value) = (key(secret_key), secret(value));
    store.catalog().set_secret(&unasked(), &name("f"), key, value).await
}

/// Everything that is set for a function, secrets that can be opened among it.
pub(crate) fn all(store: &Store) -> Vec<(String, String)> {
    let settings = store.catalog().settings(&tenant(), &name("f"));
    let all = settings.iter().flat_map(|settings| settings.all());
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn settings_outlive_versions_and_restarts_and_go_with_their_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets_key = secrets_key("7");
    let store = open_with(folder.path(), &secrets_key).await;
    deploy(&store, "f", b"one").await.expect("committed");
    change(&store, merge(&[("mode", Some("fast")), ("size", Some("3"))])).await.expect("set");
    change(&store, merge(&[("mode", Some("slow")), ("size", None)])).await.expect("changed");
    assert_eq!(set(&store, "token", "first").await, Ok(true));
    assert_eq!(set(&store, "token", "second").await, Ok(false));
    let expected = pairs(&[("mode", "slow"), ("token", "second")]);
    assert_eq!(all(&store), expected);
    let before = store.catalog().settings(&tenant(), &name("f")).expect("set");
    deploy(&store, "f", b"two").await.expect("committed");
    roll_back(&store, "f", None).await.expect("rolled back");
    let after = store.catalog().settings(&tenant(), &name("f")).expect("set");
    assert!(Arc::ptr_eq(&before, &after), "what is not changed is the same");
    store.close().await;
    drop(store);

    let store = open_with(folder.path(), &secrets_key).await;
    assert_eq!(all(&store), expected, "after a restart");
    change(&store, replace([("only".into(), "this".into())])).await.expect("replaced");
    assert_eq!(all(&store), pairs(&[("only", "this"), ("token", "second")]));
    let caller = unasked();
    store.catalog().unset_secret(&caller, &name("f"), key("token")).await.expect("removed");
    assert_eq!(all(&store), pairs(&[("only", "this")]));
    set(&store, "token", "third").await.expect("set");
    store.catalog().delete(&caller, Class::Function, &name("f")).await.expect("deleted");
    assert_eq!(all(&store), []);
    deploy(&store, "f", b"three").await.expect("committed");
    assert_eq!(all(&store), [], "another function of the same name");
    store.close().await;
    drop(store);
    assert_eq!(all(&open_with(folder.path(), &secrets_key).await), []);
}

#[tokio::test]
async fn a_model_of_the_same_name_takes_nothing_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let model = keep(&store, b"model").await;
    let new = version(&tenant(), "f", model, crate::common::model());
    store.catalog().commit_model(new).await.expect("committed");
    set(&store, "token", "hunter2").await.expect("set");
    store.catalog().delete(&unasked(), Class::Model, &name("f")).await.expect("deleted");
    assert_eq!(all(&store), pairs(&[("token", "hunter2")]));
}

#[tokio::test]
async fn what_is_refused_is_named_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    deploy(&store, "f", b"one").await.expect("committed");
    let function = || name("f");
    let catalog = store.catalog();
    let absent = name("absent");
    let missing = SettingError::NotFound { function: absent.clone() };
    let unasked = unasked();
    let refused = catalog.change_config(&unasked, &absent, merge(&[])).await;
    assert_eq!(refused, Err(missing.clone()));
    let refused = catalog.set_secret(&unasked, &absent, key("k"), secret("v")).await;
    assert_eq!(refused, Err(missing.clone()));
    assert_eq!(catalog.unset_secret(&unasked, &absent, key("k")).await, Err(missing));
    let stranger = caller(&TenantId::new("stranger"));
    let refused = catalog.set_secret(&stranger, &function(), key("k"), secret("v")).await;
    assert_eq!(refused, Err(SettingError::NotFound { function: function() }));
    let refused = catalog.unset_secret(&unasked, &function(), key("k")).await;
    assert_eq!(refused, Err(SettingError::NoSecret { function: function(), key: key("k") }));

    set(&store, "token", "v").await.expect("set");
    change(&store, merge(&[("mode", Some("fast"))])).await.expect("set");
    let (is_secret, is_config) = (
        SettingError::IsSecret { function: function(), key: key("token") },
        SettingError::IsConfig { function: function(), key: key("mode") },
    );
    let clash = merge(&[("a", Some("1")), ("token", Some("x"))]);
    assert_eq!(change(&store, clash).await, Err(is_secret));
    assert_eq!(set(&store, "mode", "x").await, Err(is_config));

    let several = |count: usize| (0..count).map(|number| (format!("k{number}"), String::new()));
    change(&store, replace(several(256))).await.expect("just fits");
    let refused = change(&store, merge(&[("more", Some(""))])).await;
    assert_eq!(
        refused,
        Err(SettingError::TooManyKeys { function: function(), count: 257, limit: 256 })
    );
    let one = |length: usize| replace([("k".into(), "v".repeat(length))]);
    change(&store, one((64 << 10) - 1)).await.expect("just fits");
    let refused = change(&store, one(64 << 10)).await;
    let (bytes, limit) = ((64 << 10) + 1, Settings::MAX_CONFIG_SIZE);
    assert_eq!(refused, Err(SettingError::TooLarge { function: function(), bytes, limit }));

    for number in 1..64 {
        set(&store, &format!("s{number}"), "v").await.expect("one of the 64");
    }
    let refused = set(&store, "more", "v").await;
    assert_eq!(refused, Err(SettingError::TooManySecrets { function: function(), limit: 64 }));
    assert_eq!(set(&store, "s7", "w").await, Ok(false), "it is there already");
    store.close().await;
    let closed = set(&store, "s7", "w").await;
    assert!(matches!(closed, Err(SettingError::Storage { .. })), "{closed:?}");
}

#[tokio::test]
async fn a_secret_is_on_the_disk_only_as_it_was_sealed() {
    const VALUE: &str = "a value that nothing else has";
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    deploy(&store, "f", b"one").await.expect("committed");
    set(&store, "token", VALUE).await.expect("set");
    assert!(!anywhere(folder.path(), VALUE.as_bytes()), "while it is open");
    assert!(anywhere(folder.path(), b"token"), "what is looked through has the row");
    set(&store, "token", "another").await.expect("set");
    store.catalog().delete(&unasked(), Class::Function, &name("f")).await.expect("deleted");
    store.close().await;
    assert!(!anywhere(folder.path(), VALUE.as_bytes()), "once it is closed");
}

/// Whether any file below a folder has these bytes.
fn anywhere(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => anywhere(&path, bytes),
            false => {
                let content = std::fs::read(&path).expect("a file");
                content.windows(bytes.len()).any(|window| window == bytes)
            }
        }
    })
}

#[tokio::test]
async fn another_key_is_refused_and_without_one_secrets_are_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (right, wrong) = (secrets_key("7"), secrets_key("8"));
    let store = open_with(folder.path(), &right).await;
    deploy(&store, "f", b"one").await.expect("committed");
    set(&store, "token", "hunter2").await.expect("set");
    store.close().await;
    drop(store);

    let refused = Store::open(with_key(folder.path(), &wrong), &Registry::new()).await;
    let refused = refused.expect_err("another key");
    assert!(matches!(&refused, OpenError::SecretsKey { .. }), "{refused}");
    let said = refused.to_string();
    let ids = [right.id().as_str(), wrong.id().as_str()];
    assert!(
        ids.iter().all(|id| said.contains(id)) && said.contains("give the other one"),
        "{said}"
    );

    let store = open(folder.path(), 2).await;
    let locked = |store: &Store| {
        let settings = store.catalog().settings(&tenant(), &name("f"));
        settings.and_then(|settings| settings.locked().cloned())
    };
    assert_eq!((all(&store), locked(&store)), (vec![], Some(key("token"))));
    assert_eq!(set(&store, "other", "v").await, Err(SettingError::NoKey));
    change(&store, merge(&[("mode", Some("fast"))])).await.expect("that takes no key");
    assert_eq!(locked(&store), Some(key("token")), "still");
    store.catalog().unset_secret(&unasked(), &name("f"), key("token")).await.expect("removed");
    assert_eq!(locked(&store), None);
    store.close().await;
    drop(store);
    let store = open_with(folder.path(), &wrong).await;
    assert_eq!(all(&store), pairs(&[("mode", "fast")]), "nothing is sealed otherwise now");
}

#[tokio::test]
async fn a_row_that_was_moved_or_changed_is_locked_and_harms_no_other() {
    let damages = [
        "UPDATE secrets SET key = 'renamed' WHERE key = 'token'",
        "UPDATE secrets SET sealed = x'00' WHERE key = 'token'",
        "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE key = 'other')
         WHERE key = 'token'",
        "UPDATE secrets SET name_id = (SELECT id FROM names WHERE name = 'g') WHERE key = 'token'",
    ];
    for damage in damages {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets_key = secrets_key("7");
        let store = open_with(folder.path(), &secrets_key).await;
        deploy(&store, "f", b"one").await.expect("committed");
        deploy(&store, "g", b"two").await.expect("committed");
        set(&store, "token", "hunter2").await.expect("set");
        set(&store, "other", "hunter3").await.expect("set");
        store.close().await;
        drop(store);
        let catalog = Connection::open(folder.path().join("catalog.sqlite")).expect("opens");
        catalog.execute_batch(damage).expect("damaged");
        drop(catalog);
        let store = open_with(folder.path(), &secrets_key).await;
        let of = |function: &str| store.catalog().settings(&tenant(), &name(function));
        let locked = ["f", "g"]
            .map(|function| of(function).is_some_and(|settings| settings.locked().is_some()));
        assert_eq!(locked, if damage.contains("name_id") { [false, true] } else { [true, false] });
        assert_eq!(all(&store), pairs(&[("other", "hunter3")]), "{damage}");
    }
}

#[tokio::test]
async fn no_request_runs_without_what_was_deleted_with_its_function() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    let resolved = |store: &Store, version: u32| {
        let found = store.catalog().settings_for(&tenant(), &name("f"), number(version));
        found.map(|settings| settings.is_some())
    };
    deploy(&store, "f", b"one").await.expect("committed");
    assert_eq!(resolved(&store, 1), Ok(false));
    assert_eq!(resolved(&store, 9), Ok(false), "nothing was ever set: nothing is asked");
    set(&store, "token", "hunter2").await.expect("set");
    assert_eq!(resolved(&store, 1), Ok(true));
    store.catalog().delete(&unasked(), Class::Function, &name("f")).await.expect("deleted");
    assert_eq!(resolved(&store, 1), Err(Gone(number(1))));
    deploy(&store, "f", b"two").await.expect("committed");
    assert_eq!((resolved(&store, 1), resolved(&store, 2)), (Err(Gone(number(1))), Ok(false)));
}

#[tokio::test]
async fn changes_are_recorded_with_their_keys_and_without_their_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open_with(folder.path(), &secrets_key("7")).await;
    let acme = caller(&TenantId::new("acme"));
    let content = keep(&store, b"f").await;
    let new = version(&acme.tenant, "f", content, http());
    store.catalog().commit_function(new).await.expect("deployed");
    let (catalog, f) = (store.catalog(), name("f"));
    let value = "hunter2";
    catalog.set_secret(&acme, &f, key("token"), secret(value)).await.expect("set");
    let changes = merge(&[("a", Some(value)), ("b", Some(value))]);
    catalog.change_config(&acme, &f, changes.clone()).await.expect("set");
    catalog.change_config(&acme, &f, changes).await.expect("the same again");
    catalog.change_config(&acme, &f, merge(&[("a", None), ("b", Some("3"))])).await.expect("set");
    catalog.unset_secret(&acme, &f, key("token")).await.expect("removed");
    let query = AuditQuery { limit: 9, ..AuditQuery::default() };
    let records = catalog.audit(query).await.expect("readable");
    let told: Vec<_> =
        records.iter().map(|record| (&*record.action, &*record.subject, &record.detail)).collect();
    assert_eq!(
        told[..4],
        [
            ("secret.unset", "function f", &json!({ "key": "token" })),
            ("config.change", "function f", &json!({ "set": ["b"], "unset": ["a"] })),
            ("config.change", "function f", &json!({ "set": ["a", "b"], "unset": [] })),
            ("secret.set", "function f", &json!({ "key": "token" })),
        ]
    );
    assert!(records.iter().all(|record| record.tenant == acme.tenant));
    assert!(!format!("{records:?}").contains(value));
}
