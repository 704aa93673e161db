//! Calls for later without a pause: every acknowledged one comes to its end once, with its answer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use reqwest::Method;
use serde_json::Value;

use super::place::Place;
use crate::support::{Answer, Server, answer, until};

/// An acknowledged call.
#[derive(Debug)]
struct Call {
    id: String,
    /// When it came to its end, once that was seen.
    finished: Option<Value>,
}

/// What was acknowledged, by the number that made the key.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<u32, Call>);

fn call(server: &Server, number: u32) -> reqwest::RequestBuilder {
    server
        .request(Method::POST, "/f/misbehave/echo")
        .header("prefer", "respond-async")
        .header("idempotency-key", format!("key-{number}"))
        .body(format!("body {number}"))
}

/// Sends calls, some of them twice, and looks at what became of others.
pub(super) async fn call_on(place: Arc<Place>, mut random: fastrand::Rng) -> Calls {
    let mut calls = Calls::default();
    let mut number = 0;
    while !place.is_closed() {
        if let Some(accepted) = place.send(|server| call(server, number)).await {
            calls.acknowledge(number, &accepted);
            number += 1;
        }
        let some = random.u32(0..=number);
        if let Some(id) = calls.0.get(&some).map(|call| call.id.clone()) {
            let path = format!("/v1/invocations/{id}");
            let shown = place.send(|server| server.request(Method::GET, &path)).await;
            if let Some(shown) = shown {
                calls.see(some, &shown);
            }
            if let Some(again) = place.send(|server| call(server, some)).await {
                calls.acknowledge(some, &again);
            }
        }
    }
    calls
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn acknowledge(&mut self, number: u32, accepted: &Answer) {
        if accepted.status != 202 {
            let is_clean = matches!(accepted.status.as_u16(), 429 | 503);
            assert!(is_clean, "{}: {}", accepted.status, accepted.text());
            return;
        }
        let id = accepted.json()["id"].as_str().expect("an id").to_owned();
        let call = self.0.entry(number).or_insert_with(|| Call { id: id.clone(), finished: None });
        assert_eq!(call.id, id, "key {number} stands for two invocations");
    }

    fn see(&mut self, number: u32, shown: &Answer) {
        assert_eq!(shown.status, 200, "call {number} is lost: {}", shown.text());
        let finished = shown.json()["finished"].clone();
        let call = self.0.get_mut(&number).expect("was acknowledged");
        if let Some(before) = &call.finished {
            assert_eq!(*before, finished, "call {number} came to its end twice");
        } else if !finished.is_null() {
            call.finished = Some(finished);
        }
    }

    /// Waits for the end of all, and reads their answers.
    pub(super) async fn check(&mut self, server: &Server) {
        let ids: HashSet<_> = self.0.values().map(|call| &call.id).collect();
        assert_eq!(ids.len(), self.0.len(), "two keys stand for one invocation");
        let numbers: Vec<_> = self.0.keys().copied().collect();
        for number in numbers {
            let path = format!("/v1/invocations/{}", self.0[&number].id);
            until("a call comes to its end", async || {
                let shown = answer(server.request(Method::GET, &path)).await;
                self.see(number, &shown);
                self.0[&number].finished.is_some()
            })
            .await;
            let answered = server.get(&format!("{path}/result")).await;
            assert_eq!(answered.header("quern-state"), "succeeded", "{}", answered.text());
            assert_eq!(answered.text(), format!("body {number}"));
        }
    }
}
