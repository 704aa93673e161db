//! Answers that stream, over HTTP/1.1 and HTTP/2, from guests of wasi:http 0.2 and 0.3: a client
//! has an event before the next one is made, one that stops reading stops its guest, and one that
//! leaves ends it.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{channel::mpsc, future::join_all};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tempfile::TempDir;

use crate::{
    EVENTS, HANDLER, STREAM_TOKENS,
    support::{Guest, Server, root, until},
};

/// With the guest library by wasi:http 0.2, and without it by 0.3; both know the same paths.
const GUESTS: [&Guest; 2] = [&EVENTS, &HANDLER];
const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
/// More than the sockets of both ends hold.
const LARGE_BYTES: usize = 128 << 20;
const EVENT_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A client that speaks one protocol, by a connection of its own.
struct Reader<'s> {
    server: &'s Server,
    client: Client<HttpConnector, Body>,
}

impl<'s> Reader<'s> {
    fn new(server: &'s Server, protocol: Protocol) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.http2_only(protocol == Protocol::Http2).build_http();
        Self { server, client }
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server.url()))
            .header(header::ACCEPT_ENCODING, "gzip, deflate")
            .body(body)
            .expect("a request");
        let response = self.client.request(request).await.expect("a head");
        assert_eq!(response.status(), 200, "{path}");
        response
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.send("GET", path, Empty::new().boxed_unsync()).await
    }
}

/// The events of a response, read as receivers do (WHATWG HTML, section 9.2.6).
struct Events {
    body: Incoming,
    unread: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: String,
}

impl Events {
    fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), unread: String::new() }
    }

    /// The next event; none at the end.
    async fn next(&mut self) -> Result<Option<Event>, hyper::Error> {
        loop {
            if let Some((text, rest)) = self.unread.split_once("\n\n") {
                let event = Event::parse(text);
                self.unread = rest.to_owned();
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                assert_eq!(self.unread, "", "a part of an event");
                return Ok(None);
            };
            let bytes = frame?.into_data().expect("no trailers");
            self.unread += std::str::from_utf8(&bytes).expect("text");
        }
    }

    /// The id of the next event, which there must be.
    async fn next_id(&mut self) -> String {
        self.next().await.expect("it goes on").expect("another event").id
    }
}

impl Event {
    fn parse(text: &str) -> Self {
        let mut event = Self::default();
        let mut lines = Vec::new();
        for line in text.lines() {
            let (field, value) = line.split_once(": ").expect("a field");
            match field {
                "event" => event.name = value.to_owned(),
                "id" => event.id = value.to_owned(),
                "data" => lines.push(value),
                _ => panic!("what is {line:?}?"),
            }
        }
        event.data = lines.join("\n");
        event
    }
}

/// Starts a server with these guests, each with these limits.
async fn start(guests: &[&Guest], config: &str, limits: &str) -> Server {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("quern-server.toml");
    std::fs::write(&file, config).expect("written");
    let server = Server::start_with(&["--config", file.to_str().expect("text")]);
    for guest in guests {
        let name = guest.name;
        let manifest = format!("name = \"{name}\"\nkind = \"http\"\n[limits]\n{limits}\n");
        let deployed = server.upload(name, manifest, guest.component()).await;
        assert!(deployed.status.is_success(), "{}", deployed.text());
    }
    server
}

/// Waits until so many requests of a function have ended, each of which must have ended so.
async fn wait_for_ends(server: &Server, guest: &Guest, count: u32, outcome: &str) {
    let mut ends = Vec::new();
    until(&format!("{count} requests of {} end", guest.name), async || {
        let metrics = server.get("/metrics").await.text();
        ends = ["ok", "failed", "cancelled"]
            .map(|outcome| (outcome, ended(&metrics, guest, outcome)))
            .to_vec();
        ends.iter().map(|(_, count)| count).sum::<u32>() == count
    })
    .await;
    assert!(ends.contains(&(outcome, count)), "{} ended so: {ends:?}", guest.name);
}

