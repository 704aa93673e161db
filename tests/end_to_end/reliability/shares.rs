//! Traffic, aliases and rollbacks without a pause: what was acknowledged last is what is found,
//! unless a change came after it of which nothing is known.

use std::{collections::BTreeMap, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};

use super::{VERSIONS, place::Place};
use crate::support::Server;

const TRAFFIC: &str = "/v1/functions/hello/traffic";

/// The percentage of each version that has one, and the version of each alias.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    shares: BTreeMap<u64, u64>,
    aliases: BTreeMap<String, u64>,
}

/// One change, and what it leads to.
struct Change {
    method: Method,
    path: String,
    body: Value,
    to: State,
}

/// What is known of the traffic.
pub(super) struct Shares {
    known: State,
    /// What it would be if the change took place whose answer was cut off.
    possible: Option<State>,
    acknowledged: u64,
}

impl State {
    fn read(traffic: &Value) -> Self {
        let pairs = |list: &Value, key: &str, value: &str| {
            let entries = list.as_array().cloned().unwrap_or_default();
            let pair = |entry: Value| (entry[key].clone(), entry[value].as_u64().unwrap_or(0));
            entries.into_iter().map(pair).collect::<Vec<_>>()
        };
        let shares = pairs(&traffic["versions"], "version", "percent").into_iter();
        let shares = shares.filter(|(_, percent)| *percent > 0);
        let aliases = pairs(&traffic["aliases"], "alias", "version").into_iter();
        Self {
            shares: shares
                .map(|(version, percent)| (version.as_u64().expect("a number"), percent))
                .collect(),
            aliases: aliases
                .map(|(alias, version)| (alias.as_str().expect("a name").to_owned(), version))
                .collect(),
        }
    }

    /// Any change that can be made from here.
    fn change(&self, random: &mut fastrand::Rng) -> Change {
        let mut to = self.clone();
        let version = random.u64(1..=VERSIONS);
        match random.u8(0..4) {
            0 => {
                to.shares = [(version, 100)].into();
                let (path, body) = ("/v1/functions/hello/rollback", json!({ "version": version }));
                Change { method: Method::POST, path: path.into(), body, to }
            }
            1 => {
                let alias = format!("a{}", random.u8(0..3));
                let path = format!("/v1/functions/hello/aliases/{alias}");
                to.aliases.insert(alias, version);
                Change { method: Method::PUT, path, body: json!({ "version": version }), to }
            }
            _ => {
                let other = version % VERSIONS + 1;
                let percent = random.u64(1..100);
                to.shares = [(version, percent), (other, 100 - percent)].into();
                let share = |(version, percent): (&u64, &u64)| json!({ "version": version, "percent": percent });
                let body = json!({ "versions": to.shares.iter().map(share).collect::<Vec<_>>() });
                Change { method: Method::PUT, path: TRAFFIC.into(), body, to }
            }
        }
    }
}

/// Changes the traffic until the place is closed.
pub(super) async fn share_on(place: Arc<Place>, mut random: fastrand::Rng) -> Shares {
    let known = State { shares: [(VERSIONS, 100)].into(), aliases: BTreeMap::new() };
    let mut shares = Shares { known, possible: None, acknowledged: 0 };
    while !place.is_closed() {
        if let Some(found) = place.send(|server| server.request(Method::GET, TRAFFIC)).await {
            assert_eq!(found.status, 200, "{}", found.text());
            shares.compare(&found.json());
            let Change { method, path, body, to } = shares.known.change(&mut random);
            let send = |server: &Server| server.request(method, &path).body(body.to_string());
            match place.send(send).await {
                Some(answer) => {
                    let is_done = answer.status.is_success();
                    assert!(is_done, "{path} {body}: {}", answer.text());
                    (shares.known, shares.acknowledged) = (to, shares.acknowledged + 1);
                }
                None => shares.possible = Some(to),
            }
        }
    }
    shares
}

impl Shares {
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes over what is found, which is one of what can be.
    fn compare(&mut self, traffic: &Value) {
        let found = State::read(traffic);
        let possible = self.possible.take();
        let can_be = found == self.known || possible.as_ref() == Some(&found);
        assert!(can_be, "{found:?} is neither {:?} nor {possible:?}", self.known);
        self.known = found;
    }

    pub(super) async fn check(&mut self, server: &Server) {
        let found = server.get(TRAFFIC).await;
        self.compare(&found.json());
    }
}
