//! Tokens and the audit log: what is acknowledged is there after a restart, and every change of
//! the catalog says who made it.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quern_store::{AuditQuery, AuditRecord, Store, TokenError};
use quern_types::{Caller, Class, Credential, CredentialError, Role, TenantId, Token, TokenId};
use rusqlite::Connection;
use serde_json::json;

use crate::common::{caller, deploy, http, keep, name, open, roll_back, version};

fn credential(fill: u8) -> Credential {
    Credential::from_random([fill; Credential::BYTES])
}

fn token(credential: &Credential, expires: u64) -> Token {
    Token {
        id: credential.id(),
        tenant: TenantId::new("acme"),
        role: Role::Deployer,
        note: "of a build".into(),
        hash: credential.hash(),
        created: UNIX_EPOCH + Duration::from_micros(3),
        expires: Some(UNIX_EPOCH + Duration::from_micros(expires)),
    }
}

/// When tokens expire that are of use to nobody but tests: in the year 2200, in microseconds.
const LATER: u64 = 7_258_118_400_000_000;

async fn audit(store: &Store, query: AuditQuery) -> Vec<AuditRecord> {
    store.catalog().audit(query).await.expect("readable")
}

fn newest(limit: usize) -> AuditQuery {
    AuditQuery { limit, ..AuditQuery::default() }
}

#[tokio::test]
async fn a_token_lets_in_until_it_is_revoked_whatever_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kept, revoked) = (credential(1), credential(2));
    let admin = Caller::unasked();
    let store = open(folder.path(), 2).await;
    for made in [&kept, &revoked] {
        store.catalog().add_token(&admin, token(made, LATER)).await.expect("added");
    }
    store.catalog().revoke_token(&admin, revoked.id()).await.expect("revoked");
    store.close().await;

    let store = open(folder.path(), 2).await;
    let access = store.catalog().access();
    let now = UNIX_EPOCH + Duration::from_micros(LATER - 1);
    assert_eq!(access.check(&kept, now).map(|found| (**found).clone()), Ok(token(&kept, LATER)));
    assert_eq!(access.check(&revoked, now), Err(CredentialError::Unknown));
    let again = store.catalog().revoke_token(&admin, revoked.id()).await;
    assert_eq!(again, Err(TokenError::NotFound { id: revoked.id() }));
    store.close().await;
    let closed = store.catalog().add_token(&admin, token(&revoked, LATER)).await;
    assert!(matches!(closed, Err(TokenError::Storage { .. })), "{closed:?}");
}

#[tokio::test]
async fn every_change_says_who_made_it_and_what_was_refused_says_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    for content in [b"one", b"two"] {
        deploy(&store, "f", content).await.expect("deployed");
    }
    roll_back(&store, "f", None).await.expect("rolled back");
    roll_back(&store, "f", Some(9)).await.expect_err("no such version");
    let id: TokenId = credential(1).id();
    let acme = Caller { tenant: TenantId::new("acme"), role: Role::Deployer, token: Some(id) };
    let mut new = version(&acme.tenant, "g", keep(&store, b"g").await, http());
    new.caller = acme.clone();
    let digest = new.digest;
    store.catalog().commit_function(new).await.expect("deployed");
    store.catalog().delete(&acme, Class::Function, &name("g")).await.expect("deleted");
    store.catalog().delete(&acme, Class::Function, &name("g")).await.expect_err("gone");
    store.catalog().add_token(&acme, token(&credential(1), LATER)).await.expect("added");

    let records = audit(&store, newest(10)).await;
    let told: Vec<_> =
        records.iter().map(|record| (&*record.action, &*record.subject, record.token)).collect();
    let made = format!("token {id}");
    assert_eq!(
        told,
        [
            ("token.create", &*made, Some(id)),
            ("delete", "function g", Some(id)),
            ("deploy", "function g", Some(id)),
            ("rollback", "function f", None),
            ("deploy", "function f", None),
            ("deploy", "function f", None),
        ]
    );
    let detail = |index: usize| &records[index].detail;
    assert_eq!(detail(0)["tenant"], "acme");
    assert_eq!(detail(0)["role"], "deployer");
    assert!(!detail(0).to_string().contains(&credential(1).hash().to_hex()));
    assert_eq!(*detail(2), json!({"version": 1, "digest": digest.to_string()}));
    assert_eq!(*detail(3), json!({"version": 1}));

    let of_acme = AuditQuery { tenant: Some(acme.tenant.clone()), ..newest(10) };
    assert_eq!(audit(&store, of_acme).await, records[..3]);
    let older = AuditQuery { before: Some(records[1].sequence), ..newest(2) };
    assert_eq!(audit(&store, older).await, records[2..4]);
    store.close().await;
    let store = open(folder.path(), 2).await;
    assert_eq!(audit(&store, newest(10)).await, records, "after a restart");
}

