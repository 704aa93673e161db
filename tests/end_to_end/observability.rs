//! What operators see of a server: health, rates, filtered logs, and metrics that are what the
//! documentation, the dashboard and the alerts say they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    HELLO, IMPORTS, MISBEHAVE,
    access::Guarded,
    support::{Server, answer, digits_model, root, until},
    tls::Identity,
    traces::{Collector, start},
};

fn quern(server: &Server, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    let output = command.args(["--url", server.url()]).args(arguments).output().expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn image(rows: usize) -> Value {
    json!([{ "name": "image", "shape": [rows, 64], "datatype": "FP32",
             "data": vec![3.0; rows * 64] }])
}

#[tokio::test]
async fn a_server_says_why_it_is_not_quite_well() {
    let server = start("[models]\nprocess = \"worker\"");
    let health = async || server.get("/readyz").await;
    let codes = async || -> Vec<String> {
        let reasons = health().await.json()["reasons"].as_array().expect("reasons").clone();
        reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
    };
    let worker = async || server.get("/v1/devices").await.json()["devices"][0]["worker"].take();
    until("the worker is up", async || worker().await["process_id"].is_u64()).await;
    assert!(!codes().await.contains(&"worker-down".to_owned()));

    // Stopped rather than killed, the next one can't come up before it is looked at.
    let pid = i32::try_from(worker().await["process_id"].as_u64().expect("a process"));
    let pid = Pid::from_raw(pid.expect("a process")).expect("a process");
    let killed = async || {
        let _ = kill_process(pid, Signal::KILL);
        codes().await.contains(&"worker-down".to_owned())
            || server.metric("quern_device_worker_starts_total").await >= 2.0
    };
    until("the worker is down, or up again already", killed).await;
    assert_eq!(health().await.status, 200, "the server answers nevertheless");

    server.terminate();
    let drains = async || match server.request(Method::GET, "/readyz").send().await {
        Ok(reply) if reply.status() == 503 => {
            let body: Value = reply.json().await.expect("JSON");
            assert_eq!(body["state"], "draining");
            true
        }
        Ok(_) => false,
        // It is gone already: nobody was being answered.
        Err(_) => true,
    };
    until("the server drains", drains).await;
}

#[tokio::test]
async fn health_is_told_to_people_programs_and_protocols() {
    let server = Server::start();
    let (ok, said) = quern(&server, &["health"]);
    assert!(ok && (said.starts_with("ready") || said.starts_with("degraded")), "{said}");
    let (ok, said) = quern(&server, &["health", "--json"]);
    let health: Value = serde_json::from_str(&said).expect("JSON");
    assert!(ok && health["reasons"].is_array(), "{health}");
    assert_eq!(server.get("/v2/health/ready").await.json(), json!({"ready": true}));
    let metrics = server.get("/metrics").await.text();
    for code in ["worker-down", "disk-read-only", "writes-failing"] {
        let series = format!("quern_server_concern{{code=\"{code}\"}} 0");
        assert!(metrics.contains(&series), "{series}");
    }
}

#[tokio::test]
async fn a_server_whose_models_are_to_be_warm_is_ready_once_they_are() {
    let server = Server::start();
    let form = reqwest::multipart::Form::new()
        .text("manifest", "warm_up = { runs = 2 }")
        .part("model", reqwest::multipart::Part::bytes(digits_model()));
    let deployed = answer(server.request(Method::PUT, "/v1/models/warm").multipart(form)).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let server = Server::start_on(server.stop(), &[]);
    let ready = async || {
        let health = server.get("/readyz").await;
        let state = health.json()["state"].clone();
        let starts = health.status == 503 && state == "starting";
        assert!(starts || health.status == 200, "{}", health.text());
        !starts
    };
    until("the server is ready", ready).await;
    assert_eq!(server.metric("quern_device_replicas").await, 1.0, "the model is loaded");
}

#[tokio::test]
async fn rates_are_those_of_the_callers_own() {
    let guarded = Guarded::start();
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    guarded.deploy_hello(&mine).await;
    for _ in 0..3 {
        assert_eq!(guarded.get(&mine, "/f/hello/").await.status, 200);
    }
    let stats = async |token: &str| guarded.get(token, "/v1/stats").await.json();
    let counted = async || stats(&mine).await["functions"][0]["requests"]["ok"] == 3;
    until("three requests are counted", counted).await;
    let function = stats(&mine).await["functions"][0].take();
    assert_eq!((&function["name"], &function["running"]), (&json!("hello"), &json!(0)));
    assert_eq!((&function["seconds"]["count"], &function["cold_starts"]), (&json!(3), &json!(1)));
    assert!(function["concurrency"].as_u64().is_some_and(|most| most > 0), "{function}");
    let others = stats(&yours).await;
    assert_eq!((&others["functions"], &others["truncated"]), (&json!([]), &json!(false)));
}

#[tokio::test]
async fn top_shows_what_happens_in_between() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&MISBEHAVE).await;
    let nothing = quern(&server, &["top", "--once", "--interval", "100ms"]);
    assert!(nothing.0 && nothing.1.starts_with("nothing has been called"), "{}", nothing.1);
    let url = server.url().to_owned();
    let top = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.args(["--url", &url, "top", "--once", "--interval", "1s", "--json"]);
        command.output().expect("runs")
    });
    while !top.is_finished() {
        assert_eq!(server.infer("digits-mlp", image(2)).await.status, 200);
        assert_eq!(server.get("/f/misbehave/trap").await.status, 500);
    }
    let top = top.await.expect("no panic");
    let top: Value = serde_json::from_slice(&top.stdout).expect("JSON");
    let row = |name: &str| {
        let rows = top["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {top}"))
    };
    let (model, function) = (row("digits-mlp"), row("misbehave"));
    assert_eq!((&model["kind"], &model["batch_rows"]), (&json!("model"), &json!(2.0)));
    assert!(model["requests_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{model}");
    assert_eq!(function["errors_per_second"], function["requests_per_second"]);
    assert!(function["p99_seconds"].as_f64() >= function["p50_seconds"].as_f64(), "{function}");
    let (ok, shown) = quern(&server, &["top", "--once", "-i", "100ms", "--sort", "name"]);
    assert!(ok && shown.lines().nth(1).is_some_and(|line| line.contains("digits-mlp")), "{shown}");
}