/// How many requests of a function have ended so.
fn ended(metrics: &str, guest: &Guest, outcome: &str) -> u32 {
    let labels = format!("function=\"{}\",outcome=\"{outcome}\",tenant=\"default\"", guest.name);
    let series = format!("quern_function_requests_total{{{labels}}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
    count.map_or(0, |count| count.parse().expect("a number"))
}

/// The bytes that the server has passed on, once they become no more although it does other work.
async fn settled_bytes(server: &Server) -> f64 {
    let mut bytes = -1.0;
    until("the stream comes to rest", async || {
        for _ in 0..50 {
            assert_eq!(server.get("/healthz").await.status, 200);
        }
        let now = server.metric("quern_sandbox_response_bytes_total").await;
        let before = std::mem::replace(&mut bytes, now);
        now > 0.0 && now == before
    })
    .await;
    bytes
}

/// What `/numbered` sends.
fn numbered(count: usize, bytes: usize) -> Vec<u8> {
    let padding = "q".repeat(bytes);
    (0..count).map(|number| format!("id: {number}\ndata: {padding}\n\n")).collect::<String>().into()
}

#[tokio::test]
async fn the_client_has_an_event_before_the_guest_can_make_the_next() {
    let server = start(&GUESTS, "", "").await;
    for protocol in PROTOCOLS {
        for guest in GUESTS {
            let reader = Reader::new(&server, protocol);
            let (pieces, body) = mpsc::unbounded();
            let body = StreamBody::new(body).boxed_unsync();
            let response = reader.send("POST", &format!("/f/{}/paced", guest.name), body).await;
            let mut events = Events::of(response);
            for number in 0..4 {
                // Each piece is sent because the event before it has arrived.
                assert_eq!(events.next_id().await, number.to_string(), "{protocol:?}");
                let piece = Ok(Frame::data(Bytes::from_static(b"go on")));
                pieces.unbounded_send(piece).expect("is read");
            }
            assert_eq!(events.next_id().await, "4");
            drop(pieces);
            assert_eq!(events.next().await.expect("a whole body"), None);
        }
    }
}

#[tokio::test]
async fn nothing_between_guest_and_client_is_told_to_hold_events_back() {
    let server = start(&[&EVENTS], "", "").await;
    for protocol in PROTOCOLS {
        let response = Reader::new(&server, protocol).get("/f/events/numbered?count=3").await;
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        let value = |name: &str| response.headers().get(name).map(text);
        let framing = (protocol == Protocol::Http1).then_some("chunked");
        for (name, expected) in [
            ("content-type", Some("text/event-stream")),
            ("cache-control", Some("no-store")),
            ("x-accel-buffering", Some("no")),
            ("content-length", None),
            ("content-encoding", None),
            ("transfer-encoding", framing),
        ] {
            assert_eq!(value(name).as_deref(), expected, "{name}, {protocol:?}");
        }
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(body, numbered(3, 8));
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_the_guest() {
    let limits = "response = '256MiB'\ncpu = '1m'\ntimeout = '10m'";
    let count = LARGE_BYTES / EVENT_BYTES;
    let expected = numbered(count, EVENT_BYTES);
    for protocol in PROTOCOLS {
        for guest in GUESTS {
            let server = start(&[guest], "[http]\nwrite_stall = '10m'", limits).await;
            let resident = server.metric("process_resident_memory_bytes").await;
            let path = format!("/f/{}/numbered?count={count}&bytes={EVENT_BYTES}", guest.name);
            let response = Reader::new(&server, protocol).get(&path).await;

            let most = (LARGE_BYTES / 2) as f64;
            let sent = settled_bytes(&server).await;
            assert!(sent < most, "{sent} bytes were sent to {protocol:?}");
            assert_eq!(server.metric("quern_function_requests_total").await, 0.0, "it goes on");
            let grown = server.metric("process_resident_memory_bytes").await - resident;
            assert!(grown < most, "{grown} bytes more are held for {protocol:?}");

            let body = response.into_body().collect().await.expect("whole").to_bytes();
            assert!(body == expected, "{} bytes differ, {protocol:?}", body.len());
            wait_for_ends(&server, guest, 1, "ok").await;
        }
    }
}

#[tokio::test]
async fn clients_that_leave_end_their_guests_and_free_their_instances() {
    const CLIENTS: u32 = 8;
    for protocol in PROTOCOLS {
        let limits = format!("concurrency = {CLIENTS}\nresponse = '1GiB'\ntimeout = '10m'");
        let server = start(&GUESTS, "", &limits).await;
        for guest in GUESTS {
            let path = format!("/f/{}/numbered?bytes={EVENT_BYTES}", guest.name);
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                let reader = Reader::new(&server, protocol);
                let mut events = Events::of(reader.get(&path).await);
                for number in 0..3 {
                    assert_eq!(events.next_id().await, number.to_string(), "{protocol:?}");
                }
                clients.push((reader, events));
            }
            let (_readers, streams): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
            // By HTTP/2 the connections stay, and their streams alone go.
            drop(streams);
            wait_for_ends(&server, guest, CLIENTS, "cancelled").await;
            until("their instances go", async || {
                server.metric("quern_sandbox_instances").await == 0.0
            })
            .await;
            let path = format!("/f/{}/numbered?count=1", guest.name);
            let places = (0..CLIENTS).map(|_| {
                until("their places are free", async || server.get(&path).await.status == 200)
            });
            join_all(places).await;
        }
    }
}

#[tokio::test]
async fn a_stream_breaks_off_when_the_time_of_its_request_is_up() {
    let server = start(&GUESTS, "", "timeout = '2s'").await;
    for guest in GUESTS {
        let path = format!("/f/{}/numbered?ms=50", guest.name);
        let mut events = Events::of(Reader::new(&server, Protocol::Http1).get(&path).await);
        assert_eq!(events.next_id().await, "0");
        while let Ok(event) = events.next().await {
            assert_ne!(event, None, "a part looks like the whole");
        }
        until("the log says why", async || {
            let log = server.get(&format!("/v1/functions/{}/logs", guest.name)).await.text();
            log.contains("limits.timeout of 2s")
        })
        .await;
        wait_for_ends(&server, guest, 1, "failed").await;
    }
}

#[tokio::test]
async fn a_client_that_stalls_loses_its_connection_or_its_request() {
    // By HTTP/1.1 the connection stands still; by HTTP/2 only the stream does.
    let limits = "response = '256MiB'\ncpu = '1m'\ntimeout = '10m'";
    for protocol in PROTOCOLS {
        let server = start(&GUESTS, "[http]\nwrite_stall = '1s'", limits).await;
        for guest in GUESTS {
            let path = format!("/f/{}/numbered?bytes={EVENT_BYTES}", guest.name);
            let response = Reader::new(&server, protocol).get(&path).await;
            wait_for_ends(&server, guest, 1, "cancelled").await;
            assert!(response.into_body().collect().await.is_err(), "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn a_model_is_called_for_each_token_that_the_client_gets() {
    let server = Server::start();
    let model = root().join("functions/next-letter/next-letter.onnx");
    let deployed =
        server.put("/v1/models/next-letter", std::fs::read(model).expect("a file")).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    server.deploy(&STREAM_TOKENS).await;
    let reader = Reader::new(&server, Protocol::Http1);

    let mut texts = Vec::new();
    for _ in 0..2 {
        let path = "/f/stream-tokens/?prompt=the+miller&tokens=60&seed=7";
        let mut events = Events::of(reader.get(path).await);
        let mut text = String::new();
        for number in 1..=60 {
            let event = events.next().await.expect("it goes on").expect("another token");
            assert_eq!((event.id, event.name), (number.to_string(), String::new()));
            let token: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
            text += token["token"].as_str().expect("a letter");
        }
        let end = events.next().await.expect("it goes on").expect("an end");
        assert_eq!((&*end.name, &*end.data), ("end", "{\"tokens\":60}"));
        assert_eq!(events.next().await.expect("whole"), None);
        texts.push(text);
    }
    assert_eq!(texts[0], texts[1], "the same seed");
    assert_eq!(server.metric("quern_batch_rows_count").await, 120.0);

    // The most probable continuation of a sentence that the model has learnt.
    let path = "/f/stream-tokens/?prompt=now+the+young+mil&tokens=3&temperature=0";
    let mut events = Events::of(reader.get(path).await);
    let mut text = String::new();
    while let Some(event) = events.next().await.expect("whole") {
        text += &event.data;
    }
    assert_eq!(text, r#"{"token":"l"}{"token":"e"}{"token":"r"}{"tokens":3}"#);

    for wrong in ["tokens=many", "tokens=5001", "temperature=-1", "seed=x"] {
        let answer = server.get(&format!("/f/stream-tokens/?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
    }
}
