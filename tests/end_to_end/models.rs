//! Models as they are deployed and served: their manifests, their files, versions that replace each
//! other under load, and memory that comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    onnx::{self, Data, adding, echoing_texts, failing, floats, multiplying},
    support::{Answer, Server, answer, digits_model, until},
};

/// Freed memory that has not come back after this long stays.
const WHILE: Duration = Duration::from_secs(6);
/// Weights of the model whose memory is watched.
const WEIGHTS_KIB: u64 = 48 << 10;
/// What allocators may keep of them.
const SLACK_KIB: u64 = 32 << 10;

/// Uploads a model with a manifest.
async fn deploy(server: &Server, name: &str, manifest: &str, model: Vec<u8>) -> Answer {
    let form = multipart::Form::new()
        .text("manifest", manifest.to_owned())
        .part("model", multipart::Part::bytes(model));
    answer(server.request(Method::PUT, &format!("/v1/models/{name}")).multipart(form)).await
}

fn created(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn row(columns: usize) -> Value {
    json!([{ "name": "x", "shape": [1, columns], "datatype": "FP32", "data": vec![1.0; columns] }])
}

/// The engines of this machine.
pub(crate) async fn engines(server: &Server) -> Vec<String> {
    let devices = server.get("/v1/devices").await.json();
    let engines = devices["devices"][0]["engines"].as_array().expect("a list");
    let (present, absent): (Vec<_>, Vec<_>) =
        engines.iter().partition(|engine| engine["version"].is_string());
    for engine in absent {
        eprintln!("skipped for {engine}");
    }
    present.iter().map(|engine| engine["engine"].as_str().expect("a name").to_owned()).collect()
}

/// Waits until so many models are loaded.
async fn wait_for_replicas(server: &Server, count: f64) {
    until(&format!("{count} models are loaded"), async || {
        server.metric("quern_device_replicas").await == count
    })
    .await;
}

#[tokio::test]
async fn a_manifest_is_shown_and_kept_over_a_restart() {
    let server = Server::start();
    let labels: Vec<_> = (0..10).map(|digit| digit.to_string()).collect();
    let manifest = format!(
        "engine = 'tract'\ntimeout = '1s 500ms'\nlanes = 1\nwarm_up = {{ runs = 2 }}\n\
         [[outputs]]\nname = 'probabilities'\nlabels = {labels:?}"
    );
    let deployed = created(&deploy(&server, "digits", &manifest, digits_model()).await);
    let check = |shown: &Value| {
        assert_eq!(shown["timeout"], "1s 500ms", "{shown}");
        assert_eq!((&shown["lanes"], &shown["warm_up"]), (&json!(1), &json!({"runs": 2})));
        assert_eq!(shown["labels"]["probabilities"], json!(labels));
    };
    check(&deployed);
    check(&server.get("/v1/models/digits").await.json());
    let again = deploy(&server, "digits", &manifest, digits_model()).await;
    assert_eq!((again.status.as_u16(), &again.json()["version"]), (200, &json!(1)));
    let server = Server::start_on(server.stop(), &[]);
    check(&server.get("/v1/models/digits").await.json());
    wait_for_replicas(&server, 1.0).await;
}

#[tokio::test]
async fn classes_have_the_labels_of_the_manifest() {
    let server = Server::start();
    let labels: Vec<_> = (0..10).map(|digit| format!("the digit {digit}")).collect();
    let manifest = format!("[[outputs]]\nname = 'probabilities'\nlabels = {labels:?}");
    created(&deploy(&server, "digits", &manifest, digits_model()).await);
    let image =
        json!({ "name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0; 64] });
    let output = json!({ "name": "probabilities", "parameters": { "classification": 10 } });
    let body = json!({ "inputs": [image], "outputs": [output] }).to_string();
    let answer = server.post("/v2/models/digits/infer", body).await.json();
    let classes = answer["outputs"][0]["data"].as_array().expect("ten strings");
    assert_eq!(classes.len(), 10);
    for class in classes {
        let parts: Vec<_> = class.as_str().expect("a string").split(':').collect();
        assert_eq!(parts[2], format!("the digit {}", parts[1]), "{class}");
    }
}

#[tokio::test]
async fn a_warm_model_is_loaded_before_its_first_call() {
    let server = Server::start();
    for engine in engines(&server).await {
        let loaded = server.metric("quern_device_replicas").await;
        let manifest = format!("engine = '{engine}'\nwarm_up = {{ runs = 2 }}");
        let model = adding(Data::Inside(vec![1.0, 2.0]));
        created(&deploy(&server, &format!("warm-{engine}"), &manifest, model.clone()).await);
        assert_eq!(server.metric("quern_device_replicas").await, loaded + 1.0);
        assert_eq!(server.metric("quern_model_load_seconds_count").await, loaded + 1.0);
        let manifest = format!("engine = '{engine}'");
        created(&deploy(&server, &format!("cold-{engine}"), &manifest, model).await);
        assert_eq!(server.metric("quern_device_replicas").await, loaded + 1.0);
        let answer = server.infer(&format!("warm-{engine}"), row(2)).await;
        assert_eq!(answer.json()["outputs"][0]["data"], json!([2.0, 3.0]));
        assert_eq!(server.metric("quern_model_load_seconds_count").await, loaded + 1.0);
    }
}

#[tokio::test]
async fn a_rollback_to_a_warm_model_loads_it_first() {
    let server = Server::start();
    let model = |value: f32| adding(Data::Inside(vec![value; 2]));
    created(&deploy(&server, "m", "warm_up = { runs = 1 }", model(1.0)).await);
    created(&deploy(&server, "m", "", model(2.0)).await);
    let server = Server::start_on(server.stop(), &[]);
    assert_eq!(server.infer("m", row(2)).await.header("quern-version"), "2");
    assert_eq!(server.metric("quern_device_replicas").await, 1.0, "only what is called");
    assert_eq!(server.post("/v1/models/m/rollback", "").await.json()["version"], 1);
    assert_eq!(server.metric("quern_device_replicas").await, 2.0);
    let answer = server.infer("m", row(2)).await;
    assert_eq!(answer.json()["outputs"][0]["data"], json!([2.0, 2.0]));
    assert_eq!(server.metric("quern_model_load_seconds_count").await, 2.0);
    let absent = server.post("/v1/models/m/rollback", "{\"version\": 9}").await;
    absent.assert_error(404, "not-found", "9");
}

#[tokio::test]
async fn a_warm_up_that_fails_leaves_the_old_version_live() {
    let server = Server::start();
    for engine in engines(&server).await {
        let manifest = format!("engine = '{engine}'");
        created(&deploy(&server, &engine, &manifest, adding(Data::Inside(vec![0.0; 2]))).await);
        let warm = format!("{manifest}\nwarm_up = {{ runs = 1 }}");
        let refused = deploy(&server, &engine, &warm, failing()).await;
        // tract finds out as it loads the model that one row can't work.
        let part = if engine == "tract" { "" } else { "its warm-up failed: " };
        refused.assert_error(422, "invalid-model", part);
        assert_eq!(server.get(&format!("/v1/models/{engine}")).await.json()["version"], 1);
        assert_eq!(server.infer(&engine, row(2)).await.status, 200);
    }
}

#[tokio::test]
async fn a_call_that_names_no_time_has_that_of_its_model() {
    let server = Server::start();
    let model = multiplying(512, 4096);
    let manifest = "engine = 'tract'\ntimeout = '1ms'";
    created(&deploy(&server, "hasty", manifest, model.clone()).await);
    // Its first call has to load it, for which no millisecond is enough.
    let refused = server.infer("hasty", row(512)).await;
    refused.assert_error(504, "deadline-exceeded", "within 1ms");
    created(&deploy(&server, "patient", "engine = 'tract'\ntimeout = '1m'", model).await);
    assert_eq!(server.infer("patient", row(512)).await.status, 200);
}

#[tokio::test]
async fn a_model_of_texts_takes_them_in_json_and_in_binary() {
    let server = Server::start();
    let refused = deploy(&server, "t", "engine = 'tract'", echoing_texts()).await;
    refused.assert_error(
        422,
        "invalid-model",
        "input \"x\" is BYTES, which it has not: use engine \"onnxruntime\"",
    );
    if !engines(&server).await.contains(&"onnxruntime".into()) {
        eprintln!("skipped for want of ONNX Runtime");
        return;
    }
    let manifest = "[warm_up]\n[[warm_up.inputs]]\nname = 'x'\nshape = [1, 2]\ndata = ['a', '']";
    let deployed = created(&deploy(&server, "t", manifest, echoing_texts()).await);
    assert_eq!(deployed["batch"]["rows"]["max"], 64, "{deployed}");
    let texts = json!([{ "name": "x", "shape": [2, 2], "datatype": "BYTES",
                         "data": ["one", "", "zw\u{f6}lf", "\0"] }]);
    let output = &server.infer("t", texts).await.json()["outputs"][0];
    assert_eq!(output["datatype"], "BYTES");
    assert_eq!(output["data"], json!(["one", "", "zw\u{f6}lf", "\0"]));
    let binary = b"\x02\0\0\0\xff\0\0\0\0\0";
    let head = json!({
        "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "BYTES",
                     "parameters": { "binary_data_size": binary.len() } }],
        "outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
    });
    let head = head.to_string();
    let request = server.request(Method::POST, "/v2/models/t/infer");
    let request = request.header("inference-header-content-length", head.len());
    let answered = answer(request.body([head.as_bytes(), binary].concat())).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert!(answered.body.ends_with(binary), "{:?}", answered.body);
}

#[tokio::test]
async fn a_model_in_several_files_is_deployed_as_an_archive() {
    let server = Server::start();
    let onnx = adding(Data::File("weights/w.bin", 4));
    let weights = floats(&[9.0, 10.0, 20.0, 9.0]);
    let packed = archive(&[("./model.onnx", &onnx), ("./weights/w.bin", &weights)]);
    for engine in engines(&server).await {
        let part = multipart::Part::bytes(packed.clone()).mime_str("application/x-tar");
        let form = multipart::Form::new()
            .text("manifest", format!("engine = '{engine}'"))
            .part("model", part.expect("a type"));
        let path = format!("/v1/models/{engine}");
        created(&answer(server.request(Method::PUT, &path).multipart(form)).await);
        let inferred = server.infer(&engine, row(2)).await.json();
        assert_eq!(inferred["outputs"][0]["data"], json!([11.0, 21.0]), "{engine}");
    }
    let put = async |packed: Vec<u8>| {
        let request = server.request(Method::PUT, "/v1/models/m");
        answer(request.header("content-type", "application/x-tar").body(packed)).await
    };
    let first = created(&put(packed).await);
    // However the weights are spread, it is the same model.
    let other = adding(Data::File("w", 0));
    let again = put(archive(&[("n.onnx", &other), ("w", &floats(&[10.0, 20.0]))])).await;
    assert_eq!((again.status.as_u16(), &again.json()["digest"]), (200, &first["digest"]));
    let outside = adding(Data::File("../w", 0));
    let cases = [
        (archive(&[("m.onnx", &onnx)]), "\"weights/w.bin\", which is not there"),
        (archive(&[("m.onnx", &onnx), ("weights/w.bin", b"")]), "which has 0"),
        (archive(&[("m.onnx", &outside), ("w", &weights)]), "no path below"),
        (archive(&[("f/m.onnx", &onnx)]), "no .onnx file at its root"),
        (onnx.clone(), "not a tar archive"),
    ];
    for (packed, part) in cases {
        put(packed).await.assert_error(422, "invalid-model", part);
    }
    let plain = server.put("/v1/models/m", onnx).await;
    plain.assert_error(422, "invalid-model", "has its data in another file");
    assert_eq!(server.get("/v1/models/m").await.json()["version"], 1);
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, *content).expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// Eight clients call without a pause while versions are deployed: every call is answered, by the
/// version that it says, and no client ever sees an older one after a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn versions_replace_each_other_without_a_lost_call() {
    const VERSIONS: u64 = 5;
    let server = Arc::new(Server::start());
    for engine in engines(&server).await {
        for warm_up in ["", "warm_up = { runs = 1 }"] {
            let name = format!("{engine}-{}", warm_up.len());
            let manifest = format!("engine = '{engine}'\n{warm_up}");
            let version = |number: u64| adding(Data::Inside(vec![number as f32; 2]));
            created(&deploy(&server, &name, &manifest, version(1)).await);
            let done = Arc::new(AtomicBool::new(false));
            let clients = (0..8).map(|_| {
                let (server, name, done) = (server.clone(), name.clone(), done.clone());
                tokio::spawn(async move { call_until(&server, &name, &done).await })
            });
            let clients: Vec<_> = clients.collect();
            for number in 2..=VERSIONS {
                let deployed = created(&deploy(&server, &name, &manifest, version(number)).await);
                assert_eq!(deployed["version"], number);
            }
            done.store(true, Ordering::SeqCst);
            for seen in join_all(clients).await {
                let seen = seen.expect("no client fails");
                assert!(seen.is_sorted(), "{name}: {seen:?}");
                assert_eq!(seen.last(), Some(&VERSIONS), "what is deployed is live");
            }
        }
    }
}

