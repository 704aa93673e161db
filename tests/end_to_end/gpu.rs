//! Functions that compute on a device, as they are deployed and called: grants, errors, ends in the
//! middle, and tenants beside each other.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{self, Either},
    stream,
};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    TENSORS,
    access::Guarded,
    support::{Answer, Server, answer, until},
};

fn start(options: &str) -> Server {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let config = data.path().join("quern-server.toml");
    fs::write(&config, options).expect("writes");
    Server::start_on(data.clone(), &["--config", config.to_str().expect("text")])
}

/// What functions have of the device.
fn of_device(devices: &Value) -> &Value {
    &devices["devices"][0]["tensors"]
}

async fn until_nothing_is_held(server: &Server) {
    until("all is given back", async || {
        let devices = server.get("/v1/devices").await.json();
        let tensors = of_device(&devices);
        ["sessions", "leased_bytes", "held_bytes"].iter().all(|what| tensors[what] == 0)
    })
    .await;
}

/// A body that ends when it is told to.
fn body_until(end: oneshot::Receiver<()>) -> Body {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"held"))]);
    let last = stream::once(end).filter_map(|_| std::future::ready(None));
    Body::wrap_stream(first.chain(last))
}

#[tokio::test]
async fn a_grant_is_needed_and_bounded() {
    let server = start("[gpu]\nmax_memory = '16MiB'");
    let component = || TENSORS.component();
    let granting = |grant: &str| TENSORS.manifest().replace("gpu = { memory = \"16MiB\" }", grant);
    server.upload("tensors", granting(""), component()).await.assert_error(
        422,
        "missing-grant",
        "the component imports quern:ml/gpu@0.1.0: grant it in the manifest with [grants] gpu",
    );
    server
        .upload("tensors", granting("gpu = { memory = '17MiB' }"), component())
        .await
        .assert_error(
            400,
            "invalid-manifest",
            "grants.gpu.memory is above this server's ceiling of 16.0 MiB",
        );
    server.deploy(&TENSORS).await;
    assert_eq!(server.get("/f/tensors/upload?bytes=1000").await.json()["ok"]["same"], true);
    // Restarted with a lower ceiling, the server has the version run within it.
    let data = server.stop();
    let config = data.path().join("quern-server.toml");
    fs::write(&config, "[gpu]\nmax_memory = '64KiB'").expect("writes");
    let server = Server::start_on(data.clone(), &["--config", config.to_str().expect("text")]);
    let refused = server.get("/f/tensors/upload?bytes=65537").await.json();
    assert_eq!(refused["error"]["kind"], "Exhausted", "{refused}");
    assert_eq!(server.get("/f/tensors/upload?bytes=65536").await.json()["ok"]["same"], true);
}

#[tokio::test]
async fn what_is_refused_is_the_functions_to_handle() {
    let server = Server::start();
    server.deploy(&TENSORS).await;
    let cases = [
        ("shapes", "Invalid", "matmul: 2x3 and 2x3: the inner sizes differ"),
        ("memory", "Exhausted", "fill: 1099511627776 operations exceed the limit"),
        ("foreign", "Unknown", "belongs to another session"),
        ("index", "Index", "gather: index 2 is out of a dimension of 2"),
        ("after-index", "Index", "gather: index 2 is out of a dimension of 2"),
    ];
    for (fault, kind, message) in cases {
        let answer = server.get(&format!("/f/tensors/fault/{fault}")).await;
        assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
        let error = &answer.json()["error"];
        let text = error["message"].as_str().expect("a message");
        assert!(error["kind"] == kind && text.contains(message), "{fault}: {error}");
    }
    let layer = json!({ "ok": { "shape": [2, 2], "values": [0.0, 2.5, 1.0, 3.25] } });
    assert_eq!(server.get("/f/tensors/layer").await.json(), layer);
    until_nothing_is_held(&server).await;
}

