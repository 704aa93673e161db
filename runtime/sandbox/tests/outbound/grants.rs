//! What a manifest grants, and what is sent.

use crate::{
    function::{Host, allowing, granting},
    servers::{Server, channel, local, ok, read_head},
};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_granted_origin_gets_what_the_guest_sends_and_nothing_more() {
    let (seen, mut heads) = channel();
    let server = Server::start(local(), move |mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                seen.send(head).expect("is awaited");
                stream.write_all(ok("hello").as_bytes()).await.expect("is read");
            }
        }
    })
    .await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[server.origin()]));
    let line = guest.line(&format!("url={}/path?query", server.origin())).await;
    assert_eq!(line, "status 200 bytes 5 body hello");
    let head = heads.recv().await.expect("was sent");
    let expected = format!("GET /path?query HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(head, expected);
    assert_eq!(host.counter("quern_outbound_requests_total", Some("ok")), 1);
    assert_eq!(host.counter("quern_outbound_requests_total", None), 1);
    assert!(host.counter("quern_outbound_sent_bytes_total", None) >= 14);
    assert!(host.counter("quern_outbound_received_bytes_total", None) >= 5);
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_says_what_to_do() {
    let server = Server::answering(local(), ok("hello")).await;
    let port = server.address.port();
    let host = Host::new(allowing(&["127.0.0.0/8"]));
    let guest = host.function(&granting(&[server.origin()]));
    let denied = "error ErrorCode::HttpRequestDenied";
    let cases = [
        (format!("url=http://127.0.0.1:{}/", port ^ 1), denied),
        (format!("url=https://127.0.0.1:{port}/"), denied),
        (format!("url=http://127.0.0.2:{port}/"), denied),
        (format!("url=http://localhost:{port}/"), denied),
        (format!("url=http://127.0.0.1.:{port}/"), "status 200 bytes 5 body hello"),
        (format!("url=http://user@127.0.0.1:{port}/"), "error ErrorCode::HttpRequestUriInvalid"),
        (
            format!("tunnel=1&url=http://127.0.0.1:{port}/"),
            "error ErrorCode::HttpRequestMethodInvalid",
        ),
    ];
    for (query, expected) in &cases {
        assert_eq!(guest.line(query).await, *expected, "{query}");
    }
    assert_eq!(server.accepted(), 1);
    let none = host.function(&granting::<&str>(&[]));
    let outcome = none.fetch(&format!("url={}/", server.origin())).await;
    assert_eq!(outcome.lines, [denied]);
    let expected = format!(
        "outbound request refused: {} is not granted to this function: add it to grants.http in \
         its manifest\n",
        server.origin()
    );
    assert_eq!(outcome.log, expected);
    assert_eq!(host.counter("quern_outbound_requests_total", Some("denied")), 7);
}

#[tokio::test]
async fn the_guest_follows_redirects_and_each_request_is_checked_anew() {
    let target = Server::answering(local(), ok("target")).await;
    let port = target.address.port();
    let redirect =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 4\r\n\r\nhere");
    let granted = Server::answering(local(), redirect(&target.origin())).await;
    let ungranted = format!("http://127.0.0.1:{}", port ^ 1);
    let ungranted = Server::answering(local(), redirect(&ungranted)).await;
    // The same port on an address that the operator has not listed.
    let forbidden = format!("http://127.0.0.2:{port}");
    let _listening = Server::answering(([127, 0, 0, 2], port), ok("forbidden")).await;
    let forbidding = Server::answering(local(), redirect(&forbidden)).await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[
        target.origin(),
        granted.origin(),
        ungranted.origin(),
        forbidding.origin(),
        forbidden.clone(),
    ]));
    let cases = [
        ("follow=0", &granted, "status 302 bytes 4 body here"),
        ("follow=1", &granted, "status 200 bytes 6 body target"),
        ("follow=1", &ungranted, "error ErrorCode::HttpRequestDenied"),
        ("follow=1", &forbidding, "error ErrorCode::DestinationIpProhibited"),
    ];
    for (parameters, server, expected) in cases {
        let query = format!("{parameters}&url={}/", server.origin());
        assert_eq!(guest.line(&query).await, expected);
    }
}
