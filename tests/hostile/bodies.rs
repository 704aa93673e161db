//! Requests for inference whose bodies mean harm, in how they arrive and in what they become: each
//! is refused with a 4xx, and all of them together stay within the memory that bodies have.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use futures::future::{Either, join_all, select};
use http_body_util::Full;
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use tempfile::NamedTempFile;

use crate::{
    components::{ECHO, inference},
    row::inference_manifest,
    siege::{at_rest, resident_kib},
    support::Server,
};

const PATH: &str = "/v2/models/well/infer";
const HEAD: &str = "POST /v2/models/well/infer HTTP/1.1\r\nhost: x\r\n";
const CHUNKED: &str =
    "POST /v2/models/well/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
/// What bodies may have in the tests that measure memory.
const OPTIONS: &str = "[http]\nmax_json_body = '4MiB'\nbody_memory = '16MiB'\n";
const MAX_BODY: usize = 4 << 20;
/// Requests that arrive together there.
const AT_ONCE: usize = 16;
/// Memory in KiB that they may take at their height, whatever is in them: the room for bodies; what
/// becomes of JSON before it is counted, when two bytes of text are eight of a tensor; and for some
/// seconds, what the allocator keeps for the thread of each request of what it has freed.
const HEIGHT_KIB: u64 = 16 * 1024 * (1 + 4) + AT_ONCE as u64 * 4 * 1024 * (1 + 4);

async fn start(options: &str) -> (Server, NamedTempFile) {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), options).expect("written");
    let server = Server::start_with(&["--config", file.path().to_str().expect("text")]);
    let deployed = server.upload("well", inference_manifest("well"), inference("", ECHO)).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    (server, file)
}

/// A request for inference that is answered well.
fn good() -> String {
    r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}"#.into()
}

/// Sends bytes over a connection of their own, ends its sending side if asked to, and gives what
/// comes back, up to the end of the connection or of one error in JSON.
fn exchange(server: &Server, request: &[u8], ends: bool) -> String {
    let address = server.url().strip_prefix("http://").expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    let mut socket = TcpStream::connect(address).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("is set");
    // The server may have answered, and stopped reading, before all of it is sent.
    let _ = socket.write_all(request);
    if ends {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = socket.read(&mut part) {
        answer.extend_from_slice(&part[..length]);
        if answer.ends_with(b"\"}") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bodies_that_arrive_in_hostile_ways_are_refused() {
    let (server, _file) = start("[http]\nbody_stall = '300ms'\n").await;
    let good = good();
    let chunk = format!("{:x}\r\n{good}\r\n", good.len());
    let (long, broke_off) = ("x".repeat(1 << 20), "request body broke off");
    for (what, request, ends, status, part) in [
        (
            "half of a body, and then the end",
            format!("{HEAD}content-length: {}\r\n\r\n{}", good.len(), &good[..40]),
            true,
            400,
            broke_off,
        ),
        (
            "half of a chunk, and then the end",
            format!("{CHUNKED}{}", &chunk[..40]),
            true,
            400,
            broke_off,
        ),
        ("an extension of 1 MiB", format!("{CHUNKED}5;{long}\r\n"), false, 400, broke_off),
        (
            "many extensions",
            format!("{CHUNKED}{}", format!("1;{}\r\n \r\n", &long[..1000]).repeat(100)),
            false,
            400,
            broke_off,
        ),
        (
            "a chunk of 2^68 bytes",
            format!("{CHUNKED}{}\r\n{{", "f".repeat(17)),
            false,
            400,
            broke_off,
        ),
        (
            "a chunk of 2^64 bytes",
            format!("{CHUNKED}{}\r\n{{", "f".repeat(16)),
            false,
            408,
            "stalled",
        ),
        ("a chunk of no size", format!("{CHUNKED}x\r\n{{"), false, 400, broke_off),
        (
            "a trailer of 1 MiB",
            format!("{CHUNKED}{chunk}0\r\nx: {long}\r\n\r\n"),
            false,
            400,
            broke_off,
        ),
        (
            "many trailers",
            format!("{CHUNKED}{chunk}0\r\n{}\r\n", "x: y\r\n".repeat(5_000)),
            false,
            400,
            broke_off,
        ),
        (
            "a body that never comes",
            format!("{HEAD}content-length: 100\r\n\r\n"),
            false,
            408,
            "request body stalled",
        ),
        (
            "a length beyond all limits",
            format!("{HEAD}content-length: 9223372036854775807\r\n\r\n"),
            false,
            413,
            "larger than the limit",
        ),
        ("a length below zero", format!("{HEAD}content-length: -1\r\n\r\n"), false, 400, ""),
        (
            "two lengths",
            format!("{HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
            false,
            400,
            "",
        ),
    ] {
        let answer = exchange(&server, request.as_bytes(), ends);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected) && answer.contains(part), "{what}: {answer:?}");
    }
    // A client that ends its sending side has left: it gets an answer at most, and holds nothing.
    let whole = format!("{HEAD}content-length: {}\r\n\r\n{good}", good.len());
    let answer = exchange(&server, whole.as_bytes(), true);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(server.post(PATH, good).await.status, 200, "others are served");
    at_rest(&server).await;
}

/// Text that becomes so much JSON that the limit is almost reached.
fn filled(begin: &str, item: &str, end: &str) -> Vec<u8> {
    let items = (MAX_BODY - begin.len() - end.len()) / item.len();
    [begin, &item.repeat(items), end].concat().into_bytes()
}

/// A tensor of as many elements as a body can have, each of them in `item`.
fn tensor(datatype: &str, item: &str) -> Vec<u8> {
    let count = (MAX_BODY - 200) / item.len();
    let items = item.repeat(count);
    let data = items.strip_suffix(',').expect("ends in a comma");
    format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [{count}], \"datatype\": \"{datatype}\", \
         \"data\": [{data}]}}]}}"
    )
    .into_bytes()
}

/// What becomes 256 MiB of brackets: as gzip, and as deflate.
fn bombs() -> (Vec<u8>, Vec<u8>) {
    let brackets = vec![b'['; 1 << 28];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&brackets).expect("memory");
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&brackets).expect("memory");
    (gzip.finish().expect("memory"), deflate.finish().expect("memory"))
}

