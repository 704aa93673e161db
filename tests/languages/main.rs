//! Functions that aren't Rust, from source to answer on the real binary: nothing may depend on the
//! guest library. Built by `make javascript`, which needs node and npm; `make test-all` runs it.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

use std::time::Instant;

use support::{Server, root};

/// Whether this takes place; says so if it doesn't.
fn runs() -> bool {
    let runs = std::env::var_os("QUERN_LONG_TESTS").is_some();
    if !runs {
        eprintln!("SKIPPED: `make test-all` runs this, and builds the functions for it");
    }
    runs
}

#[tokio::test]
async fn javascript_answers_and_keeps_to_its_limits() {
    if !runs() {
        return;
    }
    let path = root().join("target/javascript/hello-js.wasm");
    let component = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make javascript`", path.display()));
    let manifest = std::fs::read_to_string(root().join("functions/hello-js/quern.toml"));
    let manifest = manifest.expect("is committed");
    let server = Server::start();
    let start = Instant::now();
    let deployed = server.upload("hello-js", manifest, component).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    eprintln!("deployed in {:?}: {}", start.elapsed(), deployed.text());

    for _ in 0..3 {
        let start = Instant::now();
        let answer = server.get("/f/hello-js/").await;
        eprintln!("answered in {:?}", start.elapsed());
        assert_eq!((answer.status.as_u16(), &*answer.text()), (200, "hello from JavaScript\n"));
    }
    assert_eq!(server.post("/f/hello-js/echo", "ping").await.text(), "ping");
    // The engine begins a response for a handler that throws, and never ends it. What was thrown is
    // in the function's log.
    let throw = server.get("/f/hello-js/throw").await;
    throw.assert_error(502, "no-response", "without a response");
    server.get("/f/hello-js/loop").await.assert_error(504, "cpu-time-exceeded", "limits.cpu");
    server.get("/f/hello-js/grow").await.assert_error(507, "out-of-memory", "limits.memory");
    assert_eq!(server.get("/f/hello-js/").await.status, 200, "after all that");
    let log = server.get("/v1/functions/hello-js/logs").await.text();
    assert!(log.contains("the millstone cracked"), "{log}");
    server.stop();
}
