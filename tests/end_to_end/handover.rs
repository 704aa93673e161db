//! Device tensors that functions hand to models: the same answers as without a device, the same
//! refusals, and nothing that stays behind.

use serde_json::{Value, json};

use crate::{
    HANDOVER,
    support::{Server, until},
};

async fn server() -> Server {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&HANDOVER).await;
    server
}

async fn ok(server: &Server, path: &str) -> Value {
    let answer = server.get(&format!("/f/handover/{path}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    answer.get("ok").unwrap_or_else(|| panic!("{path}: {answer}")).clone()
}

async fn until_nothing_is_held(server: &Server) {
    until("all is given back", async || {
        let devices = server.get("/v1/devices").await.json();
        let tensors = &devices["devices"][0]["tensors"];
        ["sessions", "leased_bytes", "held_bytes"].iter().all(|what| tensors[what] == 0)
    })
    .await;
}

#[tokio::test]
async fn a_model_says_the_same_of_tensors_that_stay_on_the_device() {
    let server = server().await;
    for rows in [1, 3, 300] {
        let expected = json!({
            "same": [true, true, true],
            "left": true,
            "outputs": [format!("probabilities: FP32 {rows}x10")],
            "best": rows,
        });
        assert_eq!(ok(&server, &format!("classify?rows={rows}")).await, expected);
    }
    // 256 bytes for each image, and for its probabilities.
    let repeated = ok(&server, "repeat?rows=1&times=100").await;
    assert_eq!(repeated["usage"], json!({ "bytes": 512, "tensors": 2 }));
    until_nothing_is_held(&server).await;
}

#[tokio::test]
async fn calls_of_functions_share_batches_with_all_others() {
    let server = server().await;
    let path = "repeat?rows=2&times=20";
    let shape = json!([2, 10]);
    let (first, second, third) =
        tokio::join!(ok(&server, path), ok(&server, path), ok(&server, path));
    for answer in [first, second, third] {
        assert_eq!(answer["shape"], shape);
    }
    assert_eq!(server.metric("quern_batch_rows_sum").await, 3.0 * 20.0 * 2.0);
    until_nothing_is_held(&server).await;
}

#[tokio::test]
async fn what_is_refused_is_said_by_whoever_refuses_it() {
    let server = server().await;
    let cases = [
        ("name", "model", "InvalidInput", "input \"picture\""),
        ("twice", "model", "InvalidInput", "2 inputs: the model takes 1"),
        ("none", "model", "InvalidInput", "input \"image\" is missing"),
        ("type", "model", "InvalidInput", "INT32"),
        ("shape", "model", "InvalidInput", "63"),
        ("rows", "model", "InvalidInput", "has no rows"),
        ("foreign", "device", "Unknown", "belongs to another session"),
        ("stretched", "device", "Exhausted", "bytes exceed the budget"),
        (
            "outputs",
            "device",
            "Exhausted",
            "output \"probabilities\": 256 bytes exceed the budget: 256 of 256 are in use",
        ),
        ("index", "device", "Index", "gather: index 7 is out of a dimension of 1"),
    ];
    for (name, by, kind, message) in cases {
        let answer = server.get(&format!("/f/handover/refused/{name}")).await.json();
        let error = &answer["error"];
        let text = error["message"].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(error["by"] == by && error["kind"] == kind, "{name}: {answer}");
        assert!(text.contains(message), "{name}: {text:?} should contain {message:?}");
    }
    let expected = json!({ "refused": true, "answered": true, "left": true });
    assert_eq!(ok(&server, "goes-on").await, expected);
    until_nothing_is_held(&server).await;
}

#[tokio::test]
async fn both_grants_are_needed() {
    let server = Server::start();
    server.deploy_digits_model().await;
    for (grant, import) in [("models", "quern:ml/models@0.1.0"), ("gpu", "quern:ml/gpu@0.1.0")] {
        let manifest = HANDOVER.manifest();
        let lines = manifest.lines().filter(|line| !line.starts_with(&format!("{grant} =")));
        let manifest = lines.collect::<Vec<_>>().join("\n");
        let refused = server.upload("handover", manifest, HANDOVER.component()).await;
        refused.assert_error(422, "missing-grant", &format!("the component imports {import}"));
    }
    // A model that is granted and not there.
    server.deploy(&HANDOVER).await;
    assert_eq!(server.delete("/v1/models/digits-mlp").await.status, 204);
    let refused = server.get("/f/handover/goes-on").await.json();
    assert_eq!(
        (&refused["error"]["by"], &refused["error"]["kind"]),
        (&json!("model"), &json!("NotFound"))
    );
}
