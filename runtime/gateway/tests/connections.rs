//! What the edge does with connections, over real sockets and in front of a real server's parts.
//! Nothing is deployed here: what functions and models answer is tested with the program.

use std::{sync::Arc, time::Duration};

use prometheus::Registry;
use quern_deploy::{DeployConfig, DeployServices, Deployer};
use quern_dispatcher::{
    Dispatcher, Functions, FunctionsConfig, Kernels, KernelsConfig, Models, ModelsConfig,
};
use quern_gateway::{
    CallerLimits, EdgeLimits, Gateway, GatewayConfig, GatewayServices, SharedMemoryConfig,
};
use quern_host_gpu::{Cpu, CpuConfig};
use quern_jobs::{Jobs, JobsConfig};
use quern_sandbox::{Sandbox, SandboxConfig, Services};
use quern_scoring::{Scoring, ScoringConfig};
use quern_store::{Store, StoreConfig};
use quern_types::{ByteSize, LimitRules};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

/// Nothing here takes long: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// An edge that serves, and the way to stop it.
struct Edge {
    address: std::net::SocketAddr,
    dispatcher: Arc<Dispatcher>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Edge {
    async fn start() -> Self {
        Self::start_within(EdgeLimits::default()).await
    }

    async fn start_within(limits: EdgeLimits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = Registry::new();
        let data = folder.path().to_path_buf();
        let store = StoreConfig {
            directory: data.clone(),
            keep_versions: 2,
            log_records: 10,
            log_bytes: ByteSize::mib(1),
            bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
            secrets_key: None,
        };
        let store = Arc::new(Store::open(store, &registry).await.expect("opens"));
        let cpu = CpuConfig { lanes: 1, ort_library: None };
        let device = Arc::new(Cpu::new(cpu, &registry).expect("starts"));
        let models = Models::new(ModelsConfig::default(), store.clone(), device.clone(), &registry);
        let models = Arc::new(models.expect("registers"));
        let services =
            Services { models: models.clone(), key_value: store.key_value(), kernels: None };
        let sandbox = Sandbox::new(SandboxConfig::new(data.join("artifacts")), services, &registry);
        let sandbox = Arc::new(sandbox.expect("starts"));
        let functions =
            Functions::new(FunctionsConfig::default(), store.clone(), sandbox.clone(), &registry)
                .expect("registers");
        let kernels = Kernels::new(KernelsConfig::default(), Vec::new(), &registry);
        let kernels = Arc::new(kernels.expect("registers"));
        let dispatcher = Dispatcher::new(store.clone(), models.clone(), functions, kernels);
        let deploy = DeployConfig {
            max_upload: ByteSize::mib(1),
            default_max_batch: 8,
            limits: LimitRules::default(),
        };
        let jobs = Jobs::new(store.clone(), JobsConfig::default(), &registry);
        let jobs = jobs.expect("registers");
        let services =
            DeployServices { store, sandbox, device, offers: models, outcomes: dispatcher.clone() };
        let deployer = Arc::new(Deployer::new(deploy, services, &registry).expect("registers"));
        let config = GatewayConfig {
            limits,
            authenticate: false,
            callers: CallerLimits::default(),
            shared_memory: SharedMemoryConfig::default(),
            callers_are_owners: true,
            tracer: None,
            version: "test",
        };
        let scoring = ScoringConfig::new(data.join("batches"));
        let scoring = Scoring::open(scoring, dispatcher.clone(), None, &registry).await;
        let scoring = scoring.expect("opens");
        let services = GatewayServices { deployer, dispatcher: dispatcher.clone(), scoring, jobs };
        let gateway = Gateway::new(config, services, registry);
        let gateway = gateway.expect("registers");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(Arc::new(gateway).serve(listener, async {
            let _ = stopped.await;
        }));
        Self { address, dispatcher, stop, serving, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connects")
    }
}

/// Reads until `end` has arrived, and gives everything up to there.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).ends_with(end) {
            let byte = socket.read_u8().await.expect("the connection stays open");
            read.push(byte);
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&read).into_owned();
    assert!(done.is_ok(), "{end:?} does not come, only {text:?}");
    text
}

