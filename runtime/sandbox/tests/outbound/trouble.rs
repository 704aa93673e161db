//! Servers that are absent, slow, or don't keep to HTTP: each gets its own error.

use std::time::Duration;

use quern_sandbox::OutboundConfig;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::{
    function::{Host, allowing, granting},
    servers::{Server, local, ok, read_head, read_rest},
};

/// A server that answers with these bytes and closes the connection.
async fn closing(answer: &'static str) -> Server {
    Server::start(local(), async move |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.expect("is read");
    })
    .await
}

/// A server that answers with these bytes and says nothing more.
async fn stalling(answer: &'static str) -> Server {
    Server::start(local(), async move |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.expect("is read");
        read_rest(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_port_on_which_nobody_listens_refuses_the_connection() {
    let listener = TcpListener::bind(local()).await.expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("is bound"));
    drop(listener);
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[&origin]));
    let line = guest.line(&format!("url={origin}/")).await;
    assert_eq!(line, "error ErrorCode::ConnectionRefused");
    assert_eq!(host.counter("quern_outbound_requests_total", Some("connect")), 1);
}

#[tokio::test]
async fn an_address_that_can_not_be_connected_to_says_why() {
    let host = Host::new(allowing(&["127.0.0.0/8", "fe80::/10"]));
    let cases = [
        // The broadcast address of the loopback network, which takes no connections.
        ("127.255.255.255", "error ErrorCode::DestinationIpUnroutable", "there is no way to"),
        // An address of one link, and none is named.
        ("[fe80::1]", "error ErrorCode::DestinationUnavailable", "can't be connected to"),
    ];
    for (address, expected, reason) in cases {
        let origin = format!("http://{address}:8080");
        let guest = host.function(&granting(&[&origin]));
        let outcome = guest.fetch(&format!("url={origin}/")).await;
        assert_eq!(outcome.lines, [expected], "{address}");
        assert!(outcome.log.contains(reason), "{}", outcome.log);
    }
    assert_eq!(host.counter("quern_outbound_requests_total", Some("connect")), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_resets_is_an_error() {
    let server = Server::start(local(), async |mut stream| {
        read_head(&mut stream).await;
        stream.set_zero_linger().expect("an open socket");
    })
    .await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[server.origin()]));
    let outcome = guest.fetch(&format!("url={}/", server.origin())).await;
    assert_eq!(outcome.lines, ["error ErrorCode::ConnectionTerminated"]);
    assert!(outcome.log.contains("the connection was closed"), "{}", outcome.log);
    assert_eq!(host.counter("quern_outbound_requests_total", Some("broken")), 1);
}

#[tokio::test]
async fn a_request_that_is_shorter_than_it_declares_is_an_error() {
    let server =
        Server::start(local(), async |mut stream| drop(read_rest(&mut stream).await)).await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[server.origin()]));
    let outcome = guest.fetch(&format!("send=100&declare=101&url={}/", server.origin())).await;
    assert_eq!(outcome.lines, ["error ErrorCode::HttpProtocolError"]);
    assert!(outcome.log.contains("gave up on the request's body"), "{}", outcome.log);
    assert_eq!(host.counter("quern_outbound_requests_total", Some("cancelled")), 1);
}

#[tokio::test]
async fn a_response_that_is_cut_off_is_an_error() {
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let cut = "status 200 broke off: incomplete HTTP response";
    let cases = [
        ("", "error ErrorCode::HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\nx", "error ErrorCode::HttpResponseIncomplete"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", cut),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "error ErrorCode::HttpProtocolError"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            "error ErrorCode::HttpProtocolError",
        ),
    ];
    for (answer, expected) in cases {
        let server = closing(answer).await;
        let guest = host.function(&granting(&[server.origin()]));
        let line = guest.line(&format!("url={}/", server.origin())).await;
        assert_eq!(line, expected, "{answer:?}");
    }
    let broken = host.counter("quern_outbound_requests_total", Some("broken"));
    assert_eq!(broken, 6);
}

#[tokio::test]
async fn a_silent_server_is_waited_for_as_long_as_guest_and_operator_allow() {
    let part = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    let no_head = "error ErrorCode::ConnectionReadTimeout";
    let no_body = "status 200 broke off: connection read timeout";
    let hasty = Duration::from_millis(50);
    let long = Duration::from_secs(60);
    // The guest's timeout, the operator's, the response and the outcome.
    let cases = [
        ("first=50", long, "", no_head),
        ("first=60000", hasty, "", no_head),
        ("between=50", long, part, no_body),
        ("between=60000", hasty, part, no_body),
    ];
    for (parameters, head_timeout, answer, expected) in cases {
        let server = stalling(answer).await;
        let host = Host::new(OutboundConfig { head_timeout, ..allowing(&["127.0.0.1/32"]) });
        let guest = host.function(&granting(&[server.origin()]));
        let line = guest.line(&format!("{parameters}&url={}/", server.origin())).await;
        assert_eq!(line, expected, "{parameters} {head_timeout:?}");
        assert_eq!(host.counter("quern_outbound_requests_total", Some("timeout")), 1);
    }
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    // Nobody accepts, and the queue is full: further connections get no answer.
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    listener.bind(local()).expect("a free port");
    let listener = listener.listen(1).expect("listens");
    let address = listener.local_addr().expect("is bound");
    let mut queued = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(connection) =
        tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
    {
        queued.push(connection.expect("is queued"));
    }
    let origin = format!("http://{address}");
    let hasty = Duration::from_millis(200);
    for (parameters, connect_timeout) in [("connect=50", Duration::from_secs(60)), ("", hasty)] {
        let host = Host::new(OutboundConfig { connect_timeout, ..allowing(&["127.0.0.1/32"]) });
        let guest = host.function(&granting(&[&origin]));
        let line = guest.line(&format!("{parameters}&url={origin}/")).await;
        assert_eq!(line, "error ErrorCode::ConnectionTimeout");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closes_is_made_anew() {
    let server = Server::start(local(), async |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(ok("hello").as_bytes()).await.expect("is read");
    })
    .await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let guest = host.function(&granting(&[server.origin()]));
    for _ in 0..3 {
        let line = guest.line(&format!("url={}/", server.origin())).await;
        assert_eq!(line, "status 200 bytes 5 body hello");
    }
    assert_eq!(server.accepted(), 3);
}
