//! Asynchronous calls on a real server: answered at once, carried out later, tried again, given up,
//! kept, and never lost.

mod calls;
mod kills;
mod receiver;
mod retries;
mod schedules;
mod shares;
mod webhooks;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::{Answer, Server, answer, until};

/// A server whose pauses between tries are short.
fn hasty() -> Server {
    configured("first_pause = '20ms'\nlongest_pause = '50ms'")
}

/// A server with these options for asynchronous calls.
fn configured(options: &str) -> Server {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("[async]\n{options}\n")).expect("written");
    let path = file.path().display().to_string();
    // It is read before the server says where it listens.
    Server::start_with(&["--config", &path])
}

fn asynchronous(server: &Server, method: Method, path: &str) -> RequestBuilder {
    server.request(method, path).header("prefer", "respond-async")
}

/// Has a request carried out later; its invocation.
async fn accepted(request: RequestBuilder) -> String {
    let accepted = answer(request).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["id"].as_str().expect("an id").to_owned()
}

async fn show(server: &Server, id: &str) -> Value {
    let shown = server.get(&format!("/v1/invocations/{id}")).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    shown.json()
}

async fn result(server: &Server, id: &str) -> Answer {
    server.get(&format!("/v1/invocations/{id}/result")).await
}

/// Waits until a call is in a state.
async fn until_it_is(server: &Server, id: &str, state: &str) -> Value {
    until(&format!("{id} is {state}"), async || show(server, id).await["state"] == state).await;
    show(server, id).await
}
