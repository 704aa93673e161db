//! A schedule whose times come every moment, on a clock that is set forward for it: each of them is
//! called once, however often the server is killed.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::place::Place;
use crate::{
    HELLO,
    support::{Server, until},
};

const MINUTE: u64 = 60;

/// A schedule that is called every minute, and what was seen of its calls.
#[derive(Debug)]
pub(super) struct Minutes {
    /// Seconds since 1970 by the server's clock.
    now: u64,
    seen: BTreeSet<String>,
}

/// Puts the schedule.
pub(super) async fn furnish(place: &Place, server: &Server) -> Minutes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // Beyond what is left of this minute, so that the times in between are those that it is set to.
    let now = now / MINUTE * MINUTE + MINUTE + 10;
    place.simulator.set_clock(now);
    let manifest = HELLO.manifest().replace("name = \"hello\"", "name = \"minutes\"");
    let deployed = server.upload("minutes", manifest, HELLO.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let spec = json!({"cron": "* * * * *", "path": "/f/minutes/", "missed": "all"}).to_string();
    let put = server.put("/v1/schedules/minutely", spec).await;
    assert_eq!(put.status, 201, "{}", put.text());
    Minutes { now, seen: BTreeSet::new() }
}

/// Lets a minute pass every moment.
pub(super) async fn pass_on(
    place: Arc<Place>,
    mut minutes: Minutes,
    mut random: fastrand::Rng,
) -> Minutes {
    while !place.is_closed() {
        minutes.now += MINUTE;
        place.simulator.set_clock(minutes.now);
        tokio::time::sleep(Duration::from_millis(random.u64(500..2_000))).await;
        let listed =
            place.send(|server| server.request(Method::GET, &Minutes::path("?limit=50"))).await;
        if let Some(listed) = listed {
            assert_eq!(listed.status, 200, "{}", listed.text());
            let calls = Minutes::calls(&listed.json());
            minutes.seen.extend(calls.iter().map(|(_, id)| id.clone()));
        }
    }
    minutes
}

impl Minutes {
    fn path(rest: &str) -> String {
        format!("/v1/invocations{rest}&target=minutes")
    }

    /// The times of calls, which are in their keys, and their names.
    fn calls(listed: &Value) -> Vec<(u64, String)> {
        let calls = listed["invocations"].as_array().expect("a list").iter();
        let call = |call: &Value| {
            let key = call["idempotency_key"].as_str().expect("a schedule gives its calls keys");
            let micros: u64 = key.rsplit('·').next().expect("a time").parse().expect("a number");
            (micros / 1_000_000, call["id"].as_str().expect("an id").to_owned())
        };
        calls.map(call).collect()
    }

    /// Waits until the last time was called; returns how many were.
    pub(super) async fn check(&self, server: &Server) -> usize {
        let path = Self::path("?limit=1000");
        let mut calls = Vec::new();
        until("the last minute is called", async || {
            calls = Self::calls(&server.get(&path).await.json());
            calls.iter().any(|(time, _)| *time >= self.now / MINUTE * MINUTE)
        })
        .await;
        let mut times: Vec<_> = calls.iter().map(|(time, _)| *time).collect();
        times.sort_unstable();
        let gaps: Vec<_> = times.windows(2).filter(|pair| pair[0] + MINUTE != pair[1]).collect();
        assert!(gaps.is_empty(), "times that were left out, or called twice: {gaps:?}");
        for id in &self.seen {
            assert!(calls.iter().any(|(_, of)| of == id), "call {id} was seen and is lost");
        }
        until("all have come to their end", async || {
            let listed = server.get(&path).await.json();
            let calls = listed["invocations"].as_array().expect("a list");
            calls.iter().all(|call| call["state"] == "succeeded")
        })
        .await;
        times.len()
    }
}