#[tokio::test]
async fn a_function_that_ends_in_the_middle_leaves_nothing_behind() {
    let server = Server::start();
    server.deploy(&TENSORS).await;
    server.get("/f/tensors/trap").await.assert_error(500, "trap", "");
    until_nothing_is_held(&server).await;
    // So does one whose client leaves.
    let (end, ended) = oneshot::channel();
    let held = server.request(Method::POST, "/f/tensors/hold").body(body_until(ended)).send();
    let held = tokio::spawn(held);
    until("it has a session", async || {
        of_device(&server.get("/v1/devices").await.json())["sessions"] == 1
    })
    .await;
    held.abort();
    until_nothing_is_held(&server).await;
    drop(end);
}

/// Tiny operators in one request.
fn many() -> u64 {
    if std::env::var_os("QUERN_LONG_TESTS").is_some() { 1_000_000 } else { 50_000 }
}

#[tokio::test]
async fn a_flood_of_tiny_operators_ends_well_and_holds_nobody_up() {
    let server = Server::start();
    let manifest = TENSORS.manifest() + "\n[limits]\ncpu = \"10m\"\ntimeout = \"30m\"\n";
    let flooding = manifest.replace("name = \"tensors\"", "name = \"flooding\"");
    for (name, manifest) in [("tensors", TENSORS.manifest()), ("flooding", flooding)] {
        let deployed = server.upload(name, manifest, TENSORS.component()).await;
        assert_eq!(deployed.status, 201, "{}", deployed.text());
    }
    let path = format!("/f/flooding/many?count={}", many());
    let flood = server.request(Method::GET, &path).timeout(Duration::from_secs(1_800));
    let mut flood = std::pin::pin!(answer(flood));
    let layer = json!({ "ok": { "shape": [2, 2], "values": [0.0, 2.5, 1.0, 3.25] } });
    let mut beside = 0;
    let flooded = loop {
        // One beside it, and then the next: each is answered while the flood goes on.
        let other = async {
            assert_eq!(server.get("/f/tensors/layer").await.json(), layer);
        };
        match future::select(&mut flood, std::pin::pin!(other)).await {
            Either::Left((flooded, other)) => {
                other.await;
                break flooded;
            }
            Either::Right(((), _)) => beside += 1,
        }
    };
    assert_eq!(flooded.json(), json!({ "ok": many() as f64 }));
    assert!(beside > 0, "nobody else was answered meanwhile");
    until_nothing_is_held(&server).await;
    // One that would go on for longer than it may ends as others do, and leaves nothing either.
    let stopped = server.get("/f/tensors/many?count=1000000000").await;
    stopped.assert_error(504, "cpu-time-exceeded", "limits.cpu");
    until_nothing_is_held(&server).await;
    assert_eq!(server.get("/f/tensors/layer").await.json(), layer);
}

#[tokio::test]
async fn a_tenant_that_has_all_it_may_keeps_nobody_else_from_computing() {
    let guarded = Guarded::start();
    let guarded = guarded.restarted_with("[devices]\nmemory = '64MiB'\ntenant_memory = '16MiB'");
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    for token in [&mine, &yours] {
        guarded.deploy(token, &TENSORS).await;
    }
    let (end, ended) = oneshot::channel();
    let held = guarded.asked(&mine, Method::POST, "/f/tensors/hold").body(body_until(ended));
    let held = tokio::spawn(answer(held));
    let devices = async || guarded.get(guarded.admin(), "/v1/devices").await.json();
    until("it has a session", async || of_device(&devices().await)["sessions"] == 1).await;
    let refused = guarded.get(&mine, "/f/tensors/layer").await.json();
    assert_eq!(refused["error"]["kind"], "Overloaded", "{refused}");
    let text = refused["error"]["message"].as_str().expect("a message");
    assert!(text.contains("exceed the tenant's device memory"), "{text}");
    assert_eq!(guarded.get(&yours, "/f/tensors/many?count=500").await.json()["ok"], 500.0);
    end.send(()).expect("it waits");
    let held: Answer = held.await.expect("no panic");
    assert_eq!(held.json(), json!({ "ok": 1_024, "body": "held" }));
    until("its memory is free", async || of_device(&devices().await)["leased_bytes"] == 0).await;
    assert_eq!(guarded.get(&mine, "/f/tensors/many?count=10").await.json()["ok"], 10.0);
}