/// The most memory that the server has held since the last time, in KiB.
fn height_kib(server: &Server) -> u64 {
    let path = format!("/proc/{}", server.process_id());
    let status = std::fs::read_to_string(format!("{path}/status")).expect("the server runs");
    std::fs::write(format!("{path}/clear_refs"), "5").expect("is reset");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its height");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

#[tokio::test]
async fn whatever_bodies_become_stays_within_their_memory() {
    let (server, _file) = start(OPTIONS).await;
    assert_eq!(server.post(PATH, good()).await.status, 200);
    let (gzip, deflate) = bombs();
    let shape = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": ["#;
    let cases = [
        ("a bomb of gzip", "gzip", gzip.repeat(3)),
        ("a bomb of deflate", "deflate", deflate),
        ("gzip that breaks off", "gzip", gzip[..gzip.len() / 2].to_vec()),
        ("deep nesting", "identity", filled("{\"inputs\": ", "[", "")),
        ("deep objects", "identity", filled("", "{\"id\": ", "")),
        ("millions of dimensions", "identity", filled(shape, "1,", "")),
        ("a long id with escapes", "identity", filled("{\"id\": \"", "\\u0041", "\"}")),
        ("many inputs", "identity", filled("{\"inputs\": [", "{\"name\": \"x\"},", "")),
        ("numbers that become four times as long", "identity", tensor("FP64", "1,")),
        ("strings that become longer", "identity", tensor("BYTES", "\"\",")),
    ];
    let before = resident_kib(&server);
    for (what, coding, body) in cases {
        height_kib(&server);
        let send = || {
            let request = server.request(reqwest::Method::POST, PATH);
            crate::support::answer(request.header("content-encoding", coding).body(body.clone()))
        };
        for answer in join_all((0..AT_ONCE).map(|_| send())).await {
            let status = answer.status.as_u16();
            assert!((400..500).contains(&status), "{what}: {status} {:.300}", answer.text());
        }
        let height = height_kib(&server);
        eprintln!("{what}: {before} KiB became {height} KiB");
        assert!(height <= before + HEIGHT_KIB, "{what}: {before} KiB became {height} KiB");
        assert_eq!(server.post(PATH, good()).await.status, 200, "{what}: others are served");
    }
    server.stop();
}

/// A field of protobuf whose content has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).expect("a vector has room");
    field.extend_from_slice(content);
    field
}

