//! What tenants may ask for: how often and how much at a time, with a token and without; and that a
//! token that is gone lets nobody in, not even where something is under way already.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    EVENTS, HELLO, MISBEHAVE,
    access::Guarded,
    support::{Answer, Server, answer, until},
};

impl Guarded {
    async fn limit(&self, tenant: &str, limits: Value) -> Answer {
        let path = format!("/v1/tenants/{tenant}/limits");
        answer(self.asked(self.admin(), Method::PUT, &path).body(limits.to_string())).await
    }

    async fn revoke(&self, token: &str) {
        let id = token.split('_').nth(1).expect("an id");
        let path = format!("/v1/tokens/{id}");
        let revoked = answer(self.asked(self.admin(), Method::DELETE, &path)).await;
        assert_eq!(revoked.status, 204, "{}", revoked.text());
    }
}

fn assert_limited(answer: &Answer) {
    answer.assert_error(429, "rate-limited", "try again later");
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(seconds > 0, "{seconds}");
}

#[tokio::test]
async fn a_tenant_calls_as_often_as_it_may_and_no_other_is_concerned() {
    let guarded = Guarded::start();
    let limited = guarded.token("limited", "deployer").await;
    let free = guarded.token("free", "deployer").await;
    for token in [&limited, &free] {
        guarded.deploy(token, &HELLO).await;
    }
    let limits = json!({"requests_per_second": 1, "burst": 3, "concurrency": null});
    let said = guarded.limit("limited", limits.clone()).await.json();
    assert_eq!(said, json!({"tenant": "limited", "own": limits, "effective": limits}));
    let mut refused = None;
    for _ in 0..500 {
        let answered = guarded.get(&limited, "/f/hello/").await;
        if answered.status == 429 {
            refused = Some(answered);
            break;
        }
    }
    assert_limited(&refused.expect("it asked more often than once a second"));
    assert_eq!(guarded.get(&free, "/f/hello/").await.status, 200);
    assert_eq!(guarded.get(&limited, "/v1/functions").await.status, 200, "it is no call");
    let infer = guarded.asked(&limited, Method::POST, "/v2/models/nothing/infer").body("{}");
    let infer = answer(infer).await;
    if infer.status == 429 {
        assert!(infer.json()["error"].is_string(), "the protocol's shape: {}", infer.text());
    }
    let metrics = guarded.get(guarded.admin(), "/metrics").await.text();
    let counted = |tenant: &str, outcome: &str| {
        let name =
            format!("quern_tenant_requests_total{{outcome=\"{outcome}\",tenant=\"{tenant}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    assert!(counted("limited", "rate") > 0 && counted("limited", "admitted") > 0, "{metrics}");
    assert_eq!(counted("free", "rate"), 0);

    // What is taken away counts from the next request on, and so after a restart.
    assert_eq!(guarded.limit("limited", json!({})).await.status, 200);
    for _ in 0..10 {
        assert_eq!(guarded.get(&limited, "/f/hello/").await.status, 200);
    }
    guarded.limit("limited", json!({"concurrency": 7})).await;
    let guarded = guarded.restarted();
    let said = guarded.get(guarded.admin(), "/v1/tenants/limited/limits").await.json();
    assert_eq!(said["effective"]["concurrency"], 7);
    let audit = guarded.get(guarded.admin(), "/v1/audit?limit=1").await.json();
    assert_eq!(audit["records"][0]["action"], "tenant.limit");
    assert_eq!(audit["records"][0]["subject"], "tenant limited");
}

#[tokio::test]
async fn a_call_is_under_way_until_its_body_has_gone() {
    let guarded = Guarded::start();
    let token = guarded.token("acme", "deployer").await;
    guarded.deploy(&token, &EVENTS).await;
    guarded.deploy(&token, &HELLO).await;
    guarded.limit("acme", json!({"concurrency": 1})).await;
    let endless = guarded.asked(&token, Method::GET, "/f/events/numbered?ms=10");
    let mut endless = endless.send().await.expect("a head");
    assert_eq!(endless.status(), 200);
    assert!(endless.chunk().await.expect("streams").is_some());
    let refused = guarded.get(&token, "/f/hello/").await;
    refused.assert_error(429, "busy", "1 calls under way");
    drop(endless);
    until("the place is free", async || guarded.get(&token, "/f/hello/").await.status == 200).await;
}

#[tokio::test]
async fn limits_take_an_admin_and_numbers_that_make_sense() {
    let guarded = Guarded::start();
    let deployer = guarded.token("acme", "deployer").await;
    let path = "/v1/tenants/acme/limits";
    for method in [Method::GET, Method::PUT] {
        let refused = answer(guarded.asked(&deployer, method, path).body("{}")).await;
        refused.assert_error(403, "forbidden", "role admin");
    }
    for (limits, code, part) in [
        (json!({"burst": 0}), "invalid-request", "burst is 0"),
        (json!({"concurrency": 1_000_001}), "invalid-request", "concurrency is 1000001"),
        (json!({"requests_per_second": -1}), "invalid-json", "is not of the form"),
        (json!({"per_minute": 1}), "invalid-json", "unknown field"),
        (json!("none"), "invalid-json", "is not of the form"),
    ] {
        guarded.limit("acme", limits).await.assert_error(400, code, part);
    }
    let unknown = guarded.get(guarded.admin(), "/v1/tenants/A/limits").await;
    unknown.assert_error(400, "invalid-name", "name \"A\"");
}

/// A server with these options in its section for tenants.
fn start_with(options: &str) -> Guarded {
    let guarded = Guarded::start();
    guarded.restarted_with(&format!("[tenants]\n{options}\n"))
}

#[tokio::test]
async fn the_control_plane_has_a_limit_of_its_own_that_admins_have_not() {
    let guarded = start_with("control_requests_per_second = 1\ncontrol_burst = 2");
    let token = guarded.token("acme", "deployer").await;
    let mut refused = None;
    for _ in 0..500 {
        let answered = guarded.get(&token, "/v1/functions").await;
        if answered.status == 429 {
            refused = Some(answered);
            break;
        }
    }
    assert_limited(&refused.expect("it asked more often than once a second"));
    for _ in 0..20 {
        assert_eq!(guarded.get(guarded.admin(), "/v1/functions").await.status, 200);
    }
}

#[tokio::test]
async fn whoever_guesses_is_told_to_wait_and_a_good_token_is_let_in_all_the_same() {
    let guarded = start_with("refused_requests_per_second = 1\nrefused_burst = 3");
    let wrong = format!("quern_{}_{}", "0".repeat(16), "0".repeat(64));
    let mut answers = Vec::new();
    for _ in 0..500 {
        answers.push(guarded.get(&wrong, "/v1/functions").await);
        if answers.last().is_some_and(|answer| answer.status == 429) {
            break;
        }
    }
    assert_eq!(answers[0].status, 401);
    assert_limited(answers.last().expect("some"));
    assert_eq!(guarded.get(guarded.admin(), "/v1/functions").await.status, 200);
    let metrics = guarded.get(guarded.admin(), "/metrics").await.text();
    for reason in ["unknown", "rate"] {
        let name = format!("quern_access_refused_total{{reason=\"{reason}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect(reason);
        assert_ne!(count, "0", "{reason}");
    }
}

#[tokio::test]
async fn calls_without_a_token_are_limited_by_their_address() {
    let guarded = start_with("anonymous_requests_per_second = 1\nanonymous_burst = 3");
    let token = guarded.token("acme", "deployer").await;
    guarded.deploy(&token, &HELLO).await;
    let public = json!({"public": true, "tenants": []}).to_string();
    let path = "/v1/functions/hello/access";
    assert_eq!(answer(guarded.asked(&token, Method::PUT, path).body(public)).await.status, 200);
    let mut last = None;
    for _ in 0..500 {
        let answered = guarded.server.get("/f/hello@acme/").await;
        let is_over = answered.status == 429;
        last = Some(answered);
        if is_over {
            break;
        }
    }
    assert_limited(&last.expect("some"));
    assert_eq!(guarded.get(&token, "/f/hello/").await.status, 200, "its owner has a token");
}

#[tokio::test]
async fn a_followed_log_ends_with_the_token_that_reads_it() {
    let guarded = Guarded::start();
    let reader = guarded.token("acme", "deployer").await;
    let writer = guarded.token("acme", "deployer").await;
    guarded.deploy(&writer, &MISBEHAVE).await;
    let path = "/v1/functions/misbehave/logs?follow=true";
    let followed = guarded.asked(&reader, Method::GET, path).send().await.expect("a head");
    let mut parts = followed.bytes_stream();
    assert_eq!(guarded.get(&writer, "/f/misbehave/trap").await.status, 500);
    assert!(parts.next().await.expect("a line").is_ok());
    guarded.revoke(&reader).await;
    assert_eq!(guarded.get(&writer, "/f/misbehave/trap").await.status, 500);
    let rest = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(part) = parts.next().await {
            let Ok(part) = part else { return };
            // What was on its way when the token went is still read.
            assert!(!part.is_empty());
        }
    });
    rest.await.expect("it ends");
}

#[tokio::test]
async fn a_server_that_lets_in_nobody_says_how_to_make_the_first_token() {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(std::process::Stdio::piped());
    let mut server = Server::start_program(command, data, &["--authenticate"]);
    server.terminate();
    assert!(server.wait_for_exit().success());
    let log = server.log();
    assert!(log.contains("no admin's token lets anybody in"), "{log}");
    assert!(log.contains("quern token create --data"), "{log}");
}

#[tokio::test]
async fn a_function_of_a_server_that_asks_nobody_never_sees_a_token_either() {
    let server = Server::start();
    server.deploy(&crate::HANDLER).await;
    let path = format!("/f/{}/request", crate::HANDLER.name);
    let token = format!("quern_{}_{}", "0".repeat(16), "0".repeat(64));
    let shown = answer(server.request(Method::GET, &path).bearer_auth(&token)).await;
    assert!(!shown.text().contains("quern_"), "{}", shown.text());
    let other = answer(server.request(Method::GET, &path).bearer_auth("of-another-kind")).await;
    assert!(other.text().contains("of-another-kind"), "{}", other.text());
}