#[tokio::test]
async fn a_tenant_sees_and_changes_its_own_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let (mine, yours) = (TenantId::new("mine"), TenantId::new("yours"));
    let content = keep(&store, b"f").await;
    store.catalog().commit_function(version(&mine, "f", content, http())).await.expect("deployed");
    let routes = store.catalog().routes();
    assert!(routes.function(&mine, &name("f")).is_some());
    assert!(routes.function(&yours, &name("f")).is_none());
    let refused = store.catalog().delete(&caller(&yours), Class::Function, &name("f")).await;
    refused.expect_err("another's");
    assert!(store.catalog().routes().function(&mine, &name("f")).is_some());
}

/// Tokens that there are, in their order.
fn left(store: &Store) -> Vec<TokenId> {
    let mut ids: Vec<_> = store.catalog().access().tokens().map(|token| token.id).collect();
    ids.sort_unstable();
    ids
}

/// The same store, as if all that was recorded in it had been so many days ago.
async fn reopened(store: Store, folder: &Path, days_ago: u64) -> Store {
    store.close().await;
    drop(store);
    let catalog = Connection::open(folder.join("catalog.sqlite")).expect("opens");
    catalog.execute("UPDATE audit SET time_us = ?1", [days(days_ago) as i64]).expect("updated");
    drop(catalog);
    open(folder, 2).await
}

/// The time so many days ago, in microseconds.
fn days(ago: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let then = now - Duration::from_secs(ago * 24 * 3_600);
    u64::try_from(then.as_micros()).expect("in time")
}

#[tokio::test]
async fn tokens_that_have_long_expired_go_with_the_next_one_and_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = Caller::unasked();
    let store = open(folder.path(), 2).await;
    let [old, recent, other, good] = [1, 2, 3, 4].map(credential);
    store.catalog().add_token(&admin, token(&old, 10)).await.expect("added");
    // One that expired a moment ago is still told from one that never was.
    store.catalog().add_token(&admin, token(&recent, days(0) - 1)).await.expect("added");
    assert_eq!(left(&store), [old.id(), recent.id()], "nothing is known of the time yet");
    let store = reopened(store, folder.path(), 1).await;
    assert_eq!(left(&store), [recent.id()]);
    store.catalog().add_token(&admin, token(&other, 10)).await.expect("added");
    store.catalog().add_token(&admin, token(&good, LATER)).await.expect("added");
    assert_eq!(left(&store), [recent.id(), good.id()]);
    assert_eq!(audit(&store, newest(10)).await.len(), 4, "nobody was let in or kept out by it");
}

#[tokio::test]
async fn no_token_goes_by_a_clock_that_is_ahead_of_all_that_was_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = Caller::unasked();
    let store = open(folder.path(), 2).await;
    let [before, after, good] = [1, 2, 3].map(credential);
    for (token_of, days_ago) in [(&before, 40), (&after, 20)] {
        let expired = token(token_of, days(days_ago));
        store.catalog().add_token(&admin, expired).await.expect("added");
    }
    // As it looks to a server that starts with a clock a month ahead.
    let store = reopened(store, folder.path(), 30).await;
    assert_eq!(left(&store), [after.id()]);
    // What it records itself says nothing.
    for made in [&good, &before] {
        store.catalog().add_token(&admin, token(made, LATER)).await.expect("added");
        assert!(left(&store).contains(&after.id()));
    }
}
