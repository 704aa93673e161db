//! Requests, one after the other: each is answered rightly, refused cleanly, or cut off by a kill.

use std::{ops::AddAssign, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::place::Place;
use crate::support::Answer;

pub(super) const INFER: &str = "/v2/models/digits-mlp/infer";

/// Between two requests of a client, so that other tests have processors, too.
const PAUSE: Duration = Duration::from_millis(2);

/// What became of requests.
#[derive(Debug, Default)]
pub(super) struct Served {
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) cut_off: u64,
}

impl AddAssign for Served {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.cut_off += other.cut_off;
    }
}

impl Served {
    fn count(&mut self, answer: Option<Answer>, is_right: impl Fn(&Answer) -> bool) {
        match answer {
            None => self.cut_off += 1,
            Some(answer) if answer.status == 200 => {
                assert!(is_right(&answer), "a wrong answer: {}", answer.text());
                self.answered += 1;
            }
            Some(answer) => {
                let status = answer.status.as_u16();
                let is_clean =
                    matches!(status, 429 | 503) && !answer.header("quern-error").is_empty();
                assert!(is_clean, "{status}: {}", answer.text());
                self.refused += 1;
            }
        }
    }
}

/// A request for one row.
pub(super) fn digit() -> Value {
    json!({ "inputs": [{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": (0..64).map(|pixel| f64::from(pixel % 17)).collect::<Vec<_>>() }] })
}

/// Calls the function that traffic is shared for.
pub(super) async fn visit(place: Arc<Place>) -> Served {
    let mut served = Served::default();
    while !place.is_closed() {
        let answer = place.send(|server| server.request(Method::GET, "/f/hello/")).await;
        served.count(answer, |answer| answer.text().trim() == "hello");
        tokio::time::sleep(PAUSE).await;
    }
    served
}

/// Calls a model, whose answer to the same row is always the same.
pub(super) async fn infer(place: Arc<Place>) -> Served {
    let (mut served, body) = (Served::default(), digit().to_string());
    let mut first: Option<Value> = None;
    while !place.is_closed() {
        let answer =
            place.send(|server| server.request(Method::POST, INFER).body(body.clone())).await;
        let outputs = answer
            .as_ref()
            .filter(|answer| answer.status == 200)
            .map(|a| a.json()["outputs"].clone());
        let expected = first.get_or_insert_with(|| outputs.clone().unwrap_or_default());
        if expected.is_null() {
            first = outputs.clone();
        }
        served.count(answer, |_| first == outputs);
        tokio::time::sleep(PAUSE).await;
    }
    served
}