#[tokio::test]
async fn logs_are_found_by_what_is_known_of_them() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    server.get("/f/misbehave/print?lines=3").await;
    let trap = server.get("/f/misbehave/trap").await;
    let invocation = trap.header("quern-invocation").to_owned();
    let logs = |arguments: &[&str]| {
        let (ok, text) = quern(&server, &[&["logs", "misbehave"], arguments].concat());
        assert!(ok, "{text}");
        text
    };
    until("the trap is written", async || logs(&[]).contains("unreachable")).await;
    assert!(logs(&["--stream", "system"]).contains("unreachable"));
    assert!(!logs(&["--stream", "stdout"]).contains("unreachable"));
    assert!(logs(&["--level", "error"]).lines().all(|line| !line.contains(" stdout: ")));
    let short = &invocation[invocation.len() - 8..];
    for of_it in [&invocation, short] {
        let found = logs(&["--invocation", of_it]);
        assert!(!found.is_empty() && found.contains("unreachable"), "{found}");
    }
    assert!(logs(&["--since", "1h", "--text", "unreachable", "--version", "1"]).contains(short));
    assert_eq!(logs(&["--since", "2099-01-01T00:00:00Z"]), "");
    assert_eq!(logs(&["--until", "1h"]), "");
    assert_eq!(logs(&["--version", "2"]), "");
    let (ok, refused) = quern(&server, &["logs", "misbehave", "--since", "yesterday"]);
    assert!(!ok && refused.contains("how long ago"), "{refused}");
    let query = "/v1/functions/misbehave/logs?follow=true&until=1s";
    server.get(query).await.assert_error(400, "invalid-request", "exclude each other");
}

/// The metrics of a server by name, each with the labels that it has.
struct Metrics(BTreeMap<String, BTreeSet<String>>);

impl Metrics {
    /// Of a server on which everything has happened that has a metric of its own.
    async fn live() -> Self {
        let collector = Collector::start();
        let server = start(&format!(
            "[tracing]\nendpoint = \"{}\"\ndelay = \"10ms\"\n[models]\nprocess = \"worker\"",
            collector.url()
        ));
        server.deploy_digits_model().await;
        server.deploy(&HELLO).await;
        server.deploy(&MISBEHAVE).await;
        server.deploy(&IMPORTS).await;
        server.deploy(&crate::OUTBOUND).await;
        server.deploy(&crate::TENSORS).await;
        server.get("/f/misbehave/trap").await;
        server.get("/f/tensors/layer").await;
        server.get("/f/imports/keyvalue/set?key=a&value=b&bucket=notes").await;
        server.get("/f/outbound/?url=http://nowhere.invalid/").await;
        assert_eq!(server.infer("digits-mlp", image(1)).await.status, 200);
        let later = server.request(Method::GET, "/f/hello/").header("prefer", "respond-async");
        assert_eq!(answer(later).await.status, 202);
        let all = async || {
            let text = server.get("/metrics").await.text();
            let awaited = [
                "quern_sandbox_failures_total{",
                "quern_outbound_requests_total{",
                "quern_async_attempts_total{",
                "quern_async_calls{",
            ];
            // A session is leased memory until the lane has given that back.
            let at_rest = !text.contains("quern_device_tenant_leased_bytes{");
            at_rest && awaited.iter().all(|awaited| text.contains(awaited))
        };
        until("what guests did is counted", all).await;
        // What concerns TLS is there where it is spoken alone.
        let identity = Identity::new();
        let secure = identity.start(&[]);
        let over_tls = answer(identity.client().get(format!("{}/metrics", secure.url()))).await;
        let Self(mut all) = Self::read(&server.get("/metrics").await.text());
        for (name, labels) in Self::read(&over_tls.text()).0 {
            all.entry(name).or_default().extend(labels);
        }
        Self(all)
    }

