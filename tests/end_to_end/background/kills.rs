//! `kill -9` every few moments: no acknowledged call is lost, none comes to its end twice, and every
//! answer is the one that was given first.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::{asynchronous, result};
use crate::{
    MISBEHAVE,
    support::{Server, answer, until},
};

/// What was acknowledged of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    id: String,
    /// When it came to its end, once that was seen.
    finished: Option<String>,
}

/// Sends calls until it is told to stop or the server is gone: new ones, and again those of which
/// nothing is known. Returns what was acknowledged.
async fn call_on(
    server: Arc<Server>,
    keys: std::ops::Range<u32>,
    stop: Arc<AtomicBool>,
) -> HashMap<u32, String> {
    let mut acknowledged = HashMap::new();
    for key in keys {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Twice, as a client does that is not sure.
        for _ in 0..2 {
            let Some(id) = send(&server, key).await else { return acknowledged };
            let before = acknowledged.insert(key, id.clone());
            assert!(before.is_none_or(|before| before == id), "key {key} has two invocations");
        }
    }
    acknowledged
}

async fn send(server: &Server, key: u32) -> Option<String> {
    let request = asynchronous(server, Method::POST, "/f/misbehave/echo");
    let request = request.header("idempotency-key", format!("k{key}")).body(format!("body {key}"));
    let response = request.send().await.ok()?;
    assert_eq!(response.status(), 202);
    let accepted: Value = response.json().await.ok()?;
    accepted["id"].as_str().map(str::to_owned)
}

/// Asks for every call that is known; what has come to its end must stay as it was.
async fn look(server: &Server, known: &mut HashMap<u32, Known>) {
    for (key, call) in known {
        let shown = server.get(&format!("/v1/invocations/{}", call.id)).await;
        assert_eq!(shown.status, 200, "call {key} was acknowledged and is lost");
        let finished = shown.json()["finished"].as_str().map(str::to_owned);
        if call.finished.is_some() {
            assert_eq!(call.finished, finished, "call {key} has come to its end twice");
        }
        call.finished = finished;
    }
}

fn kill(process: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
    assert!(killed.expect("kill is there").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_call_is_lost_or_ends_twice_whenever_the_server_is_killed() {
    let cycles = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 60 } else { 6 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut random = fastrand::Rng::with_seed(now.subsec_nanos().into());
    println!("seed {}", random.get_seed());
    let data = Arc::new(TempDir::new().expect("a folder"));
    // A kill counts as a try: with few of them, some calls would rightly be given up.
    let file = data.path().join("quern.toml");
    let options = "[async]\nattempts = 1000\nmax_attempts = 1000\nfirst_pause = '10ms'\n\
                   longest_pause = '50ms'\n";
    std::fs::write(&file, options).expect("written");
    let arguments = ["--config", file.to_str().expect("text")];
    let server = Server::start_on(data.clone(), &arguments);
    server.deploy(&MISBEHAVE).await;
    drop(server);

    let mut known: HashMap<u32, Known> = HashMap::new();
    for cycle in 0..cycles {
        let server = Arc::new(Server::start_on(data.clone(), &arguments));
        look(&server, &mut known).await;
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..4).map(|writer| {
            let first = cycle * 4_000 + writer * 1_000;
            tokio::spawn(call_on(server.clone(), first..first + 150, stop.clone()))
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(random.u64(50..600))).await;
        kill(server.process_id());
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            for (key, id) in writer.await.expect("no panic") {
                known.insert(key, Known { id, finished: None });
            }
        }
    }
    println!("{} calls were acknowledged", known.len());
    assert!(!known.is_empty(), "every kill came too early");

    let server = Server::start_on(data, &arguments);
    until("all calls have come to their end", async || {
        look(&server, &mut known).await;
        known.values().all(|call| call.finished.is_some())
    })
    .await;
    for (key, call) in &known {
        let answered = result(&server, &call.id).await;
        assert_eq!(answered.header("quern-state"), "succeeded", "{}", answered.text());
        assert_eq!(answered.text(), format!("body {key}"));
        assert_eq!(send(&server, *key).await.as_deref(), Some(&*call.id), "its key is known");
    }
    let again = answer(server.request(Method::GET, "/v1/invocations?state=running")).await.json();
    assert_eq!(again["invocations"].as_array().map(Vec::len), Some(0), "{again}");
}
