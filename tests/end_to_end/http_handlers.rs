//! Functions that serve HTTP through `wasi:http/handler` 0.3: the same promises as with 0.2.

use futures::{StreamExt, stream};
use reqwest::Method;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    HANDLER,
    support::{Server, answer, until},
};

#[tokio::test]
async fn the_request_reaches_the_handler_as_it_is() {
    let server = Server::start();
    server.deploy(&HANDLER).await;
    let request = server.request(Method::PUT, "/f/handler/request").header("x-own", "kept");
    let seen = answer(request).await.text();
    let authority = server.url().trim_start_matches("http://");
    for line in ["method Method::Put", "header x-own: kept", authority] {
        assert!(seen.contains(line), "{line} is not in {seen}");
    }
    for _ in 0..5 {
        assert_eq!(server.get("/f/handler/count").await.text(), "1\n");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_while_the_handler_runs() {
    let server = Server::start();
    server.deploy(&HANDLER).await;
    for path in ["/f/handler/echo", "/f/handler/pass"] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|part| (part, receiver))
        });
        let request = server.request(Method::POST, path).body(reqwest::Body::wrap_stream(body));
        let response = tokio::spawn(request.send());
        sender.send(Ok(b"ping".to_vec())).await.expect("is read");
        let mut chunks = response.await.expect("no panic").expect("a head").bytes_stream();
        assert_eq!(&chunks.next().await.expect("a chunk").expect("whole")[..], b"ping");
        sender.send(Ok(b"pong".to_vec())).await.expect("is read");
        drop(sender);
        assert_eq!(&chunks.next().await.expect("a chunk").expect("whole")[..], b"pong", "{path}");
        assert!(chunks.next().await.is_none());
    }
}

#[tokio::test]
async fn each_limit_ends_a_handler_with_its_own_error() {
    let server = Server::start();
    server.deploy(&HANDLER).await;
    let cases = [
        ("/loop", 504, "cpu-time-exceeded", "limits.cpu of 150ms"),
        ("/sleep?ms=60000", 504, "timeout", "limits.timeout of 2s"),
        ("/trap", 500, "trap", "unreachable"),
        ("/declare?bytes=8388609", 502, "response-too-large", "limits.response of 8.0 MiB"),
        ("/error", 500, "guest-error", "no flour"),
        ("/hoard?streams", 507, "too-many-handles", "limits.handles of 2048"),
        ("/hoard?futures", 507, "too-many-handles", "limits.handles of 2048"),
        ("/hoard?calls", 507, "too-many-handles", "limits.handles of 2048"),
    ];
    for (path, status, code, part) in cases {
        let answer = server.get(&format!("/f/handler{path}")).await;
        answer.assert_error(status, code, part);
        assert_eq!(server.get("/f/handler/count").await.text(), "1\n", "after {path}");
    }
    let body = vec![b'x'; (1 << 20) + 1];
    let refused = server.post("/f/handler/echo", body).await;
    refused.assert_error(413, "request-too-large", "1.0 MiB");
}

#[tokio::test]
async fn a_handlers_response_that_breaks_off_is_not_taken_for_a_whole_one() {
    let server = Server::start();
    server.deploy(&HANDLER).await;
    let whole = server.get("/f/handler/stream?chunks=8&bytes=1048576").await;
    assert_eq!(whole.body.len(), 8 << 20);
    for path in ["half", "leak", "five?bytes=6", "stream?chunks=9&bytes=1048576"] {
        let request = server.request(Method::GET, &format!("/f/handler/{path}"));
        let response = request.send().await.expect("a head");
        assert_eq!(response.status(), 200);
        assert!(response.bytes().await.is_err(), "{path} looked whole");
    }
    // Before any of its body, a failure is told as an error.
    for length in ["0", "4"] {
        let answer = server.get(&format!("/f/handler/five?bytes={length}")).await;
        answer.assert_error(500, "guest-error", &format!("the {length} B it declares"));
    }
    assert_eq!(server.get("/f/handler/five?bytes=5").await.text(), "hello");
}

#[tokio::test]
async fn a_handlers_tasks_may_go_on_once_the_response_is_delivered() {
    let server = Server::start();
    server.deploy(&HANDLER).await;
    assert_eq!(server.get("/f/handler/after").await.text(), "hello");
    until("the task is done", async || {
        server.get("/v1/functions/handler/logs").await.text().contains("done after")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_handler_with_it() {
    let server = Server::start();
    // Longer than anyone waits for it here.
    let manifest = HANDLER.manifest().replace("timeout = \"2s\"", "timeout = \"10m\"");
    let deployed = server.upload("handler", manifest, HANDLER.component()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    let sleeper = server.request(Method::GET, "/f/handler/sleep?ms=600000").send();
    tokio::select! {
        answer = sleeper => panic!("it does not sleep: {answer:?}"),
        () = until("it sleeps", async || server.metric("quern_sandbox_instances").await == 1.0) => {}
    }
    until("the guest goes", async || server.metric("quern_sandbox_instances").await == 0.0).await;
}

#[tokio::test]
async fn a_handlers_request_that_is_not_as_long_as_it_declares_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("is bound").port();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("quern-server.toml");
    std::fs::write(&file, "[outbound]\nprivate_networks = ['127.0.0.1/32']").expect("written");
    let server = Server::start_with(&["--config", file.to_str().expect("text")]);
    let grant = format!("\n[grants]\nhttp = ['http://127.0.0.1:{port}']\n");
    let manifest = HANDLER.manifest() + &grant;
    let deployed = server.upload("handler", manifest, HANDLER.component()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    // Takes whatever comes, and says nothing.
    let sink = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            taken.push(connection);
        }
    });
    // It sends five bytes. If there are more than declared, it is known how many.
    for (declared, bytes) in [(4, "Some(5)"), (6, "None")] {
        let outcome = server.get(&format!("/f/handler/upload?bytes={declared}&port={port}")).await;
        assert_eq!(outcome.text(), format!("error ErrorCode::HttpRequestBodySize({bytes})"));
    }
    until("the log says why", async || {
        let log = server.get("/v1/functions/handler/logs").await.text();
        log.matches("the request's body has another length than it declares").count() == 2
    })
    .await;
    sink.abort();
}
