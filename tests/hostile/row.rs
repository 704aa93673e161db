//! One hostile guest in a table: what it does, how it is called, and how that must end.

use std::time::Duration;

use reqwest::{Body, Method};
use serde_json::Value;

use crate::support::{Answer, Server, root};

/// How long a call may take before it counts as hung; its limits are far below.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests that a hostile function may serve at the same time.
pub(crate) const CONCURRENCY: usize = 8;
/// Limits that every hostile guest runs into within a moment.
pub(crate) const LIMITS: &str = "memory = \"16MiB\"\ncpu = \"100ms\"\ntimeout = \"1s\"\n\
    tables = 5000\nhandles = 500\nhost_call = \"1MiB\"\nresponse = \"4MiB\"\nconcurrency = 8\n";

/// A guest that means harm.
pub(crate) struct Row {
    /// Its file in guests/, or the name of what it is made of here.
    pub(crate) guest: &'static str,
    /// The harm, in a line.
    pub(crate) does: &'static str,
    /// Path below the function's own.
    pub(crate) path: &'static str,
    /// The request's body, if it has one.
    pub(crate) body: Option<fn() -> Body>,
    /// How it must end.
    pub(crate) ends: Ends,
}

/// How a hostile call ends.
pub(crate) enum Ends {
    /// With an error of the server; if a limit is named, because of that.
    Error { status: u16, code: &'static str, limit: Option<&'static str> },
    /// With an answer of the guest that has all these parts: it saw the refusal itself.
    Report(&'static [&'static str]),
    /// In the middle of a response whose head is sent; the function's log has this.
    BreaksOff { log: &'static str },
}

impl Row {
    /// A guest that is called with a plain GET.
    pub(crate) const fn new(guest: &'static str, does: &'static str, ends: Ends) -> Self {
        Self { guest, does, path: "", body: None, ends }
    }

    /// The function's name.
    pub(crate) fn name(&self) -> String {
        self.guest.replace('_', "-")
    }

    /// The function's manifest.
    pub(crate) fn manifest(&self) -> String {
        let manifest = http_manifest(&self.name(), "");
        match self.ends {
            Ends::Error { limit: Some("cpu"), .. } => patient(&manifest),
            _ => manifest,
        }
    }

    /// Makes one call, and asserts that it ends as it must.
    pub(crate) async fn strike(&self, server: &Server) {
        let what = format!("{}: {}", self.guest, self.does);
        let method = if self.body.is_some() { Method::POST } else { Method::GET };
        let mut request = server.request(method, &format!("/f/{}/{}", self.name(), self.path));
        if let Some(body) = self.body {
            request = request.body(body());
        }
        let name = self.name();
        let ended = tokio::time::timeout(PATIENCE, self.ends.check(server, &name, request));
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => panic!("{what}: {problem}"),
            Err(_) => panic!("{what}: hung"),
        }
    }
}

impl Ends {
    async fn check(
        &self,
        server: &Server,
        function: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<(), String> {
        let sent = request.send().await;
        let response = sent.map_err(|error| format!("no answer: {error:?}"))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if let Self::BreaksOff { log } = self {
            let body = response.bytes().await;
            return match body {
                Err(_) if status == 200 => logged(server, function, log).await,
                _ => Err(format!("{status}, {body:?}")),
            };
        }
        let body = response.bytes().await.map_err(|error| format!("{status}, then {error:?}"))?;
        let answer = Answer { status, headers, body: body.to_vec() };
        match self {
            Self::Error { status, code, limit } => check_error(&answer, *status, code, *limit),
            Self::Report(parts) => {
                let text = answer.text();
                let missing = parts.iter().find(|part| !text.contains(**part));
                match missing {
                    None if answer.status == 200 => Ok(()),
                    _ => Err(format!("{status} lacks {missing:?}: {text}")),
                }
            }
            Self::BreaksOff { .. } => Ok(()),
        }
    }
}

/// A manifest of a guest that has to use up its processor time, for which a machine with much else
/// to do takes longer.
pub(crate) fn patient(manifest: &str) -> String {
    manifest.replace("timeout = \"1s\"", "timeout = \"20s\"")
}

/// Holds an answer against the error that it must be.
pub(crate) fn check_error(
    answer: &Answer,
    status: u16,
    code: &str,
    limit: Option<&str>,
) -> Result<(), String> {
    if (answer.status.as_u16(), answer.code()) != (status, code) {
        return Err(format!("{} {} instead of {status} {code}", answer.status, answer.text()));
    }
    let json: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    // Errors of the inference protocol have no limit of their own, but name it in their text.
    let found = json["limit"]["name"].as_str().and_then(|name| name.strip_prefix("limits."));
    let named = |limit| answer.text().contains(&format!("limits.{limit}"));
    match limit {
        Some(limit) if found != Some(limit) && !(json["code"].is_null() && named(limit)) => {
            Err(format!("limit {found:?} instead of {limit}: {}", answer.text()))
        }
        _ => Ok(()),
    }
}

/// Waits until a function's log has this; it is written a moment after the response has ended.
pub(crate) async fn logged(server: &Server, function: &str, part: &str) -> Result<(), String> {
    let mut log = String::new();
    for _ in 0..500 {
        log = server.get(&format!("/v1/functions/{function}/logs?tail=200")).await.text();
        if log.contains(part) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log.truncate(2000);
    Err(format!("{part:?} is not in the log: {log}"))
}

/// The component of a guest in guests/.
pub(crate) fn component(guest: &str) -> Vec<u8> {
    let folder = root().join("target/guests/wasm32-wasip2/release/examples");
    let path = folder.join(format!("{guest}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make guests`", path.display()))
}

/// The manifest of a function that serves HTTP, with tight limits.
pub(crate) fn http_manifest(name: &str, rest: &str) -> String {
    format!("name = \"{name}\"\nkind = \"http\"\n[limits]\n{LIMITS}{rest}")
}

/// The manifest of an inference function from a vector to a vector, with tight limits.
pub(crate) fn inference_manifest(name: &str) -> String {
    let tensor = "name = \"x\"\ndtype = \"FP32\"\nshape = [-1]\n";
    patient(&format!(
        "name = \"{name}\"\nkind = \"inference\"\n[limits]\n{LIMITS}\
         [[inputs]]\n{tensor}[[outputs]]\n{tensor}"
    ))
}
