//! What asynchronous calls leave to others: places of a function, and the keys of what has its name.

use reqwest::Method;
use serde_json::json;

use super::{accepted, asynchronous, until_it_is};
use crate::{
    MISBEHAVE,
    support::{Server, answer, digits_model},
};

#[tokio::test]
async fn calls_that_nobody_waits_for_leave_a_place_to_those_that_somebody_does() {
    let server = Server::start();
    let manifest = MISBEHAVE.manifest().replace("[limits]", "[limits]\nconcurrency = 2");
    let deployed = server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    let slow = || asynchronous(&server, Method::GET, "/f/misbehave/sleep?ms=1000");
    let first = accepted(slow()).await;
    until_it_is(&server, &first, "running").await;
    let second = accepted(slow()).await;
    // It was begun and found no place, which does not count as a try.
    let waits = async || {
        let shown = super::show(&server, &second).await;
        shown["reason"].as_str().is_some_and(|reason| reason.contains("busy"))
    };
    crate::support::until("the second one is held", waits).await;
    let direct = server.post("/f/misbehave/echo", "flour").await;
    assert_eq!((direct.status.as_u16(), direct.text().as_str()), (200, "flour"));
    let call = until_it_is(&server, &second, "succeeded").await;
    assert_eq!(call["attempts"], 1, "{call}");
}

#[tokio::test]
async fn a_function_and_a_model_of_one_name_have_keys_of_their_own() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    assert_eq!(server.put("/v1/models/misbehave", digits_model()).await.status, 201);
    let image = json!({"inputs": [
        {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64]}]});
    let mut calls = Vec::new();
    for (path, body, kind) in [
        ("/f/misbehave/echo", "flour".to_owned(), "http"),
        ("/v2/models/misbehave/infer", image.to_string(), "inference"),
    ] {
        let request = asynchronous(&server, Method::POST, path).header("idempotency-key", "k");
        let taken = answer(request.body(body)).await;
        assert_eq!(
            (taken.status.as_u16(), &taken.json()["repeated"]),
            (202, &json!(false)),
            "{path}"
        );
        let id = taken.json()["id"].as_str().expect("an id").to_owned();
        let call = until_it_is(&server, &id, "succeeded").await;
        assert_eq!((&call["target"], &call["kind"]), (&json!("misbehave"), &json!(kind)));
        calls.push(id);
    }
    assert_ne!(calls[0], calls[1]);
}