async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    read.is_ok_and(|read| read.is_ok()) && rest.is_empty()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let edge = Edge::start().await;
    let mut socket = edge.connect().await;
    let get = "GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = "HEAD /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(format!("{get}{head}{get}").as_bytes()).await.expect("sent");
    let first = read_until(&mut socket, "}").await;
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    let second = read_until(&mut socket, "}").await;
    let (headers, body) = second.split_once("\r\n\r\n").expect("the end of the head");
    let length = first.lines().find(|line| line.starts_with("content-length: "));
    let length = length.expect("the length of the answer");
    assert!(headers.contains(length), "{second}");
    assert!(body.starts_with("HTTP/1.1 200 "), "HEAD has no body: {second}");
}

#[tokio::test]
async fn http2_is_understood_without_being_announced() {
    let edge = Edge::start().await;
    let mut socket = edge.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let mut frame = [0; 9];
    socket.read_exact(&mut frame).await.expect("a frame");
    assert_eq!(frame[3], 4, "the server begins with its settings");
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_refusal_and_keeps_its_connection() {
    let edge = Edge::start().await;
    let refused = [
        ("POST /v1/models/a/rollback", "413", "request-too-large"),
        ("POST /v2/models/a/infer", "404", "not-found"),
        ("PUT /v1/functions/a", "413", "upload-too-large"),
        ("POST /f/a/", "404", "not-found"),
        ("PUT /nothing", "404", "not-found"),
    ];
    for (call, status, code) in refused {
        let mut socket = edge.connect().await;
        let length = 8 << 20;
        let head = format!("{call} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.write_all(&vec![b'x'; length]).await.expect("the server reads on");
        let answer = read_until(&mut socket, "}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{call}: {answer}");
        assert!(answer.contains(&format!("quern-error: {code}\r\n")), "{call}: {answer}");
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let next = read_until(&mut socket, "\r\n\r\n").await;
        assert!(next.starts_with("HTTP/1.1 200 "), "{call}: {next}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_before_it_sends() {
    let edge = Edge::start().await;
    let expect = "host: x\r\nexpect: 100-continue\r\n";
    let mut socket = edge.connect().await;
    let head =
        format!("POST /v1/models/a/rollback HTTP/1.1\r\n{expect}content-length: 9999\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut socket = edge.connect().await;
    let head = format!("POST /v1/models/a/rollback HTTP/1.1\r\n{expect}content-length: 13\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("sent");
    let asked = read_until(&mut socket, "\r\n\r\n").await;
    assert_eq!(asked, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"{\"version\":1}").await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn bodies_of_unknown_length_are_counted() {
    let edge = Edge::start().await;
    let mut socket = edge.connect().await;
    let head =
        "POST /v1/models/a/rollback HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let body = format!("{head}{chunk}{chunk}0\r\n\r\n");
    socket.write_all(body.as_bytes()).await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("larger than the limit of 4.0 KiB"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_loses_its_connection() {
    let write_stall = Duration::from_secs(1);
    let edge = Edge::start_within(EdgeLimits { write_stall, ..EdgeLimits::default() }).await;
    let mut socket = edge.connect().await;
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let asking = async { while socket.write_all(requests.as_bytes()).await.is_ok() {} };
    let ended = tokio::time::timeout(PATIENCE, asking).await;
    assert!(ended.is_ok(), "the connection stays open");
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// An HTTP/2 connection on which `method path` was called, up to the end of the request's head.
async fn call_over_http2(edge: &Edge, method: &[u8], path: &str, ends: bool) -> TcpStream {
    let mut socket = edge.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("sent");
    socket.write_all(&request_head(1, method, path, ends)).await.expect("sent");
    socket
}

/// The head of a request on a stream.
fn request_head(stream: u8, method: &[u8], path: &str, ends: bool) -> Vec<u8> {
    // Literal header fields with indexed names (RFC 7541): method, scheme http, path, authority.
    let text = |name: u8, value: &[u8]| [&[name, value.len() as u8], value].concat();
    let head = [text(0x02, method), vec![0x86], text(0x04, path.as_bytes()), text(0x01, b"x")];
    let flags = if ends { 0x5 } else { 0x4 };
    frame(HEADERS, flags, stream, &head.concat())
}

/// The kind of the next frame, and its payload; none once the connection is closed.
async fn next_frame(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let (kind, _, payload) = next_frame_of(socket).await?;
    Some((kind, payload))
}

/// The same with the stream that the frame is of.
async fn next_frame_of(socket: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut head)).await;
    read.expect("something happens").ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    socket.read_exact(&mut payload).await.expect("the whole frame");
    Some((head[3], head[8], payload))
}

/// What lets the other side send so much more, on a stream or, as 0, on all together.
fn window(stream: u8, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_lost_and_its_connection_is_not() {
    let write_stall = Duration::from_millis(500);
    let edge = Edge::start_within(EdgeLimits { write_stall, ..EdgeLimits::default() }).await;
    for opens in [0, 1] {
        let mut socket = edge.connect().await;
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
        // Streams begin without a window (RFC 9113, section 6.5.2).
        let no_window = [0, 4, 0, 0, 0, 0];
        socket.write_all(&frame(SETTINGS, 0, 0, &no_window)).await.expect("sent");
        socket.write_all(&request_head(1, b"GET", "/openapi.json", true)).await.expect("sent");
        let (mut taken, mut has_head) = (0, false);
        let reset = loop {
            match next_frame(&mut socket).await.expect("the connection stays open") {
                (HEADERS, _) => has_head = true,
                (DATA, payload) => taken += payload.len(),
                (RST_STREAM, payload) => break payload,
                _ => continue,
            }
            if opens > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                // It may be reset by now, which is what is waited for.
                let _ = socket.write_all(&window(1, opens)).await;
            }
        };
        assert!(has_head && (taken > 0) == (opens > 0), "{taken} bytes of it");
        assert_eq!(reset, 8_u32.to_be_bytes(), "CANCEL (RFC 9113, section 7)");

        socket.write_all(&request_head(3, b"GET", "/healthz", true)).await.expect("sent");
        socket.write_all(&window(3, 1_000)).await.expect("sent");
        loop {
            let (kind, payload) = next_frame(&mut socket).await.expect("the connection goes on");
            if kind == DATA {
                assert_eq!(payload, br#"{"status":"ok"}"#);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_uses_up_its_connections_window_is_ended_and_the_others_are_not() {
    let write_stall = Duration::from_secs(2);
    let edge = Edge::start_within(EdgeLimits { write_stall, ..EdgeLimits::default() }).await;
    let mut socket = edge.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    // As much for each stream as it likes, but no more than all have together at the beginning.
    let wide = [0, 4, 0x10, 0, 0, 0];
    socket.write_all(&frame(SETTINGS, 0, 0, &wide)).await.expect("sent");
    socket.write_all(&request_head(1, b"GET", "/openapi.json", true)).await.expect("sent");
    let mut held = 0;
    while held < 65_535 {
        let (kind, of, payload) = next_frame_of(&mut socket).await.expect("it goes on");
        held += if (kind, of) == (DATA, 1) { payload.len() } else { 0 };
    }
    // Those that come now have waited for less long.
    tokio::time::sleep(write_stall / 8).await;
    for stream in [3, 5] {
        let head = request_head(stream, b"GET", "/healthz", true);
        socket.write_all(&head).await.expect("sent");
    }
    loop {
        let (kind, of, _) = next_frame_of(&mut socket).await.expect("the connection stays open");
        assert!(kind != DATA, "stream {of} has no window");
        if kind == RST_STREAM {
            assert_eq!(of, 1, "the one that is to blame");
            break;
        }
    }
    // As a client does some time after it has thrown away what it had of that stream.
    tokio::time::sleep(write_stall / 8).await;
    socket.write_all(&window(0, 65_535)).await.expect("sent");
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let (kind, of, payload) = next_frame_of(&mut socket).await.expect("it goes on");
        assert!(kind != RST_STREAM, "stream {of}");
        if kind == DATA {
            assert_eq!(payload, br#"{"status":"ok"}"#);
            answered.push(of);
        }
    }
}

#[tokio::test]
async fn a_connection_that_only_answers_pings_is_closed() {
    let head_timeout = Duration::from_millis(300);
    let edge = Edge::start_within(EdgeLimits { head_timeout, ..EdgeLimits::default() }).await;
    let mut socket = call_over_http2(&edge, b"GET", "/healthz", true).await;
    let (mut kinds, mut pings) = (Vec::new(), 0);
    while let Some((kind, payload)) = next_frame(&mut socket).await {
        if kind == PING {
            pings += 1;
            // It may be closed by now: the end is what is waited for.
            let _ = socket.write_all(&frame(PING, 1, 0, &payload)).await;
        }
        kinds.push(kind);
    }
    assert!(kinds.contains(&HEADERS), "it was answered: {kinds:?}");
    assert!(kinds.contains(&GOAWAY), "it was told to go: {kinds:?}");
    assert!(pings > 0, "it kept itself alive: {kinds:?}");
}

#[tokio::test]
async fn a_connection_over_which_something_is_under_way_is_kept() {
    let (head_timeout, body_stall) = (Duration::from_millis(200), Duration::from_secs(2));
    let limits = EdgeLimits { head_timeout, body_stall, ..EdgeLimits::default() };
    let edge = Edge::start_within(limits).await;
    let mut socket = call_over_http2(&edge, b"POST", "/v1/models/a/rollback", false).await;
    // The body never comes: an answer after ten times the head's time is that of the body's.
    let mut answer = Vec::new();
    while let Some((kind, payload)) = next_frame(&mut socket).await {
        match kind {
            PING => {
                let _ = socket.write_all(&frame(PING, 1, 0, &payload)).await;
            }
            DATA => answer.extend(payload),
            _ => {}
        }
    }
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.contains("request body stalled for 2s"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_as_one() {
    let body_stall = Duration::from_millis(300);
    let edge = Edge::start_within(EdgeLimits { body_stall, ..EdgeLimits::default() }).await;
    let mut socket = edge.connect().await;
    let head = "POST /v2/models/a/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n";
    let rollback = "POST /v1/models/a/rollback HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    socket.write_all(rollback.as_bytes()).await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("quern-error: request-timeout\r\n"), "{answer}");
    assert!(answer.contains("request body stalled for 300ms"), "{answer}");
    // What isn't waited for can't stall.
    let mut socket = edge.connect().await;
    socket.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn a_request_to_a_server_that_drains_is_told_so() {
    let edge = Edge::start().await;
    let mut socket = edge.connect().await;
    edge.dispatcher.drain().await;
    socket.write_all(b"GET /f/a/ HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let answer = read_until(&mut socket, "}").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("quern-error: shutting-down\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn draining_ends_idle_connections_and_lets_requests_finish() {
    let edge = Edge::start().await;
    let (mut fresh, mut idle, mut busy) =
        (edge.connect().await, edge.connect().await, edge.connect().await);
    idle.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let ready = read_until(&mut idle, "}").await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    let head = "POST /v1/models/a/rollback HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
                content-length: 13\r\n\r\n";
    busy.write_all(head.as_bytes()).await.expect("sent");
    read_until(&mut busy, "100 Continue\r\n\r\n").await;

    edge.stop.send(()).expect("it serves");
    assert!(is_closed(&mut fresh).await && is_closed(&mut idle).await);
    assert!(!edge.serving.is_finished(), "a request is under way");
    assert!(TcpStream::connect(edge.address).await.is_err(), "no more connections");
    busy.write_all(b"{\"version\":1}").await.expect("sent");
    let answer = read_until(&mut busy, "}").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(is_closed(&mut busy).await);
    edge.serving.await.expect("all have ended");
}
