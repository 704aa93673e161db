//! `kill -9` at any instant: everything acknowledged is there afterwards, and nothing half-deployed
//! is visible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    HELLO,
    support::{Server, answer, digits_model},
};

/// A different model each time: the same graph with another producer's note at its end, which the
/// format allows (field 6, `doc_string`).
pub(crate) fn model(number: u32) -> Vec<u8> {
    let mut model = digits_model();
    let note = format!("copy {number:08}");
    model.push(6 << 3 | 2);
    model.push(u8::try_from(note.len()).expect("short"));
    model.extend_from_slice(note.as_bytes());
    model
}

/// Deploys until it is told to stop or the server is gone; returns what was acknowledged.
async fn deploy_on(server: Arc<Server>, first: u32, stop: Arc<AtomicBool>) -> Vec<(u64, String)> {
    let mut acknowledged = Vec::new();
    for number in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("m{}", number % 3);
        let request = server.request(reqwest::Method::PUT, &format!("/v1/models/{name}"));
        let Ok(response) = request.body(model(number)).send().await else { break };
        let Ok(deployed) = response.json::<Value>().await else { break };
        acknowledged.push((deployed["version"].as_u64().expect("deployed"), name));
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill_at_any_instant() {
    let cycles = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 60 } else { 8 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut random = fastrand::Rng::with_seed(now.subsec_nanos().into());
    println!("seed {}", random.get_seed());
    let data = Arc::new(TempDir::new().expect("a folder"));
    let arguments = ["--keep-versions", "1000000"];
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for cycle in 0..cycles {
        let server = Arc::new(Server::start_on(data.clone(), &arguments));
        check(&server, &acknowledged).await;
        let stop = Arc::new(AtomicBool::new(false));
        let first = cycle * 10_000;
        let writers = (0..2).map(|writer| {
            tokio::spawn(deploy_on(server.clone(), first + writer * 5_000, stop.clone()))
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(random.u64(20..500))).await;
        kill(server.process_id());
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.await.expect("no panic"));
        }
        drop(server);
    }
    println!("{} deployments were acknowledged", acknowledged.len());
    assert!(!acknowledged.is_empty(), "every kill came too early");
    let server = Server::start_on(data, &arguments);
    check(&server, &acknowledged).await;
}

/// Everything acknowledged is listed, everything listed can be called.
async fn check(server: &Server, acknowledged: &[(u64, String)]) {
    for name in ["m0", "m1", "m2"] {
        let answer = server.get(&format!("/v1/models/{name}/versions")).await;
        let listed: Vec<u64> = match answer.status.as_u16() {
            200 => answer.json()["versions"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|version| version["version"].as_u64())
                .collect(),
            _ => Vec::new(),
        };
        for (version, _) in acknowledged.iter().filter(|(_, of)| of == name) {
            assert!(listed.contains(version), "{name} version {version} is lost: {listed:?}");
        }
        let Some(newest) = listed.iter().max() else { continue };
        let body = serde_json::json!({ "inputs": [{ "name": "image", "shape": [1, 64],
            "datatype": "FP32", "data": vec![1.0; 64] }] });
        let path = format!("/v2/models/{name}/versions/{newest}/infer");
        let answer = server.post(&path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn functions_answer_after_a_kill_without_their_compiled_code_too() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    let data = server.kill();
    let server = Server::start_on(data, &[]);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
    let data = server.kill();
    let artifacts = data.path().join("data/artifacts");
    std::fs::remove_dir_all(&artifacts).expect("compiled code lies there");
    let server = Server::start_on(data, &[]);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
    assert!(artifacts.exists());
}

#[tokio::test]
async fn a_key_that_a_crash_left_incomplete_is_made_anew() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    let data = server.kill();
    std::fs::write(data.path().join("data/artifacts/node.key"), "half").expect("writable");
    let server = Server::start_on(data, &[]);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
}

#[tokio::test]
async fn a_damaged_blob_is_named_and_harms_nothing_else() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&HELLO).await;
    let hex = quern_types::Digest::of(&digits_model()).hex();
    let data = server.kill();
    let mut folders = vec![data.path().join("data/blobs")];
    let mut damaged = false;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(&hex) {
                let mut bytes = std::fs::read(&path).expect("readable");
                *bytes.last_mut().expect("not empty") ^= 1;
                std::fs::write(&path, bytes).expect("writable");
                damaged = true;
            }
        }
    }
    assert!(damaged, "no blob of that digest");
    let server = Server::start_on(data, &[]);
    let body = serde_json::json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": vec![1.0; 64] }]);
    server.infer("digits-mlp", body).await.assert_error(503, "unavailable", "digits-mlp");
    assert_eq!(server.get("/f/hello/").await.status, 200);
    let again =
        answer(server.request(reqwest::Method::PUT, "/v1/models/digits-mlp").body(digits_model()))
            .await;
    assert_eq!(again.status, 200, "uploading it again mends it: {}", again.text());
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.expect("kill is there").success());
}