/// A request for inference over gRPC, with an input of this type, so many elements and contents.
fn message(datatype: &str, elements: usize, contents: &[u8]) -> Vec<u8> {
    let mut shape = vec![3 << 3];
    prost::encode_length_delimiter(elements, &mut shape).expect("a vector has room");
    let input = [field(1, b"x"), field(2, datatype.as_bytes()), shape, contents.to_vec()].concat();
    [field(1, b"well"), field(5, &input)].concat()
}

#[tokio::test]
async fn whatever_messages_become_stays_within_their_memory() {
    let (server, _file) = start(OPTIONS).await;
    assert_eq!(server.post(PATH, good()).await.status, 200);
    let http: Http<_, Full<Bytes>> =
        Http::builder(TokioExecutor::new()).http2_only(true).build_http();
    let uri = format!("{}/inference.GRPCInferenceService/ModelInfer", server.url());
    let (gzip, _) = bombs();
    let (half, most) = (gzip.len() / 2, MAX_BODY - 200);
    let cases = [
        ("a bomb of gzip", 1, gzip.repeat(3)),
        ("gzip that breaks off", 1, gzip[..half].to_vec()),
        ("millions of parts", 0, message("FP32", 0, &field(5, b"").repeat(most / 2))),
        ("millions of inputs", 0, field(5, b"").repeat(most / 2)),
        ("millions of outputs", 0, field(6, b"").repeat(most / 2)),
        ("millions of parameters", 0, field(4, b"").repeat(most / 2)),
        ("millions of raw contents", 0, field(7, b"").repeat(most / 2)),
        (
            "integers that become eight times as long",
            0,
            message("INT64", most / 4, &field(5, &field(3, &vec![1; most / 4]))),
        ),
        (
            "strings that become longer",
            0,
            message("BYTES", most / 2, &field(5, &field(8, b"").repeat(most / 2))),
        ),
    ];
    let before = resident_kib(&server);
    for (what, packed, message) in cases {
        height_kib(&server);
        let length = u32::try_from(message.len()).expect("is short").to_be_bytes();
        let body = Bytes::from([&[packed][..], &length, &message].concat());
        let send = || {
            let request = http::Request::post(&uri)
                .header("content-type", "application/grpc")
                .header("grpc-encoding", "gzip");
            http.request(request.body(Full::from(body.clone())).expect("a request"))
        };
        for answer in join_all((0..AT_ONCE).map(|_| send())).await {
            let answer = answer.expect("an answer");
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            // An invalid argument, or too much.
            let status = header("grpc-status");
            let says = header("grpc-message").unwrap_or_default();
            assert!(matches!(status, Some("3" | "8")), "{what}: {status:?} {says:.300}");
        }
        let height = height_kib(&server);
        eprintln!("{what}: {before} KiB became {height} KiB");
        assert!(height <= before + HEIGHT_KIB, "{what}: {before} KiB became {height} KiB");
        assert_eq!(server.post(PATH, good()).await.status, 200, "{what}: others are served");
    }
    server.stop();
}

#[tokio::test]
async fn what_json_becomes_has_room_until_it_is_answered() {
    let options = "[http]\nmax_json_body = '128KiB'\nbody_memory = '128KiB'\n";
    let (server, _file) = start(options).await;
    let endless = inference("", "(loop $l (br $l)) unreachable");
    let manifest = inference_manifest("endless").replace("cpu = \"100ms\"", "cpu = \"10m\"");
    let deployed = server.upload("endless", manifest, endless).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let data = vec!["1.5"; 20_000].join(",");
    let body = format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"shape\": [20000], \"datatype\": \"FP32\", \
         \"data\": [{data}]}}]}}"
    );
    let held = Box::pin(server.post("/v2/models/endless/infer", body.clone()));
    let refused = Box::pin(async {
        while server.metric("quern_sandbox_instances").await != 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.post(PATH, body.clone()).await
    });
    match select(held, refused).await {
        Either::Left((answer, _)) => panic!("it was to compute: {}", answer.text()),
        Either::Right((answer, _)) => answer.assert_error(429, "busy", "leave no room"),
    }
    // The client of the first has left.
    at_rest(&server).await;
    let answered = server.post(PATH, body).await;
    assert_eq!(answered.status, 200, "{:.300}", answered.text());
}
