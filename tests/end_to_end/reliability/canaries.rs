//! Canaries one after the other: each is at the state that was acknowledged or comes after it, an end
//! stays as it was, and traffic goes where the end says.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::place::Place;
use crate::{
    HELLO,
    support::{Answer, Server, answer},
};

const CANARY: &str = "/v1/functions/canaried/canary";
const TRAFFIC: &str = "/v1/functions/canaried/traffic";

/// What is known of the last canary.
#[derive(Debug, Default)]
pub(super) struct Canaries {
    /// When it was started, if that was acknowledged and nothing came after it.
    started: Option<Value>,
    /// How it ended, if that was seen and nothing came after it.
    ended: Option<Value>,
    promoted: u32,
    others: u32,
}

/// Deploys two versions.
pub(super) async fn furnish(server: &Server) {
    for version in 1..=2 {
        let manifest =
            format!("name = 'canaried'\nkind = 'http'\n[limits]\nlog = '{version}KiB'\n");
        let form = reqwest::multipart::Form::new()
            .text("manifest", manifest)
            .part("component", reqwest::multipart::Part::bytes(HELLO.component()));
        let path = "/v1/functions/canaried?live=false";
        let deployed = answer(server.request(Method::PUT, path).multipart(form)).await;
        assert_eq!(deployed.status, 201, "{}", deployed.text());
    }
}

/// Starts canaries until the place is closed, and sees each of them to its end.
pub(super) async fn follow_on(place: Arc<Place>, mut random: fastrand::Rng) -> Canaries {
    let mut canaries = Canaries::default();
    while !place.is_closed() {
        canaries.look(&place).await;
        canaries.start(&place).await;
        while !place.is_closed() && canaries.ended.is_none() {
            for _ in 0..4 {
                let visit = place.send(|server| server.request(Method::GET, "/f/canaried/")).await;
                canaries.visited(visit);
            }
            if random.u8(0..100) == 0 {
                canaries.end_by_hand(&place, random.bool()).await;
            }
            canaries.look(&place).await;
        }
    }
    canaries
}

impl Canaries {
    /// How many ended with the new version, and how many otherwise.
    pub(super) fn ended(&self) -> (u32, u32) {
        (self.promoted, self.others)
    }

    fn visited(&self, visit: Option<Answer>) {
        let Some(visit) = visit else { return };
        let is_clean = matches!(visit.status.as_u16(), 200 | 429 | 503);
        assert!(is_clean, "{}: {}", visit.status, visit.text());
        let is_there = ["1", "2"].contains(&visit.header("quern-version"));
        assert!(visit.status != 200 || is_there, "version {:?}", visit.header("quern-version"));
    }

    /// Starts one for the version that is not live.
    async fn start(&mut self, place: &Place) {
        let traffic = place.send(|server| server.request(Method::GET, TRAFFIC)).await;
        let Some(traffic) = traffic else { return };
        let live = shares(&traffic.json()).iter().max_by_key(|(_, percent)| *percent).copied();
        let version = 3 - live.expect("something is live").0;
        let canary = json!({
            "version": version, "steps": "50% 1s, 100%", "limits": {"requests": 2},
        });
        let send = |server: &Server| server.request(Method::POST, CANARY).body(canary.to_string());
        let started = place.send(send).await;
        (self.started, self.ended) = (None, None);
        match started {
            Some(answer) if answer.status == 201 => {
                self.started = Some(answer.json()["started"].clone());
            }
            // One is running that was started when the answer to it was cut off.
            Some(answer) => answer.assert_error(409, "traffic-conflict", "canary"),
            None => {}
        }
    }

    async fn end_by_hand(&mut self, place: &Place, promotes: bool) {
        let promote = format!("{CANARY}/promote");
        let (method, path, state) = match promotes {
            true => (Method::POST, &*promote, "promoted"),
            false => (Method::DELETE, CANARY, "aborted"),
        };
        let answer = place.send(|server| server.request(method, path)).await;
        // It may have ended by itself in between.
        let done = answer.filter(|answer| answer.status != 404);
        let Some(done) = done else { return };
        assert!(done.status.is_success(), "{}", done.text());
        let shown = place.send(|server| server.request(Method::GET, CANARY)).await;
        if let Some(shown) = shown {
            assert_eq!(shown.json()["state"], state, "it was acknowledged: {}", shown.text());
        }
    }

    /// Compares what is found with what is known.
    async fn look(&mut self, place: &Place) {
        let found = place.send(|server| server.request(Method::GET, CANARY)).await;
        let traffic = place.send(|server| server.request(Method::GET, TRAFFIC)).await;
        if let (Some(found), Some(traffic)) = (found, traffic) {
            self.compare(&found, &traffic);
        }
    }

    pub(super) async fn check(&mut self, server: &Server) {
        let (found, traffic) = (server.get(CANARY).await, server.get(TRAFFIC).await);
        self.compare(&found, &traffic);
    }

    fn compare(&mut self, found: &Answer, traffic: &Answer) {
        let shares = shares(&traffic.json());
        assert_eq!(shares.iter().map(|(_, percent)| percent).sum::<u64>(), 100, "{shares:?}");
        assert!(shares.iter().all(|(version, _)| [1, 2].contains(version)), "{shares:?}");
        if found.status == 404 {
            let was_there = self.ended.as_ref().is_some_and(|ended| !ended.is_null());
            assert!(self.started.is_none() && !was_there, "the canary is lost");
            // The first one was not even started.
            self.ended = Some(Value::Null);
            return;
        }
        let canary = found.json();
        if let Some(started) = &self.started {
            assert_eq!(canary["started"], *started, "another one than was started: {canary}");
        }
        if let Some(ended) = &self.ended {
            assert_eq!(canary, *ended, "it has ended twice");
            return;
        }
        let all = match canary["state"].as_str().expect("a state") {
            "running" => return,
            "promoted" => {
                self.promoted += 1;
                &canary["version"]
            }
            _ => {
                self.others += 1;
                &canary["from"]
            }
        };
        // Nobody else changes the traffic, so that it stays as the end has left it.
        assert_eq!(shares, [(all.as_u64().expect("a number"), 100)], "{canary}");
        self.ended = Some(canary);
    }
}

/// The versions with a share of the traffic, and it in percent.
fn shares(traffic: &Value) -> Vec<(u64, u64)> {
    let versions = traffic["versions"].as_array().expect("a list").iter();
    let share = |version: &Value| {
        let number = |key: &str| version[key].as_u64().expect("a number");
        (number("version"), number("percent"))
    };
    versions.map(share).filter(|(_, percent)| *percent > 0).collect()
}
