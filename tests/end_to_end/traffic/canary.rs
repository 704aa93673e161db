//! Canaries: they go on by themselves, roll back by themselves and say why, and outlive a crash.

use super::*;

async fn start(server: &Server, version: u64, steps: &str) -> Answer {
    let limits = json!({"requests": 20});
    let canary = json!({"version": version, "steps": steps, "limits": limits});
    let started = server.post("/v1/functions/f/canary", canary.to_string()).await;
    assert_eq!(started.status, 201, "{}", started.text());
    started
}

async fn status(server: &Server) -> Value {
    server.get("/v1/functions/f/canary").await.json()
}

async fn ended(server: &Server) -> Value {
    until("the canary ends", async || status(server).await["state"] != "running").await;
    status(server).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_does_well_is_promoted_and_loses_no_request() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let load = Load::start(&server, "/f/f/", 4);
    let started = start(&server, 2, "30% 1s, 60% 1s, 100%").await.json();
    assert_eq!((&started["state"], &started["from"]), (&json!("running"), &json!(1)));
    assert_eq!(started["step"]["percent"], 30);
    let meanwhile = set(&server, &shares(&[(1, 100)])).await;
    meanwhile.assert_error(409, "traffic-conflict", "abort or promote");
    let again =
        server.post("/v1/functions/f/canary", json!({"version": 2, "steps": "100%"}).to_string());
    again.await.assert_error(409, "traffic-conflict", "is running");
    let ended = ended(&server).await;
    assert_eq!(ended["state"], "promoted", "{ended}");
    load.go_on(20).await;
    load.stop().await;
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["2"]);
    until("it is counted", async || server.metric("quern_deploy_canaries_total").await == 1.0)
        .await;
    let audit = server.get("/v1/audit").await.json();
    let actions: Vec<_> = audit["records"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| &record["action"])
        .collect();
    assert_eq!(actions, ["canary.promote", "canary.step", "canary.start", "deploy", "deploy"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_does_worse_rolls_back_and_says_why() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &MISBEHAVE, 10).await;
    let client = reqwest::Client::new();
    // The old version answers every path; the new one traps here, fails there, and is slow elsewhere.
    for (path, reason) in [
        ("/f/f/trap", "requests (100.00 %) to version 2 trapped, and 0 of"),
        ("/f/f/silent", "requests (100.00 %) to version 2 failed, and 0 of"),
        ("/f/f/sleep?ms=60", "the median of version 2's latency is at least"),
    ] {
        start(&server, 2, "50% 1h, 100%").await;
        let url = format!("{}{path}", server.url());
        let ended = loop {
            let answers = (0..20).map(|_| client.get(&url).send());
            futures::future::join_all(answers).await;
            let status = status(&server).await;
            if status["state"] != "running" {
                break status;
            }
        };
        assert_eq!(ended["state"], "rolled_back", "{ended}");
        let text = ended["reason"].as_str().expect("a reason");
        assert!(text.contains(reason), "{text:?} should contain {reason:?}");
        let old = client.get(&url).send().await.expect("an answer");
        assert_eq!(old.status(), 200, "the old one has everything again");
        let audit = server.get("/v1/audit?limit=1").await.json();
        assert_eq!(audit["records"][0]["action"], "canary.rollback");
        assert_eq!(audit["records"][0]["detail"]["reason"], text);
    }
}