    fn read(text: &str) -> Self {
        let mut metrics = BTreeMap::new();
        let mut histograms = BTreeSet::new();
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                let (name, kind) = about.split_once(' ').expect("a name and a type");
                if kind == "histogram" {
                    histograms.insert(name.to_owned());
                }
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, _) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let base = base.filter(|base| histograms.contains(*base)).unwrap_or(name);
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0));
            let names = names.filter(|label| *label != "le").map(str::to_owned);
            metrics.entry(base.to_owned()).or_insert_with(BTreeSet::new).extend(names);
        }
        Self(metrics)
    }

    /// The labels of a metric, or of the histogram that a name is a part of.
    fn labels(&self, name: &str) -> Option<&BTreeSet<String>> {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        self.0.get(name).or_else(|| self.0.get(base?))
    }
}

/// The rows of docs/metrics.md: name and labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `quern_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, labels, _] = cells[..] else { panic!("not a row of four columns: {row}") };
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| label != "–").collect();
        (name.trim_matches('`').to_owned(), labels)
    })
    .collect()
}

/// What stands in expressions of Prometheus: names of metrics, and labels by the metrics beside
/// which they stand.
fn used(expression: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut metrics = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for word in expression.split(|c: char| !is_name(c)) {
        if word.starts_with("quern_") || word.starts_with("process_") {
            metrics.insert(word);
        }
    }
    for within in expression.split('{').skip(1) {
        let matchers = within.split('}').next().unwrap_or_default();
        labels.extend(matchers.split(',').filter_map(|matcher| {
            let end = matcher.find(['=', '!'])?;
            Some(matcher[..end].trim())
        }));
    }
    for within in expression.split("by (").skip(1) {
        labels.extend(within.split(')').next().unwrap_or_default().split(',').map(str::trim));
    }
    (metrics, labels)
}

/// Every expression of the dashboard and the alerts.
fn expressions() -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                let own = [object.get("expr"), object.get("definition")];
                found
                    .extend(own.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| gather(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let read = |file: &str| std::fs::read_to_string(root().join("deploy").join(file)).expect(file);
    let mut found = Vec::new();
    gather(&serde_json::from_str(&read("grafana/quern.json")).expect("JSON"), &mut found);
    let alerts = read("prometheus/alerts.yml");
    found.extend(
        alerts
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("expr: ").map(str::to_owned)),
    );
    found
}

#[tokio::test]
async fn metrics_are_those_of_the_documentation_the_dashboard_and_the_alerts() {
    let live = Metrics::live().await;
    let own: BTreeMap<_, _> =
        live.0.iter().filter(|(name, _)| name.starts_with("quern_")).collect();
    let documented = documented();
    let documented: BTreeMap<_, _> = documented.iter().collect();
    assert_eq!(own, documented, "of the server (left), of docs/metrics.md (right)");

    // Of Prometheus itself, or of whoever scrapes.
    let given = ["instance", "job", "le", "up"];
    let expressions = expressions();
    assert!(expressions.len() > 30, "{}", expressions.len());
    for expression in expressions {
        let (metrics, labels) = used(&expression);
        let mut known: BTreeSet<&str> = given.into();
        for metric in metrics {
            let of_it = live.labels(metric).unwrap_or_else(|| panic!("{metric} in {expression}"));
            known.extend(of_it.iter().map(String::as_str));
        }
        let unknown: Vec<_> = labels.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {expression}");
    }
}

#[tokio::test]
async fn what_is_deleted_has_no_metrics_any_more() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    server.get("/f/hello/").await;
    let of_hello = async || server.get("/metrics").await.text().contains("function=\"hello\"");
    assert!(of_hello().await);
    let deleted = answer(server.request(Method::DELETE, "/v1/functions/hello")).await;
    assert_eq!(deleted.status, 204);
    until("its series are gone", async || !of_hello().await).await;
}
