//! Limits of outbound requests, connections that are used again, and what the end of an invocation
//! leaves behind: nothing.

use std::{sync::Arc, time::Duration};

use quern_sandbox::OutboundConfig;
use quern_types::{ByteSize, Period, Reuse};
use tokio::{io::AsyncWriteExt, sync::Barrier};

use crate::{
    function::{Host, allowing, granting},
    servers::{Server, channel, local, ok, read_head, read_rest, write_forever},
};

fn host() -> Host {
    Host::new(allowing(&["127.0.0.1/32"]))
}

#[tokio::test]
async fn connections_are_limited_and_come_back() {
    // Answers once two requests are there: both are under way when the third one is begun.
    let barrier = Arc::new(Barrier::new(2));
    let server = Server::start(local(), move |mut stream| {
        let barrier = barrier.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                barrier.wait().await;
                stream.write_all(ok("hello").as_bytes()).await.expect("is read");
            }
        }
    })
    .await;
    let host = host();
    let mut spec = granting(&[server.origin()]);
    spec.limits.connections = 2;
    let guest = host.function(&spec);
    let query = format!("times=2&together=3&url={}/", server.origin());
    let outcome = guest.fetch(&query).await;
    let hello = "status 200 bytes 5 body hello";
    let limit = "error ErrorCode::ConnectionLimitReached";
    assert_eq!(outcome.lines, [hello, hello, limit, hello, hello, limit]);
    assert!(outcome.log.contains("limits.connections (2)"), "{}", outcome.log);
    let again = guest.fetch(&format!("together=2&url={}/", server.origin())).await;
    assert_eq!(again.lines, [hello, hello]);
    assert_eq!(host.counter("quern_outbound_requests_total", Some("limit")), 2);
}

#[tokio::test]
async fn an_instance_that_keeps_a_response_is_not_reused() {
    let server = Server::answering(local(), ok("hello")).await;
    for (query, reused) in [("", 1), ("keep=1&", 0)] {
        let host = host();
        let mut spec = granting(&[server.origin()]);
        spec.reuse = Some(Reuse { requests: 10, idle: Period::from_millis(60_000) });
        let guest = host.function(&spec);
        for _ in 0..2 {
            let line = guest.line(&format!("{query}url={}/", server.origin())).await;
            assert!(line.starts_with("status 200"), "{line}");
        }
        assert_eq!(host.counter("quern_sandbox_reused_requests_total", None), reused, "{query}");
    }
}

#[tokio::test]
async fn what_an_invocation_sends_and_receives_is_limited() {
    let endless = Server::start(local(), async |mut stream| {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        stream.write_all(head).await.expect("is read");
        write_forever(&mut stream).await;
    })
    .await;
    let sink = Server::start(local(), async |mut stream| drop(read_rest(&mut stream).await)).await;
    let whole = Server::answering(local(), ok(&"x".repeat(40_000))).await;
    let host = host();
    let mut spec = granting(&[endless.origin(), sink.origin(), whole.origin()]);
    spec.limits.outbound = ByteSize(100_000);
    let guest = host.function(&spec);
    let outcome = guest.fetch(&format!("url={}/", endless.origin())).await;
    let expected =
        "status 200 broke off: HTTP response body size exceeds limit: 100000 bytes".to_owned();
    assert_eq!(outcome.lines, [expected]);
    assert!(outcome.log.contains("limits.outbound (97.7 KiB)"), "{}", outcome.log);
    let sent = guest.line(&format!("send=200000&url={}/", sink.origin())).await;
    assert_eq!(sent, "error ErrorCode::HttpRequestBodySize(Some(100000))");
    let outcome = guest.fetch(&format!("times=3&url={}/", whole.origin())).await;
    let [first, second, third] = &outcome.lines[..] else { panic!("{outcome:?}") };
    assert!(first.starts_with("status 200 bytes 40000"), "{first}");
    assert!(second.starts_with("status 200 bytes 40000"), "{second}");
    assert!(third.contains("broke off"), "{third}");
    let again = guest.line(&format!("url={}/", whole.origin())).await;
    assert!(again.starts_with("status 200 bytes 40000"), "each invocation has its own: {again}");
    assert_eq!(host.counter("quern_outbound_requests_total", Some("limit")), 3);
}

#[tokio::test]
async fn heads_count_and_are_limited_themselves() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(2_000));
    let long = Server::answering(local(), long).await;
    let endless = Server::start(local(), async |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.expect("is read");
        write_forever(&mut stream).await;
    })
    .await;
    let host = host();
    let mut spec = granting(&[long.origin(), endless.origin()]);
    let guest = host.function(&spec);
    assert_eq!(guest.line(&format!("url={}/", long.origin())).await, "status 200 bytes 0 body ");
    let line = guest.line(&format!("url={}/", endless.origin())).await;
    assert_eq!(line, "error ErrorCode::HttpResponseHeaderSectionSize(Some(65536))");
    spec.limits.outbound = ByteSize(1_000);
    let guest = host.function(&spec);
    let line = guest.line(&format!("url={}/", long.origin())).await;
    assert_eq!(line, "error ErrorCode::HttpResponseHeaderSectionSize(Some(1000))");
    let line = guest.line(&format!("url={}/{}", long.origin(), "x".repeat(1_000))).await;
    assert_eq!(line, "error ErrorCode::HttpRequestHeaderSectionSize(Some(1000))");
}

