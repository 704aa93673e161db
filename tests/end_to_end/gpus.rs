//! A server with a GPU, which is the mock driver's: functions compute on it, people see it, and a
//! server without one says why.

use std::{ffi::OsStr, fs, path::Path, process::Command, sync::Arc};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    TENSORS,
    building::{build, libraries},
    cli,
    support::{Server, root, until},
};

/// A server with these options, which finds the mock driver.
fn start(options: &str) -> Server {
    let driver = build(&root().join("host-gpu/cuda"), &[]);
    start_with(options, libraries(&driver))
}

/// The same where libraries are looked for there.
fn start_with(options: &str, libraries: impl AsRef<OsStr>) -> Server {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let config = data.path().join("quern-server.toml");
    fs::write(&config, options).expect("writes");
    let mut program = Command::new(env!("CARGO_BIN_EXE_quern"));
    program.env("LD_LIBRARY_PATH", libraries);
    Server::start_program(program, data.clone(), &["--config", config.to_str().expect("text")])
}

async fn listed(server: &Server) -> Value {
    server.get("/v1/devices").await.json()
}

/// What is listed of the GPU.
async fn gpu(server: &Server) -> Value {
    listed(server).await["devices"][1].take()
}

async fn call(server: &Server, path: &str) -> Value {
    server.get(&format!("/f/tensors/{path}")).await.json()
}

fn maps(process: u64) -> String {
    fs::read_to_string(Path::new("/proc").join(process.to_string()).join("maps")).expect("it runs")
}

#[tokio::test]
async fn functions_compute_on_a_gpu_that_is_there() {
    let server = start("[devices]\ncuda_memory = '256MiB'\ncuda_lanes = 2");
    let device = gpu(&server).await;
    assert_eq!((&device["id"], &device["name"]), (&json!("cuda:0"), &json!("mock")));
    assert_eq!((&device["lanes"], &device["down"]), (&json!(2), &json!(null)));
    assert_eq!(device["tensors"]["memory_bytes"], 256 << 20);
    assert_eq!(listed(&server).await["absent"], json!([]));
    server.deploy(&TENSORS).await;
    assert_eq!(call(&server, "device").await, json!({ "ok": "cuda:0" }));
    let layer = json!({ "ok": { "shape": [2, 2], "values": [0.0, 2.5, 1.0, 3.25] } });
    assert_eq!(call(&server, "layer").await, layer);
    let index = &call(&server, "fault/index").await["error"];
    assert_eq!(index["kind"], "Index", "{index}");
    until("all is given back", async || {
        let tensors = gpu(&server).await["tensors"].take();
        ["sessions", "leased_bytes", "held_bytes"].iter().all(|what| tensors[what] == 0)
    })
    .await;
    let worker = gpu(&server).await["worker"].take();
    assert_eq!(worker["starts"], 1);
    let process = worker["process_id"].as_u64().expect("it is up");
    assert!(maps(process).contains("libcuda.so"));
    assert!(!maps(server.process_id().into()).contains("libcuda.so"));
    let metrics = server.get("/metrics").await.text();
    for line in [
        "quern_device_tensor_memory_bytes{device=\"cuda:0\"} 268435456",
        "quern_device_tensor_worker_starts_total{device=\"cuda:0\"} 1",
        "quern_device_lane_busy_seconds_total{device=\"cuda:0\",lane=\"1\"}",
        "quern_device_tenant_kernel_seconds_total{device=\"cuda:0\",tenant=\"default\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let shown = cli::text(server.url(), root(), &["devices"]);
    assert!(shown.lines().any(|line| line.starts_with("cuda:0  mock")), "{shown}");
}

#[tokio::test]
async fn a_grant_may_name_the_kind_of_device() {
    let server = start("");
    let granting = |device: &str| {
        let grant = format!("gpu = {{ memory = \"16MiB\", device = \"{device}\" }}");
        TENSORS.manifest().replace("gpu = { memory = \"16MiB\" }", &grant)
    };
    for (device, id) in [("cpu", "cpu:0"), ("cuda", "cuda:0")] {
        let deployed = server.upload("tensors", granting(device), TENSORS.component()).await;
        assert_eq!(deployed.status, 201, "{}", deployed.text());
        assert_eq!(call(&server, "device").await, json!({ "ok": id }));
    }
    let refused = server.upload("tensors", granting("tpu"), TENSORS.component()).await;
    refused.assert_error(400, "invalid-manifest", "tpu");
}

#[tokio::test]
async fn a_gpu_whose_process_is_killed_is_there_again_soon() {
    let server = start("");
    server.deploy(&TENSORS).await;
    assert_eq!(call(&server, "device").await, json!({ "ok": "cuda:0" }));
    let before = gpu(&server).await["worker"]["process_id"].as_u64().expect("it is up");
    let pid = i32::try_from(before).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("it is there");
    until("there is another process", async || {
        let worker = gpu(&server).await["worker"].take();
        worker["process_id"].as_u64().is_some_and(|process| process != before)
    })
    .await;
    assert_eq!(gpu(&server).await["worker"]["starts"], 2);
    assert_eq!(call(&server, "device").await, json!({ "ok": "cuda:0" }));
}

#[tokio::test]
async fn a_server_without_gpus_says_why_and_computes_on_the_cpu() {
    let off = start("[devices]\ncuda = 'off'");
    let without = start_with("", "/nowhere");
    let cases =
        [(off, "off", "set it to \"auto\""), (without, "no-driver", "install NVIDIA's driver")];
    for (server, cause, text) in cases {
        let listed = listed(&server).await;
        if cause == "no-driver" && listed["absent"][0]["cause"] != cause {
            eprintln!("skipped: this machine has a driver: {listed}");
            continue;
        }
        assert_eq!(listed["devices"].as_array().map(Vec::len), Some(1), "{listed}");
        let absent = &listed["absent"][0];
        assert_eq!((&absent["device"], &absent["cause"]), (&json!("cuda"), &json!(cause)));
        let reason = absent["reason"].as_str().expect("text");
        assert!(reason.contains(text), "{reason}");
        server.deploy(&TENSORS).await;
        assert_eq!(call(&server, "device").await, json!({ "ok": "cpu:0" }));
    }
}
