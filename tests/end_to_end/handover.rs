//! Device tensors that functions hand to models and to each other: the same answers as without a
//! device, the same refusals, nothing for other tenants, and nothing that stays behind.

use serde_json::{Value, json};

use crate::{
    HANDOVER,
    access::Guarded,
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

#[tokio::test]
async fn one_function_takes_over_what_another_offers() {
    let server = server().await;
    let manifest = HANDOVER.manifest().replace("name = \"handover\"", "name = \"taker\"");
    let taker = server.upload("taker", manifest, HANDOVER.component()).await;
    assert_eq!(taker.status, 201, "{}", taker.text());
    let offer = ok(&server, "offer?count=1000&milliseconds=60000").await;
    let ticket = offer.as_str().expect("a ticket");
    until("nothing but the tensor is there", async || {
        let devices = server.get("/v1/devices").await.json();
        let tensors = &devices["devices"][0]["tensors"];
        tensors["sessions"] == 0
            && tensors["leased_bytes"] == 4_096
            && tensors["held_bytes"] == 4_096
    })
    .await;
    assert_eq!(server.metric("quern_device_offered_tensors").await, 1.0);
    let accept = async |bytes: u64| {
        server.get(&format!("/f/taker/accept?ticket={ticket}&bytes={bytes}")).await.json()
    };
    let small = accept(2_048).await["error"].take();
    assert_eq!(small["kind"], "Exhausted", "{small}");
    // That there was no room for it has left it where it was.
    let taken = json!({ "ok": { "tensor": "FP32 1000", "sum": 499_500.0, "bytes": 4_096 } });
    assert_eq!(accept(8_192).await, taken);
    let again = accept(8_192).await["error"].take();
    assert_eq!(again["kind"], "Unknown", "{again}");
    until_nothing_is_held(&server).await;
    assert_eq!(server.metric("quern_device_offered_tensors").await, 0.0);
    assert_eq!(server.metric("quern_device_offers_total").await, 1.0);
}

#[tokio::test]
async fn whatever_part_of_a_tensor_is_handed_over_comes_out_as_it_was() {
    let server = server().await;
    let expected = json!({
        "sums": [130_816.0, 98_176.0, 514.0, 0.0],
        "shapes": ["FP32 2x256", "FP32 1x256", "FP32 2x2", "FP32 0x256"],
        "again": [false, false, false, false],
        "before": 2_048,
        "after": 0,
        "bytes": 2_048 + 1_024 + 256,
        "tensors": 4,
    });
    assert_eq!(ok(&server, "exchange").await, expected);
    until_nothing_is_held(&server).await;
}

#[tokio::test]
async fn nobody_takes_what_another_tenant_offers() {
    let guarded = Guarded::start();
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    for token in [&mine, &yours] {
        guarded.deploy(token, &HANDOVER).await;
    }
    let offer = guarded.get(&mine, "/f/handover/offer?count=7&milliseconds=60000").await.json();
    let ticket = offer["ok"].as_str().expect("a ticket").to_owned();
    let accept = async |token: &str, ticket: &str| {
        let path = format!("/f/handover/accept?ticket={ticket}&bytes=4096");
        guarded.get(token, &path).await.json()
    };
    let nothing = json!({ "error": {
        "by": "device",
        "kind": "Unknown",
        "message": "no tensor waits under this ticket: it was accepted, its time has passed, or \
                    there never was one",
    } });
    assert_eq!(accept(&yours, &ticket).await, nothing);
    for guess in ["", "0", &"0".repeat(32), &ticket[1..], &format!("{ticket}0"), "héllo"] {
        assert_eq!(accept(&mine, guess).await, nothing, "{guess:?}");
    }
    assert_eq!(accept(&mine, &ticket).await["ok"]["sum"], 21.0);
    assert_eq!(accept(&mine, &ticket).await, nothing);
}

#[tokio::test]
async fn offers_are_limited() {
    let guarded = Guarded::start();
    let guarded = guarded.restarted_with("[devices]\nmemory = '64MiB'\ntenant_memory = '16MiB'");
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    for token in [&mine, &yours] {
        guarded.deploy(token, &HANDOVER).await;
    }
    let cases = [
        ("offers?count=65", "Overloaded", "the tenant has 64 tensors waiting to be taken"),
        // Its session has leased all that the tenant may have, but for those 64.
        ("offer?count=1&milliseconds=0", "Overloaded", "exceed the tenant's device memory"),
        ("exchange", "Overloaded", "the tenant has 64 tensors waiting to be taken"),
    ];
    for (path, kind, message) in cases {
        let answer = guarded.get(&mine, &format!("/f/handover/{path}")).await.json();
        let text =
            answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(answer["error"]["kind"] == kind && text.contains(message), "{path}: {answer}");
    }
    for milliseconds in [0, 60_001] {
        let path = format!("/f/handover/offer?count=1&milliseconds={milliseconds}");
        let answer = guarded.get(&yours, &path).await.json();
        assert_eq!(answer["error"]["kind"], "Invalid", "{answer}");
    }
    // A session that has leased all leaves no room to offer anything beside it.
    let answer = guarded.get(&yours, "/f/handover/offer?count=1&milliseconds=9").await.json();
    let text = answer["error"]["message"].as_str().expect("a message");
    assert!(text.contains("256 bytes exceed the tenant's device memory, 0 of 16777216"), "{text}");
}