#[tokio::test]
async fn a_canary_waits_for_requests_and_ends_by_anybodys_word() {
    let server = Server::start();
    server.get("/v1/functions/f/canary").await.assert_error(404, "not-found", "f");
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    server.get("/v1/functions/f/canary").await.assert_error(404, "not-found", "no such canary");
    let refused =
        async |canary: Value| server.post("/v1/functions/f/canary", canary.to_string()).await;
    for (canary, status, code, part) in [
        (json!({"version": 2, "steps": "5%, 100%"}), 400, "invalid-json", "steps: step 1"),
        (json!({"version": 2, "steps": "5% 1m"}), 400, "invalid-json", "steps: the last one"),
        (
            json!({"version": 2, "steps": "100%", "limits": {"latency": 0.5}}),
            400,
            "invalid-request",
            "limits.latency",
        ),
        (
            json!({"version": 9, "steps": "100%"}),
            404,
            "not-found",
            "version: function \"f\" has no version 9",
        ),
        (
            json!({"version": 1, "steps": "100%"}),
            409,
            "traffic-conflict",
            "version 1 of function \"f\" is live",
        ),
        (json!({"steps": "100%"}), 400, "invalid-json", "version"),
    ] {
        refused(canary).await.assert_error(status, code, part);
    }
    set(&server, &shares(&[(1, 50), (2, 50)])).await;
    let split = refused(json!({"version": 2, "steps": "100%"})).await;
    split.assert_error(409, "traffic-conflict", "is split");
    set(&server, &shares(&[(1, 100)])).await;

    start(&server, 2, "50% 1s, 100%").await;
    until("its time is over", async || {
        let waits_for = &status(&server).await["step"]["waits_for"];
        waits_for["time"] == "0s" && waits_for["requests"] == 20
    })
    .await;
    assert_eq!(status(&server).await["step"]["waits_for"]["old_requests"], 20);
    let aborted = server.delete("/v1/functions/f/canary").await.json();
    assert_eq!(
        (&aborted["state"], &aborted["reason"]),
        (&json!("aborted"), &json!("it was asked for"))
    );
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["1"]);
    server.delete("/v1/functions/f/canary").await.assert_error(404, "not-found", "no such canary");

    start(&server, 2, "50% 1h, 100%").await;
    let promoted = server.post("/v1/functions/f/canary/promote", "").await.json();
    assert_eq!(promoted["state"], "promoted");
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["2"]);

    start(&server, 1, "50% 1h, 100%").await;
    assert_eq!(server.post("/v1/functions/f/rollback", "").await.json()["version"], 2);
    let ended = status(&server).await;
    assert_eq!(
        (&ended["state"], &ended["reason"]),
        (&json!("aborted"), &json!("rolled back to version 2"))
    );
    start(&server, 1, "50% 1h, 100%").await;
    server.upload("f", HELLO.manifest().replace("\"hello\"", "\"f\""), HELLO.component()).await;
    assert_eq!(status(&server).await["reason"], "version 3 was deployed");
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_on_after_a_crash_with_the_step_that_it_was_at() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let load = Load::start(&server, "/f/f/", 2);
    start(&server, 2, "20% 1s, 70% 2s, 100%").await;
    until("it is at its second step", async || status(&server).await["step"]["number"] == 2).await;
    load.stop().await;
    let server = Server::start_on(server.kill(), &[]);
    let after = status(&server).await;
    assert_eq!(
        (&after["state"], &after["step"]["number"]),
        (&json!("running"), &json!(2)),
        "{after}"
    );
    assert_eq!(versions(&server, None, 40).await.len(), 2, "both still have their share");
    let load = Load::start(&server, "/f/f/", 2);
    assert_eq!(ended(&server).await["state"], "promoted");
    load.stop().await;
}

#[tokio::test]
async fn the_command_line_starts_shows_and_ends_a_canary() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let folder = tempfile::tempdir().expect("a folder");
    let quern = |line: &[&str]| text(server.url(), folder.path(), line);
    let steps = "10% 1h, 100%";
    let started = quern(&["canary", "start", "f", "2", "--steps", steps, "--requests", "5"]);
    assert!(started.contains("canary of version 2 beside version 1: running"), "{started}");
    assert!(started.contains("step    1, 10% of the requests"), "{started}");
    until("it was looked at", async || {
        quern(&["canary", "status", "f"]).contains("5 more requests")
    })
    .await;
    let aborted = quern(&["canary", "abort", "f"]);
    assert!(
        aborted.contains("aborted") && aborted.contains("reason  it was asked for"),
        "{aborted}"
    );
    quern(&["canary", "start", "f", "2"]);
    assert!(quern(&["canary", "promote", "f"]).contains("promoted"));
    crate::cli::failure(server.url(), &["canary", "abort", "f"], 1, &["no such canary"]);
}
