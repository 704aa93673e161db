//! What the client asks and sets about traffic, aliases and canaries.

use quern_types::{Class, Name, Period, VersionNumber};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Client, ClientError, ServerUrl};

/// How many requests a version had, and how they ended.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) traps: u64,
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
}

/// A version's share of the requests.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SharedBy {
    pub(crate) version: u32,
    pub(crate) percent: u8,
    pub(crate) counted: Counts,
}

/// Where the requests to a name go.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TrafficAnswer {
    pub(crate) versions: Vec<SharedBy>,
    pub(crate) sticky: Option<Value>,
    pub(crate) shadow: Option<ShadowAnswer>,
    pub(crate) aliases: Vec<ListedAlias>,
}

/// A version that gets copies of requests, and what came of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ShadowAnswer {
    pub(crate) version: u32,
    pub(crate) percent: u8,
    pub(crate) same: u64,
    pub(crate) different: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    pub(crate) max_abs_difference: Option<f64>,
    pub(crate) examples: Vec<ShadowExample>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ShadowExample {
    pub(crate) invocation: String,
    pub(crate) answered: String,
    pub(crate) shadowed: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedAlias {
    pub(crate) alias: String,
    pub(crate) version: u32,
}

/// A canary, and the step that it is at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CanaryAnswer {
    pub(crate) version: u32,
    pub(crate) from: u32,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) steps: String,
    pub(crate) step: Option<CanaryStep>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CanaryStep {
    pub(crate) number: usize,
    pub(crate) percent: u8,
    pub(crate) waits_for: Option<WaitsFor>,
    pub(crate) new: Option<Counts>,
    pub(crate) old: Option<Counts>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WaitsFor {
    pub(crate) time: Period,
    pub(crate) requests: u64,
    pub(crate) old_requests: u64,
}

impl ServerUrl {
    /// Where a version is uploaded that is to be live, or not.
    pub(super) fn to_deploy(&self, class: Class, name: &Name, live: bool) -> Url {
        let mut url = self.at(&["v1", class.plural(), name.as_str()]);
        url.set_query((!live).then_some("live=false"));
        url
    }
}

impl Client {
    /// Where the requests to a name go.
    pub(crate) async fn traffic(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<TrafficAnswer>, ClientError> {
        self.answer(self.http.get(self.below(class, name, &["traffic"]))).await
    }

    /// Sets where they go.
    pub(crate) async fn set_traffic(
        &self,
        class: Class,
        name: &Name,
        traffic: &Value,
    ) -> Result<Answer<TrafficAnswer>, ClientError> {
        self.answer(self.http.put(self.below(class, name, &["traffic"])).json(traffic)).await
    }

    /// Names a version.
    pub(crate) async fn set_alias(
        &self,
        class: Class,
        name: &Name,
        (alias, version): (&Name, VersionNumber),
    ) -> Result<Answer<Value>, ClientError> {
        let url = self.below(class, name, &["aliases", alias.as_str()]);
        self.answer(self.http.put(url).json(&json!({"version": version}))).await
    }

    /// Takes the name of a version away.
    pub(crate) async fn remove_alias(
        &self,
        class: Class,
        name: &Name,
        alias: &Name,
    ) -> Result<(), ClientError> {
        let url = self.below(class, name, &["aliases", alias.as_str()]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    /// Starts a canary.
    pub(crate) async fn start_canary(
        &self,
        class: Class,
        name: &Name,
        canary: &Value,
    ) -> Result<Answer<CanaryAnswer>, ClientError> {
        self.answer(self.http.post(self.below(class, name, &["canary"])).json(canary)).await
    }

    /// How the last canary does.
    pub(crate) async fn canary(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<CanaryAnswer>, ClientError> {
        self.answer(self.http.get(self.below(class, name, &["canary"]))).await
    }

    /// Gives the old version everything again.
    pub(crate) async fn abort_canary(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<CanaryAnswer>, ClientError> {
        self.answer(self.http.delete(self.below(class, name, &["canary"]))).await
    }

    /// Gives the new version everything.
    pub(crate) async fn promote_canary(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<CanaryAnswer>, ClientError> {
        self.answer(self.http.post(self.below(class, name, &["canary", "promote"]))).await
    }

    fn below(&self, class: Class, name: &Name, rest: &[&str]) -> Url {
        let mut segments = vec!["v1", class.plural(), name.as_str()];
        segments.extend(rest);
        self.url.at(&segments)
    }
}