/// Calls until `done`, and once after it; gives the version of each answer.
async fn call_until(server: &Server, name: &str, done: &AtomicBool) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let last = done.load(Ordering::SeqCst);
        let answer = server.infer(name, row(2)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let version: u64 = answer.header("quern-version").parse().expect("a number");
        let sum = 1.0 + version as f64;
        assert_eq!(answer.json()["outputs"][0]["data"], json!([sum, sum]), "version {version}");
        seen.push(version);
        if last {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_gives_its_memory_back() {
    let server = Arc::new(Server::start_with(&["--lanes", "1"]));
    for engine in engines(&server).await {
        let manifest = format!("engine = '{engine}'");
        // Whatever the engine and the way of an upload need once is there after this.
        load(&server, &manifest).await;
        assert!(server.delete("/v1/models/m").await.status.is_success());
        wait_for_replicas(&server, 0.0).await;
        let before = settle(&server, 0).await;
        for under_load in [false, true] {
            load(&server, &manifest).await;
            let loaded = resident_kib(&server);
            assert!(loaded > before + WEIGHTS_KIB / 2, "{before} KiB became {loaded}: not loaded?");
            let done = Arc::new(AtomicBool::new(false));
            let clients = (0..if under_load { 4 } else { 0 }).map(|_| {
                let (server, done) = (server.clone(), done.clone());
                tokio::spawn(async move { call_until_deleted(&server, &done).await })
            });
            let clients: Vec<_> = clients.collect();
            assert!(server.delete("/v1/models/m").await.status.is_success());
            done.store(true, Ordering::SeqCst);
            for client in join_all(clients).await {
                client.expect("every call is answered, or refused because the model is gone");
            }
            wait_for_replicas(&server, 0.0).await;
            let after = settle(&server, before + SLACK_KIB).await;
            eprintln!("{engine}: {before} KiB became {loaded}, and after its end {after}");
            assert!(after <= before + SLACK_KIB, "{before} KiB became {loaded}, then {after}");
        }
    }
}

/// Deploys the large model, and has it loaded by a call.
async fn load(server: &Server, manifest: &str) {
    let model = multiplying(1024, WEIGHTS_KIB / 4);
    created(&deploy(server, "m", manifest, model).await);
    let answer = server.infer("m", row(1024)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn call_until_deleted(server: &Server, done: &AtomicBool) {
    loop {
        let gone = done.load(Ordering::SeqCst);
        let answer = server.infer("m", row(1024)).await;
        match answer.status.as_u16() {
            200 => assert!(!gone, "it is gone"),
            404 => return,
            _ => panic!("{}", answer.text()),
        }
    }
}

/// Waits until the server has no more memory than `limit`, or none of it has come back for a while;
/// gives what it has then.
async fn settle(server: &Server, limit: u64) -> u64 {
    let (mut least, mut since) = (resident_kib(server), Instant::now());
    while least > limit && since.elapsed() < WHILE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let resident = resident_kib(server);
        if resident < least {
            (least, since) = (resident, Instant::now());
        }
    }
    least
}

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id()));
    let status = status.expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

#[test]
fn the_models_of_these_tests_are_as_large_as_they_say() {
    let bytes = multiplying(4, 8).len();
    assert!((4 * 8 * 4..4 * 8 * 4 + 512).contains(&bytes), "{bytes}");
    assert_eq!(onnx::floats(&[1.0]), [0, 0, 128, 63]);
}
