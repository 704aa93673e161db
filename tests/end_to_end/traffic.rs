//! Traffic between versions: shares, what keeps requests together, aliases, canaries, and that no
//! request is lost through any of it.

mod canary;
mod removal;
mod shadow;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    DIGITS, HELLO, MISBEHAVE, MODEL_CALLS,
    cli::text,
    support::{Answer, Server, answer, digits_model, until},
};

/// Deploys a guest as a version of `f`; another limit makes another version of the same component.
/// It gets no requests unless it is the first.
async fn deploy(server: &Server, guest: &crate::Guest, log_kib: u32) -> u64 {
    let manifest = format!("name = 'f'\nkind = 'http'\n[limits]\nlog = '{log_kib}KiB'\n");
    let form = reqwest::multipart::Form::new()
        .text("manifest", manifest)
        .part("component", reqwest::multipart::Part::bytes(guest.component()));
    let request = server.request(Method::PUT, "/v1/functions/f?live=false").multipart(form);
    let deployed = answer(request).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    deployed.json()["version"].as_u64().expect("a number")
}

/// Deploys the digits model in two versions, of which the first is live.
pub(crate) async fn deploy_two_models(server: &Server) {
    server.deploy_digits_model().await;
    let form = reqwest::multipart::Form::new()
        .text("manifest", "max_batch = 2")
        .part("model", reqwest::multipart::Part::bytes(digits_model()));
    let request = server.request(Method::PUT, "/v1/models/digits-mlp?live=false").multipart(form);
    let deployed = answer(request).await.json();
    assert_eq!((&deployed["version"], &deployed["live"]), (&json!(2), &json!(false)));
}

fn shares(of: &[(u64, u64)]) -> Value {
    let share = |(version, percent): &(u64, u64)| json!({"version": version, "percent": percent});
    json!({"versions": of.iter().map(share).collect::<Vec<_>>()})
}

async fn set(server: &Server, traffic: &Value) -> Answer {
    server.put("/v1/functions/f/traffic", traffic.to_string()).await
}

/// Which versions answer so many requests with such a header, and how many of them.
async fn versions(
    server: &Server,
    header: Option<(&str, &str)>,
    requests: usize,
) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..requests {
        let request = server.request(Method::GET, "/f/f/");
        let request =
            header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let answered = answer(request).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        *seen.entry(answered.header("quern-version").to_owned()).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn a_version_that_waits_gets_no_requests_but_those_that_ask_for_it() {
    let server = Server::start();
    assert_eq!(deploy(&server, &HELLO, 10).await, 1);
    assert_eq!(deploy(&server, &HELLO, 20).await, 2);
    assert_eq!(
        versions(&server, None, 20).await.keys().collect::<Vec<_>>(),
        ["1"],
        "the first is live"
    );
    let alias = server.put("/v1/functions/f/aliases/next", "{\"version\": 2}").await;
    assert_eq!(alias.json(), json!({"alias": "next", "version": 2}));
    for (asked, expected) in [("2", "2"), ("next", "2"), ("live", "1"), ("1", "1")] {
        let seen = versions(&server, Some(("quern-version", asked)), 1).await;
        assert_eq!(seen.keys().collect::<Vec<_>>(), [expected], "{asked}");
    }
    let moved = server.put("/v1/functions/f/aliases/next", "{\"version\": 1}").await;
    assert_eq!(moved.status, 200);
    assert_eq!(versions(&server, Some(("quern-version", "next")), 1).await["1"], 1);
    assert_eq!(server.delete("/v1/functions/f/aliases/next").await.status, 204);
    for (asked, status, code, part) in [
        ("3", 404, "not-found", "3"),
        ("next", 404, "not-found", "next"),
        ("V2", 400, "invalid-request", "quern-version"),
    ] {
        let request = server.request(Method::GET, "/f/f/").header("quern-version", asked);
        answer(request).await.assert_error(status, code, part);
    }
}

#[tokio::test]
async fn versions_share_requests_as_they_are_told() {
    let server = Server::start();
    for log_kib in [10, 20, 30] {
        deploy(&server, &HELLO, log_kib).await;
    }
    let set_to = set(&server, &shares(&[(1, 50), (3, 50)])).await;
    assert_eq!(set_to.status, 200, "{}", set_to.text());
    let seen = versions(&server, None, 60).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["1", "3"]);
    let counted = server.get("/v1/functions/f/traffic").await.json();
    let requests: u64 = (0..2)
        .map(|at| counted["versions"][at]["counted"]["requests"].as_u64().expect("a count"))
        .sum();
    assert_eq!(requests, 60, "{counted}");
    for sticky in [json!({"header": "x-user"}), json!({"cookie": "user"})] {
        let mut traffic = shares(&[(1, 50), (3, 50)]);
        traffic["sticky"] = sticky.clone();
        assert_eq!(set(&server, &traffic).await.json()["sticky"], sticky);
        let mut users = BTreeMap::<String, usize>::new();
        for user in 0..30 {
            let (name, value) = match sticky["header"].is_string() {
                true => ("x-user", format!("u{user}")),
                false => ("cookie", format!("a=b; user=u{user}")),
            };
            let seen = versions(&server, Some((name, &value)), 3).await;
            assert_eq!(seen.len(), 1, "{value} goes one way: {seen:?}");
            *users.entry(seen.keys().next().expect("one").clone()).or_default() += 1;
        }
        assert_eq!(users.len(), 2, "users go both ways: {users:?}");
    }
    // One command goes back, and no further than to what was there.
    assert_eq!(server.post("/v1/functions/f/rollback", "").await.json()["version"], 1);
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["1"]);
    set(&server, &shares(&[(2, 100)])).await;
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["2"]);
    assert_eq!(server.get("/v1/functions/f").await.json()["version"], 2, "and it is live");
}

