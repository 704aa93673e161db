//! Requests of the server itself: sent by the rules for functions', once, and without reading more than
//! a little of what comes back.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use quern_sandbox::OutboundConfig;
use quern_types::{NotSent, Receipt};
use tokio::io::AsyncWriteExt;

use crate::{
    function::{Host, allowing},
    servers::{
        Answer, Nameserver, Server, channel, local, ok, read_head, read_rest, write_forever,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn post(host: &Host, url: &str, timeout: Duration) -> Result<Receipt, NotSent> {
    let request = Request::post(url).header("x-mine", "1").body(Bytes::from_static(b"flour"));
    host.courier().send(request.expect("a request"), timeout).await
}

fn answered(status: u16, retry_after: Option<u64>) -> Result<Receipt, NotSent> {
    let status = StatusCode::from_u16(status).expect("a status");
    Ok(Receipt { status, retry_after: retry_after.map(Duration::from_secs) })
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_its_answer_is_told() {
    let (seen, mut heads) = channel();
    let server = Server::start(local(), move |mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                let mut body = [0; 5];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.expect("a body");
                seen.send((head, body)).expect("is awaited");
                let answer = "HTTP/1.1 429 \r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno";
                stream.write_all(answer.as_bytes()).await.expect("is read");
            }
        }
    })
    .await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let url = format!("{}/hooks?key=a", server.origin());
    assert_eq!(post(&host, &url, PATIENCE).await, answered(429, Some(7)));
    let (head, body) = heads.recv().await.expect("is sent");
    assert!(head.starts_with("POST /hooks?key=a HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-mine: 1\r\n") && head.contains("content-length: 5\r\n"), "{head}");
    assert_eq!(&body, b"flour");
}

#[tokio::test]
async fn an_answer_may_ask_to_wait_until_a_date() {
    let answer = "HTTP/1.1 503 \r\ndate: Fri, 31 Dec 1999 23:59:29 GMT\r\nretry-after: Fri, 31 Dec \
                  1999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n";
    let server = Server::answering(local(), answer).await;
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    assert_eq!(post(&host, &server.origin(), PATIENCE).await, answered(503, Some(30)));
}

#[tokio::test]
async fn only_allowed_addresses_are_reached_whatever_names_them() {
    let server = Server::answering(local(), ok("hello")).await;
    let port = server.address.port();
    let names = Nameserver::start(|_| Answer::Addresses(vec![[127, 0, 0, 1].into()])).await;
    let closed = Host::new(OutboundConfig { nameservers: vec![names.address], ..allowing(&[]) });
    for (host, part) in [
        ("127.0.0.1", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("hooks.test", "loopback"),
        ("169.254.169.254", "link-local"),
        ("2130706433", "four decimal numbers"),
    ] {
        let refused = post(&closed, &format!("http://{host}:{port}/"), PATIENCE).await;
        let refused = refused.expect_err(host).to_string();
        assert!(refused.contains(part), "{host}: {refused}");
    }
    assert_eq!(server.accepted(), 0);
    let open = allowing(&["127.0.0.1/32"]);
    let open = Host::new(OutboundConfig { nameservers: vec![names.address], ..open });
    let url = format!("http://hooks.test:{port}/");
    assert_eq!(post(&open, &url, PATIENCE).await, answered(200, None));
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_long_answer_read() {
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let elsewhere = Server::answering(local(), ok("hello")).await;
    let answer = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.origin()
    );
    let server = Server::answering(local(), answer).await;
    assert_eq!(post(&host, &server.origin(), PATIENCE).await, answered(302, None));
    assert_eq!(elsewhere.accepted(), 0);
    let endless = Server::start(local(), async |mut stream| {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n";
        stream.write_all(head.as_bytes()).await.expect("is read");
        write_forever(&mut stream).await;
    })
    .await;
    assert_eq!(post(&host, &endless.origin(), PATIENCE).await, answered(200, None));
}

#[tokio::test]
async fn what_gets_no_answer_says_why() {
    let host = Host::new(allowing(&["127.0.0.1/32"]));
    let silent = Server::start(local(), async |mut stream| {
        read_rest(&mut stream).await;
    })
    .await;
    let late = post(&host, &silent.origin(), Duration::from_millis(50)).await;
    assert_eq!(late.expect_err("silence").to_string(), "there was no answer within 50ms");
    let listener = tokio::net::TcpListener::bind(local()).await.expect("a free port");
    let nowhere = format!("http://{}", listener.local_addr().expect("is bound"));
    drop(listener);
    let refused = post(&host, &nowhere, PATIENCE).await.expect_err("nobody listens");
    assert!(refused.to_string().contains("refused the connection"), "{refused}");
}
