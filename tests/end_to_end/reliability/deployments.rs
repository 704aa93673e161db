//! Deployments without a pause: an acknowledged version is there, and can be called.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;

use super::{load, place::Place};
use crate::{
    crashes::model,
    support::{Server, answer},
};

/// A version that was acknowledged.
pub(super) struct Acknowledged {
    name: String,
    version: u64,
}

/// Deploys until the place is closed; returns what was acknowledged.
pub(super) async fn deploy_on(place: Arc<Place>, mut random: fastrand::Rng) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if place.is_closed() {
            break;
        }
        let name = format!("m{}", random.u8(0..3));
        let path = format!("/v1/models/{name}?live={}", random.bool());
        let answer =
            place.send(|server| server.request(Method::PUT, &path).body(model(number))).await;
        let Some(answer) = answer else { continue };
        assert_eq!(answer.status, 201, "{}", answer.text());
        let version = answer.json()["version"].as_u64().expect("a number");
        acknowledged.push(Acknowledged { name, version });
        tokio::time::sleep(std::time::Duration::from_millis(random.u64(0..100))).await;
    }
    acknowledged
}

/// Everything acknowledged is listed; what is newest can be called.
pub(super) async fn check(server: &Server, acknowledged: &[Acknowledged]) {
    for name in ["m0", "m1", "m2"] {
        let of_name: Vec<_> = acknowledged.iter().filter(|one| one.name == name).collect();
        let Some(newest) = of_name.iter().map(|one| one.version).max() else { continue };
        let answered = server.get(&format!("/v1/models/{name}/versions")).await.json();
        let listed: Vec<_> = answered["versions"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|version| version["version"].as_u64())
            .collect();
        for Acknowledged { version, .. } in of_name {
            assert!(listed.contains(version), "version {version} of {name} is lost");
        }
        let path = format!("/v2/models/{name}/versions/{newest}/infer");
        let call = server.request(Method::POST, &path).body(load::digit().to_string());
        let answered = answer(call).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_eq!(answered.json()["model_version"], Value::from(newest.to_string()));
    }
}