#[tokio::test]
async fn what_can_not_be_set_is_refused_by_field_and_changes_nothing() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let before = server.get("/v1/functions/f/traffic").await.json();
    let cases = [
        (
            shares(&[(1, 90), (2, 9)]),
            400,
            "invalid-request",
            "versions: the percentages add up to 99",
        ),
        (shares(&[(1, 50), (1, 50)]), 400, "invalid-request", "versions[1].version"),
        (shares(&[(1, 100), (2, 0)]), 400, "invalid-request", "versions[1].percent"),
        (shares(&[]), 400, "invalid-request", "versions"),
        (
            shares(&[(1, 50), (7, 50)]),
            404,
            "not-found",
            "versions: function \"f\" has no version 7",
        ),
        (shares(&[(0, 100)]), 400, "invalid-json", "versions[0].version"),
        (
            json!({"versions": [], "sticky": {"header": "a b"}}),
            400,
            "invalid-json",
            "sticky.header",
        ),
        (json!({"weights": []}), 400, "invalid-json", "weights"),
    ];
    for (traffic, status, code, part) in cases {
        set(&server, &traffic).await.assert_error(status, code, part);
    }
    let put = async |path: &str, body: &str| server.put(path, body.to_owned()).await;
    let alias = "/v1/functions/f/aliases";
    put(&format!("{alias}/a"), "{\"version\": 9}").await.assert_error(404, "not-found", "version");
    put(&format!("{alias}/7"), "{\"version\": 1}").await.assert_error(400, "invalid-name", "7");
    put(&format!("{alias}/live"), "{\"version\": 1}").await.assert_error(
        400,
        "invalid-name",
        "live",
    );
    put(&format!("{alias}/A"), "{\"version\": 1}").await.assert_error(400, "invalid-name", "A");
    put(&format!("{alias}/a"), "{}").await.assert_error(400, "invalid-json", "version");
    server.delete(&format!("{alias}/a")).await.assert_error(404, "not-found", "a");
    for at in 0..32 {
        assert_eq!(put(&format!("{alias}/a{at}"), "{\"version\": 1}").await.status, 200);
    }
    let one_more = put(&format!("{alias}/b"), "{\"version\": 1}").await;
    one_more.assert_error(409, "traffic-conflict", "32 aliases");
    for at in 0..32 {
        server.delete(&format!("{alias}/a{at}")).await;
    }
    let unknown = server.put("/v1/functions/g/traffic", shares(&[(1, 100)]).to_string()).await;
    unknown.assert_error(404, "not-found", "g");
    server.get("/v1/models/f/traffic").await.assert_error(404, "not-found", "f");
    let strange = server.request(Method::PUT, "/v1/functions/f?live=maybe").body("x");
    answer(strange).await.assert_error(400, "invalid-request", "live");
    assert_eq!(server.get("/v1/functions/f/traffic").await.json(), before);
}

