//! Functions that serve HTTP: what reaches the guest, what comes back, and when.

use futures::{StreamExt, stream};
use reqwest::Method;

use crate::{
    DIGIT_READER, HELLO, MISBEHAVE,
    support::{Server, answer, until},
};

#[tokio::test]
async fn a_function_answers_with_its_version_and_invocation() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    for path in ["/f/hello", "/f/hello/", "/f/hello/any/path?and=query"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.text().trim()), (200, "hello"), "{path}");
        assert_eq!(answer.header("quern-version"), "1");
        assert_eq!(answer.header("quern-invocation").len(), 36);
    }
}

#[tokio::test]
async fn the_request_reaches_the_guest_as_it_is() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let request = server
        .request(Method::from_bytes(b"PROPFIND").expect("a method"), "/f/misbehave/request?a=%20b")
        .header("x-own", "kept")
        .header("te", "trailers")
        .header("connection", "x-hop")
        .header("x-hop", "not passed on");
    let seen = answer(request).await.text();
    assert!(seen.contains("PROPFIND"), "{seen}");
    assert!(seen.contains("path Some(\"/request?a=%20b\")"), "{seen}");
    assert!(seen.contains("header x-own: kept"), "{seen}");
    for hop in ["x-hop", "header te:", "header connection:"] {
        assert!(!seen.contains(hop), "{hop} in {seen}");
    }
}

#[tokio::test]
async fn a_guest_sees_nothing_of_the_host() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let seen = server.get("/f/misbehave/environment").await.text();
    assert!(seen.contains("variables 0\n") && seen.contains("directories 0\n"), "{seen}");
    assert!(seen.contains("file refused\n") && seen.contains("socket refused\n"), "{seen}");
    let authority = server.url().trim_start_matches("http://").to_owned();
    let outcome = server.get(&format!("/f/misbehave/connect?authority={authority}")).await.text();
    assert!(outcome.contains("HttpRequestDenied"), "{outcome}");
}

#[tokio::test]
async fn every_request_has_an_instance_of_its_own() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    for _ in 0..20 {
        assert_eq!(server.get("/f/misbehave/count").await.text(), "1\n");
    }
}

#[tokio::test]
async fn the_request_streams_while_it_is_sent() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let request =
        server.request(Method::POST, "/f/misbehave/echo").body(reqwest::Body::wrap_stream(body));
    let response = tokio::spawn(request.send());
    sender.send(Ok(b"ping".to_vec())).await.expect("is read");
    let mut chunks = response.await.expect("no panic").expect("a head").bytes_stream();
    assert_eq!(&chunks.next().await.expect("a chunk").expect("whole")[..], b"ping");
    sender.send(Ok(b"pong".to_vec())).await.expect("is read");
    drop(sender);
    assert_eq!(&chunks.next().await.expect("a chunk").expect("whole")[..], b"pong");
    assert!(chunks.next().await.is_none());
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_taken_for_a_whole_one() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    for path in
        ["half", "half?then=loop", "short", "leak"].map(|path| format!("/f/misbehave/{path}"))
    {
        let response = server.request(Method::GET, &path).send().await.expect("a head");
        assert_eq!(response.status(), 200);
        let body = response.bytes().await;
        assert!(body.is_err(), "{path} looked whole: {body:?}");
    }
    assert_eq!(server.get("/f/misbehave/count").await.text(), "1\n");
}

#[tokio::test]
async fn a_response_that_fails_before_its_body_begins_is_an_error() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let declares = |length: &str| format!("/f/misbehave/short?declared={length}");
    for length in ["0", "2"] {
        let answer = server.get(&declares(length)).await;
        answer.assert_error(500, "guest-error", &format!("the {length} B it declares"));
    }
    assert_eq!(server.get(&declares("3")).await.text(), "abc");
    let head = server.request(Method::HEAD, &declares("10")).send().await.expect("a head");
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], "10");
    let slow = server.request(Method::GET, "/f/misbehave/stall").send().await.expect("a head");
    assert_eq!(slow.status(), 200, "the head does not wait for a body that is slow");
}

#[tokio::test]
async fn a_guest_may_go_on_once_its_response_is_delivered() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    for query in ["length=0", "length=1", "status=204"] {
        let answer = server.get(&format!("/f/misbehave/after?{query}")).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        let done = format!("done after {query}");
        until(&done, async || {
            server.get("/v1/functions/misbehave/logs").await.text().contains(&done)
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_guest_prints_is_in_its_log_and_a_traps_stack_too() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let printed = server.get("/f/misbehave/print?lines=2&width=3").await;
    let invocation = printed.header("quern-invocation").to_owned();
    let trapped = server.get("/f/misbehave/trap").await;
    trapped.assert_error(500, "trap", "trap");
    let of = |records: &[serde_json::Value], id: &str, stream: &str| -> String {
        let matches =
            |record: &&serde_json::Value| record["invocation"] == id && record["stream"] == stream;
        records.iter().filter(matches).filter_map(|record| record["text"].as_str()).collect()
    };
    let mut records = Vec::<serde_json::Value>::new();
    until("both are logged", async || {
        let text = server.get("/v1/functions/misbehave/logs").await.text();
        records = text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        // Each request is logged when its guest has ended, which may be after the next one's.
        records.iter().any(|record| record["stream"] == "system")
            && records.iter().any(|record| record["invocation"] == *invocation)
    })
    .await;
    assert_eq!(of(&records, &invocation, "stdout"), "0 xxx\n1 xxx");
    assert_eq!(of(&records, &invocation, "stderr"), "last words");
    let trap = trapped.header("quern-invocation");
    assert!(of(&records, trap, "stderr").contains("the millstone cracked"), "{records:?}");
    assert!(of(&records, trap, "system").contains("misbehave.wasm!"), "{records:?}");
}

#[tokio::test]
async fn a_png_of_a_digit_is_read() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGIT_READER).await;
    let refused = server.post("/f/digit-reader/", "no picture").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let blank = png(8, 8, &[0; 64]);
    let answer = server.post("/f/digit-reader/", blank).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let probabilities = json["probabilities"].as_array().expect("a list");
    let sum: f64 = probabilities.iter().filter_map(serde_json::Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{json}");
}

pub(crate) fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(pixels).expect("pixels");
    writer.finish().expect("an end");
    file
}