#[tokio::test]
async fn connections_are_used_again_by_the_same_function_alone() {
    let server = Server::answering(local(), ok("hello")).await;
    let host = host();
    let spec = granting(&[server.origin()]);
    let guest = host.function(&spec);
    let query = format!("times=3&url={}/", server.origin());
    assert_eq!(guest.fetch(&query).await.lines.len(), 3);
    assert_eq!(guest.fetch(&query).await.lines.len(), 3);
    assert_eq!(server.accepted(), 1);
    let other = host.function(&spec);
    assert_eq!(other.fetch(&query).await.lines.len(), 3);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn idle_connections_are_dropped_in_time_and_with_their_function() {
    let (left, mut lefts) = channel();
    let server = Server::start(local(), move |mut stream| {
        let left = left.clone();
        async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(ok("hello").as_bytes()).await.expect("is read");
            }
            left.send(()).expect("is awaited");
        }
    })
    .await;
    let short = Duration::from_millis(50);
    let allowing = allowing(&["127.0.0.1/32"]);
    let hasty = Host::new(OutboundConfig { idle_timeout: short, ..allowing.clone() });
    let spec = granting(&[server.origin()]);
    let query = format!("url={}/", server.origin());
    let guest = hasty.function(&spec);
    assert_eq!(guest.line(&query).await, "status 200 bytes 5 body hello");
    lefts.recv().await.expect("the connection is dropped while the function stays");
    let patient = Host::new(allowing);
    let guest = patient.function(&spec);
    assert_eq!(guest.line(&query).await, "status 200 bytes 5 body hello");
    assert!(lefts.try_recv().is_err(), "the connection is kept");
    drop(guest);
    lefts.recv().await.expect("the connection goes with its function");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_a_function_may_have() {
    let (left, mut lefts) = channel();
    let mut servers = Vec::new();
    for name in ["first", "second"] {
        let left = left.clone();
        let server = Server::start(local(), move |mut stream| {
            let left = left.clone();
            async move {
                while read_head(&mut stream).await.is_some() {
                    stream.write_all(ok(name).as_bytes()).await.expect("is read");
                }
                left.send(name).expect("is awaited");
            }
        });
        servers.push(server.await);
    }
    let host = host();
    let mut spec = granting(&[servers[0].origin(), servers[1].origin()]);
    spec.limits.connections = 1;
    let guest = host.function(&spec);
    for (server, body) in servers.iter().zip(["5 body first", "6 body second"]) {
        let line = guest.line(&format!("url={}/", server.origin())).await;
        assert_eq!(line, format!("status 200 bytes {body}"));
    }
    assert_eq!(lefts.recv().await, Some("second"), "only one connection is kept");
    assert!(lefts.try_recv().is_err());
}

#[tokio::test]
async fn a_guest_that_fails_does_not_finish_its_request() {
    let (seen, mut bodies) = channel();
    let server = Server::start(local(), move |mut stream| {
        let seen = seen.clone();
        async move {
            read_head(&mut stream).await;
            let body = read_rest(&mut stream).await;
            seen.send(body).expect("is awaited");
        }
    })
    .await;
    let whole = Server::answering(local(), ok("hello")).await;
    let host = host();
    let mut spec = granting(&[server.origin(), whole.origin()]);
    spec.limits.connections = 1;
    let guest = host.function(&spec);
    let outcome = guest.fetch(&format!("send=20000&abandon=1&url={}/", server.origin())).await;
    assert!(outcome.failed, "{outcome:?}");
    let body = bodies.recv().await.expect("the connection is closed");
    assert!(!body.ends_with(b"0\r\n\r\n"), "a part must not look like the whole");
    assert_free(&guest, &whole).await;
    assert_eq!(host.counter("quern_outbound_requests_total", Some("cancelled")), 1);
}

#[tokio::test]
async fn the_end_of_an_invocation_ends_its_requests() {
    let (left, mut lefts) = channel();
    let silent = Server::start(local(), move |mut stream| {
        let left = left.clone();
        async move {
            read_head(&mut stream).await;
            read_rest(&mut stream).await;
            left.send(()).expect("is awaited");
        }
    })
    .await;
    let whole = Server::answering(local(), ok("hello")).await;
    let host = host();
    let mut spec = granting(&[silent.origin(), whole.origin()]);
    spec.limits.connections = 1;
    let guest = host.function(&spec);
    let query = format!("url={}/", silent.origin());
    let outcome = guest.fetch_within(Duration::from_millis(200), &query).await;
    assert!(outcome.failed, "its time is up: {outcome:?}");
    lefts.recv().await.expect("the connection is closed");
    assert_free(&guest, &whole).await;
}

/// Asserts that the only permit comes back: what held it may take a moment to go.
async fn assert_free(guest: &crate::function::Guest, server: &Server) {
    let query = format!("url={}/", server.origin());
    let freed = async {
        while guest.line(&query).await != "status 200 bytes 5 body hello" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the permit comes back");
}
