//! What a server tells of its devices.

use std::{fs, sync::Arc};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    TENSORS,
    support::{Server, until},
};

fn start(options: &str) -> Server {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let config = data.path().join("quern-server.toml");
    fs::write(&config, options).expect("writes");
    Server::start_on(data.clone(), &["--config", config.to_str().expect("text")])
}

#[tokio::test]
async fn a_device_shows_what_there_is_for_tensors_and_the_models_on_it() {
    let server = start(
        "[devices]\nmemory = '64MiB'\ntenant_memory = '16MiB'\nsessions = 10\nlanes = 3\nthreads = 1",
    );
    let device = async || server.get("/v1/devices").await.json()["devices"][0].take();
    let fresh = device().await;
    let tensors = json!({
        "memory_bytes": 64 << 20,
        "tenant_memory_bytes": 16 << 20,
        "leased_bytes": 0,
        "held_bytes": 0,
        "lanes": 3,
        "sessions": 0,
        "max_sessions": 10,
        "waiting": 0,
    });
    assert_eq!(fresh["tensors"], tensors);
    assert_eq!((&fresh["down"], &fresh["residents"]), (&json!(null), &json!([])));
    server.deploy_digits_model().await;
    let image = json!([
        { "name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64] }
    ]);
    assert_eq!(server.infer("digits-mlp", image).await.status, 200);
    let resident = json!([{ "tenant": "default", "model": "digits-mlp", "version": 1 }]);
    assert_eq!(device().await["residents"], resident);
    let metrics = server.get("/metrics").await.text();
    for line in [
        "quern_device_tensor_memory_bytes{device=\"cpu:0\"} 67108864",
        "quern_device_lane_busy_seconds_total{device=\"cpu:0\",lane=\"2\"} 0",
        "quern_device_refused_sessions_total{reason=\"tenant\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_function_computes_on_the_device_and_leaves_nothing_there() {
    let server = start("[devices]\nmemory = '32MiB'\ntenant_memory = '20MiB'\nlanes = 2");
    server.deploy(&TENSORS).await;
    let call = async |path: &str| server.get(&format!("/f/tensors/{path}")).await.json();
    let layer = json!({ "ok": { "shape": [2, 2], "values": [0.0, 2.5, 1.0, 3.25] } });
    assert_eq!(call("layer").await, layer);
    assert_eq!(call("device").await, json!({ "ok": "cpu:0" }));
    assert_eq!(call("many?count=2000").await, json!({ "ok": 2_000.0 }));
    assert_eq!(call("work?size=512&times=3").await, json!({ "ok": 1 }));
    let (first, second, third) =
        tokio::join!(call("many?count=500"), call("many?count=501"), call("layer"));
    // Each asks for 16 of the tenant's 20 MiB: whoever comes while another is there is refused.
    for (answer, done) in
        [(first, json!(500.0)), (second, json!(501.0)), (third, layer["ok"].clone())]
    {
        let kind = &answer["error"]["kind"];
        assert!(answer["ok"] == done || kind == "Overloaded", "{answer}");
    }
    let trapped = server.get("/f/tensors/trap").await;
    assert_eq!(trapped.status.as_u16() / 100, 5);
    let tensors = async || server.get("/v1/devices").await.json()["devices"][0]["tensors"].take();
    until("all is given back", async || {
        let tensors = tensors().await;
        tensors["sessions"] == 0 && tensors["leased_bytes"] == 0 && tensors["held_bytes"] == 0
    })
    .await;
    let metrics = server.get("/metrics").await.text();
    let of_tenant = "{device=\"cpu:0\",tenant=\"default\"}";
    let line = format!("quern_device_tenant_used_bytes{of_tenant} 0\n");
    assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    let computed = metrics.lines().find_map(|line| {
        let seconds = format!("quern_device_tenant_kernel_seconds_total{of_tenant} ");
        line.strip_prefix(&seconds)?.parse::<f64>().ok()
    });
    assert!(computed.expect("it is counted") > 0.0);
}

#[tokio::test]
async fn a_function_that_is_granted_more_than_there_is_is_told_so() {
    let server = start("[devices]\nmemory = '8MiB'");
    server.deploy(&TENSORS).await;
    let answer = server.get("/f/tensors/layer").await.json();
    assert_eq!(answer["error"]["kind"], "Unavailable");
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.contains("8388608 at most: lower grants.gpu.memory"), "{message}");
    let refused = "quern_device_refused_sessions_total{reason=\"too-large\"} 1";
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains(refused), "{metrics}");
}