#[tokio::test]
async fn models_and_the_functions_that_call_them_are_split_too() {
    let server = Server::start();
    deploy_two_models(&server).await;
    let (traffic, image) = ("/v1/models/digits-mlp/traffic", vec![1.0; 64]);
    let inputs = json!([{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": image}]);
    let split = server.put(traffic, shares(&[(1, 50), (2, 50)]).to_string()).await;
    assert_eq!(split.status, 200, "{}", split.text());
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..30 {
        let answered = server.infer("digits-mlp", inputs.clone()).await;
        assert_eq!(answered.json()["model_version"], answered.header("quern-version"));
        *seen.entry(answered.header("quern-version").to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let asked = server.infer("digits-mlp/versions/2", inputs.clone()).await;
    assert_eq!(asked.header("quern-version"), "2");
    let body = json!({"inputs": inputs}).to_string();
    let twice = server.request(Method::POST, "/v2/models/digits-mlp/versions/2/infer");
    let twice = answer(twice.header("quern-version", "1").body(body)).await;
    assert_eq!((twice.status.as_u16(), twice.code()), (400, "invalid-request"), "{}", twice.text());

    let calls = async |version: u32| {
        let stats =
            server.get(&format!("/v2/models/digits-mlp/versions/{version}/stats")).await.json();
        stats["model_stats"][0]["inference_stats"]["success"]["count"].as_u64().expect("a count")
    };
    let before = [calls(1).await, calls(2).await];
    server.deploy(&DIGITS).await;
    for _ in 0..30 {
        assert_eq!(server.infer("digits", inputs.clone()).await.status, 200);
    }
    let after = [calls(1).await, calls(2).await];
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    assert_eq!(after[0] + after[1], before[0] + before[1] + 30);
    server.deploy(&MODEL_CALLS).await;
}

#[tokio::test]
async fn what_the_traffic_names_is_kept_and_outlives_a_restart() {
    let server = Server::start_with(&["--keep-versions", "1"]);
    for log_kib in [10, 20] {
        deploy(&server, &HELLO, log_kib).await;
    }
    set(&server, &shares(&[(1, 60), (2, 40)])).await;
    server.put("/v1/functions/f/aliases/old", "{\"version\": 2}").await;
    for log_kib in [30, 40] {
        deploy(&server, &HELLO, log_kib).await;
    }
    let kept = async |server: &Server| {
        let versions = server.get("/v1/functions/f/versions").await.json();
        let versions = versions["versions"].as_array().expect("a list").clone();
        versions
            .iter()
            .map(|version| version["version"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&server).await, [4, 2, 1], "3 had nothing");
    let before = server.get("/v1/functions/f/traffic").await.json();
    let server = Server::start_on(server.kill(), &["--keep-versions", "1"]);
    let after = server.get("/v1/functions/f/traffic").await.json();
    for field in ["live", "aliases", "sticky"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(versions(&server, None, 40).await.keys().collect::<Vec<_>>(), ["1", "2"]);
    // A deployment takes everything; what only had a share goes, what has an alias stays.
    let live =
        server.upload("f", HELLO.manifest().replace("\"hello\"", "\"f\""), HELLO.component());
    assert_eq!(live.await.json()["version"], 5);
    assert_eq!(versions(&server, None, 20).await.keys().collect::<Vec<_>>(), ["5"]);
    assert_eq!(kept(&server).await, [5, 2]);
    assert_eq!(server.delete("/v1/functions/f").await.status, 204);
}

#[tokio::test]
async fn every_change_of_traffic_is_in_the_audit_log() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    set(&server, &shares(&[(1, 90), (2, 10)])).await;
    server.put("/v1/functions/f/aliases/a", "{\"version\": 2}").await;
    server.delete("/v1/functions/f/aliases/a").await;
    set(&server, &shares(&[(1, 1)])).await;
    let audit = server.get("/v1/audit").await.json();
    let actions: Vec<_> = audit["records"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| &record["action"])
        .collect();
    assert_eq!(actions, ["alias.remove", "alias.set", "traffic.set", "deploy", "deploy"]);
    assert_eq!(audit["records"][2]["detail"]["versions"][1], json!({"version": 2, "percent": 10}));
    assert_eq!(audit["records"][3]["detail"]["live"], false);
}

#[tokio::test]
async fn the_command_line_sets_and_shows_traffic() {
    let server = Server::start();
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let folder = tempfile::tempdir().expect("a folder");
    let quern =
        |line: &str| text(server.url(), folder.path(), &line.split(' ').collect::<Vec<_>>());
    let shown = quern("traffic f v1=80 v2=20 --sticky-header x-user");
    assert!(shown.contains("1        80%") && shown.contains("sticky by header x-user"), "{shown}");
    assert_eq!(quern("alias set f next 2"), "next is version 2 of f now\n");
    assert!(quern("alias list f").contains("next   2"));
    assert!(quern("traffic f").contains("alias next is version 2"));
    assert_eq!(quern("alias remove f next"), "f has no alias next any more\n");
    assert!(!quern("traffic f --not-sticky").contains("sticky"));
    assert_eq!(quern("rollback f"), "function f is at version 1 now\n");
    assert!(quern("traffic f").contains("1        100%"));
    crate::cli::failure(server.url(), &["traffic", "f", "v1=80"], 1, &["add up to 80"]);
    crate::cli::failure(server.url(), &["traffic", "f", "v1"], 2, &["v2=10"]);
}

/// Requests without a pause from so many clients, until they are told to stop: how many there were.
/// Each must be answered 2xx.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(server: &Server, path: &str, clients: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let (client, url) = (reqwest::Client::new(), format!("{}{path}", server.url()));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let got = client.get(&url).send().await.expect("an answer");
                    let (status, version) =
                        (got.status(), got.headers().get("quern-version").cloned());
                    let body = got.text().await.expect("a whole body");
                    assert!(status.is_success(), "{status} of {version:?}: {body}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more requests were answered.
    async fn go_on(&self, requests: u64) {
        let until_then = self.answered.load(Ordering::Relaxed) + requests;
        until("requests are answered", async || {
            self.clients.iter().any(|client| client.is_finished())
                || self.answered.load(Ordering::Relaxed) >= until_then
        })
        .await;
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("every request was answered");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_traffic_moves() {
    let server = Server::start_with(&["--keep-versions", "1"]);
    deploy(&server, &HELLO, 10).await;
    deploy(&server, &HELLO, 20).await;
    let load = Load::start(&server, "/f/f/", 8);
    load.go_on(200).await;
    for round in 0..6u32 {
        let next = u64::from(round) + 2;
        for percent in [10, 50, 90] {
            let split = shares(&[(next - 1, 100 - percent), (next, percent)]);
            assert_eq!(set(&server, &split).await.status, 200);
            let alias = format!("{{\"version\": {}}}", next - u64::from(percent < 50));
            assert_eq!(server.put("/v1/functions/f/aliases/stable", alias).await.status, 200);
            load.go_on(30).await;
        }
        assert_eq!(server.post("/v1/functions/f/rollback", "").await.status, 200);
        load.go_on(30).await;
        assert_eq!(set(&server, &shares(&[(next, 100)])).await.status, 200);
        // The old version goes with this one: nothing names it any more, and one is kept.
        assert_eq!(deploy(&server, &HELLO, 30 + 10 * round).await, next + 1);
        load.go_on(30).await;
        let old = server.request(Method::GET, "/f/f/").header("quern-version", next - 1);
        assert_eq!(answer(old).await.status, 404, "it is gone");
    }
    let answered = load.stop().await;
    assert!(answered > 700, "{answered}");
}
