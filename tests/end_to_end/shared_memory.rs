//! Tensors in shared memory: what an operator allows, what clients register, and whatever they do
//! to their memory while the server uses it.

use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::{
    objects::{Object, PREFIX},
    protocol::{datatypes, deploy_types},
    support::{Answer, Server},
};

const INFER: &str = "/v2/models/digits-mlp/infer";
/// Bytes of an image, and of what the model says of it.
const IMAGE: usize = 256;
const PROBABILITIES: usize = 40;

fn start() -> Server {
    Server::start_with(&["--allow-shared-memory", PREFIX])
}

async fn register(server: &Server, name: &str, key: &str, offset: u64, bytes: u64) -> Answer {
    let wish = json!({ "key": key, "offset": offset, "byte_size": bytes });
    let path = format!("/v2/systemsharedmemory/region/{name}/register");
    server.post(&path, wish.to_string()).await
}

/// Registers all of an object; asserts that it works.
async fn register_all(server: &Server, name: &str, object: &Object) {
    let registered = register(server, name, object.key(), 0, object.size()).await;
    assert_eq!((registered.status.as_u16(), &*registered.text()), (200, ""));
}

fn place(region: &str, offset: usize, bytes: usize) -> Value {
    json!({ "shared_memory_region": region, "shared_memory_offset": offset,
            "shared_memory_byte_size": bytes })
}

fn input(name: &str, datatype: &str, shape: Value, place: Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": place })
}

fn output(name: &str, place: Value) -> Value {
    json!({ "name": name, "parameters": place })
}

async fn infer(server: &Server, input: Value, outputs: Value) -> Answer {
    server.post(INFER, json!({ "inputs": [input], "outputs": outputs }).to_string()).await
}

/// An image in a region, from its first byte on.
fn image(region: &str) -> Value {
    input("image", "FP32", json!([1, 64]), place(region, 0, IMAGE))
}

/// Points that all have this value.
fn points(value: f32) -> Vec<u8> {
    value.to_le_bytes().repeat(64)
}

#[tokio::test]
async fn every_datatype_passes_through_shared_memory() {
    let server = start();
    deploy_types(&server).await;
    let object = Object::new("types", 8_192);
    register_all(&server, "both", &object).await;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (position, (dtype, data)) in datatypes().iter().enumerate() {
        let (name, from, to) = (dtype.to_lowercase(), 100 * position, 4_000 + 100 * position);
        object.write(from, data);
        inputs.push(input(&name, dtype, json!([2]), place("both", from, data.len())));
        // There may be more room than it takes.
        outputs.push(output(&name, place("both", to, 100)));
    }
    let request = json!({ "inputs": inputs, "outputs": outputs });
    let answered = server.post("/v2/models/types/infer", request.to_string()).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let answer = answered.json();
    for (position, (dtype, data)) in datatypes().iter().enumerate() {
        let to = 4_000 + 100 * position;
        let expected =
            input(&dtype.to_lowercase(), dtype, json!([2]), place("both", to, data.len()));
        assert_eq!(answer["outputs"][position], expected);
        let written = object.read(to, 100);
        assert_eq!(&written[..data.len()], data, "{dtype}");
        assert!(written[data.len()..].iter().all(|byte| *byte == 0), "{dtype}: nothing behind it");
    }
}

#[tokio::test]
async fn what_is_in_memory_stands_beside_what_is_sent() {
    let server = start();
    server.deploy_digits_model().await;
    let (images, results) = (Object::new("images", 4_096), Object::new("results", 4_096));
    images.write(1_024, &points(3.0));
    assert_eq!(register(&server, "i", images.key(), 1_024, 512).await.status, 200);
    register_all(&server, "a%20%2Fb", &results).await;
    let sent = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
                        "data": vec![3.0; 64] }]);
    let sent = server.infer("digits-mlp", sent).await.json()["outputs"][0].take();
    let read = infer(&server, image("i"), json!([])).await.json()["outputs"][0].take();
    assert_eq!(sent, read, "the same image");
    let name = sent["name"].as_str().expect("a name");
    let wanted = json!([output(name, place("a /b", 8, PROBABILITIES))]);
    let written = infer(&server, image("i"), wanted).await;
    let parameters = &written.json()["outputs"][0]["parameters"];
    assert_eq!(*parameters, place("a /b", 8, PROBABILITIES), "{}", written.text());
    let numbers: Vec<f64> = results
        .read(8, PROBABILITIES)
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().expect("four")).into())
        .collect();
    let expected = sent["data"].as_array().expect("data").iter();
    let expected: Vec<_> = expected.map(|number| number.as_f64().expect("a number")).collect();
    let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6;
    assert!(numbers.iter().zip(&expected).all(close), "{numbers:?} {expected:?}");
}

#[tokio::test]
async fn regions_are_registered_shown_and_forgotten() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(Stdio::piped());
    let data = Arc::new(TempDir::new().expect("a folder"));
    let mut server = Server::start_program(command, data, &["--allow-shared-memory", PREFIX]);
    let extensions = server.get("/v2").await.json()["extensions"].take();
    assert!(extensions.as_array().expect("some").contains(&json!("system_shared_memory")));
    let object = Object::new("shown", 64);
    register_all(&server, "a", &object).await;
    assert_eq!(register(&server, "b", object.key(), 32, 16).await.status, 200);
    let a = json!({ "name": "a", "key": object.key(), "offset": 0, "byte_size": 64 });
    let b = json!({ "name": "b", "key": object.key(), "offset": 32, "byte_size": 16 });
    let status =
        async |path: &str| server.get(&format!("/v2/systemsharedmemory{path}/status")).await;
    assert_eq!(status("").await.json(), json!([a, b]));
    assert_eq!(status("/region/b").await.json(), json!([b]));
    assert_eq!(server.metric("quern_http_shared_memory_regions").await, 2.0);
    let twice = register(&server, "a", object.key(), 0, 8).await;
    twice.assert_error(409, "name-taken", "region \"a\" is registered already");
    server.post("/v2/systemsharedmemory/region/a/unregister", "").await;
    status("/region/a").await.assert_error(404, "not-found", "\"a\" is not registered");
    server.post("/v2/systemsharedmemory/unregister", "").await;
    assert_eq!(status("").await.json(), json!([]));
    register_all(&server, "a", &object).await;
    server.terminate();
    let log = server.log();
    for part in ["shared memory region registered", "shared memory region unregistered"] {
        let line = log.lines().find(|line| line.contains(part)).unwrap_or_default();
        assert!(line.contains("region=\"a\""), "{part}: {log}");
    }
    assert!(log.contains(object.key()), "{log}");
}

#[tokio::test]
async fn only_what_the_operator_allows_is_registered() {
    let options = NamedTempFile::new().expect("a file");
    let text =
        format!("[shared_memory]\nprefix = '{PREFIX}'\nmax_regions = 2\nmax_region = '4KiB'");
    fs::write(options.path(), text).expect("written");
    let server = Server::start_with(&["--config", options.path().to_str().expect("text")]);
    let mine = Object::new("mine", 8_192);
    let others = Object::with_key(format!("/quern-others-{}", server.process_id()), 64);
    let link = format!("{}-link", mine.key());
    std::os::unix::fs::symlink(others.path(), format!("/dev/shm{link}")).expect("links");
    let twin = format!("{}-twin", mine.key());
    fs::hard_link(others.path(), format!("/dev/shm{twin}")).expect("links");
    let beyond = "reach beyond key";
    for (key, offset, bytes, code, part) in [
        (others.key(), 0, 64, "unsupported", "is not allowed on this server: use one that begins"),
        ("/", 0, 64, "invalid-request", "is no name of shared memory"),
        ("/../etc/passwd", 0, 64, "invalid-request", "is no name of shared memory"),
        (&format!("{PREFIX}/../../etc/passwd"), 0, 64, "invalid-request", "no name of shared"),
        (&format!("{PREFIX}absent"), 0, 64, "invalid-request", "can't be opened"),
        (&link, 0, 64, "invalid-request", "can't be opened as shared memory: Too many levels"),
        (&twin, 0, 64, "invalid-request", "it is no object of its own"),
        (mine.key(), 0, 0, "invalid-request", "byte_size is 0"),
        (mine.key(), 0, 4_097, "invalid-request", "a region has 1 to 4096 bytes on this server"),
        (mine.key(), 4_097, 4_096, "invalid-request", beyond),
        (mine.key(), u64::MAX, 1, "invalid-request", beyond),
    ] {
        register(&server, "r", key, offset, bytes).await.assert_error(400, code, part);
    }
    for path in [link, twin] {
        fs::remove_file(format!("/dev/shm{path}")).expect("is there");
    }
    for name in ["a", "b"] {
        assert_eq!(register(&server, name, mine.key(), 4_096, 4_096).await.status, 200);
    }
    let full = register(&server, "c", mine.key(), 0, 64).await;
    full.assert_error(429, "busy", "2 shared memory regions are registered");
    let body = json!({ "raw_handle": { "b64": "" }, "device_id": 0, "byte_size": 64 }).to_string();
    let cuda = server.post("/v2/cudasharedmemory/region/c/register", body).await;
    cuda.assert_error(400, "unsupported", "cuda shared memory is not allowed on this server");
    let path = "/v2/systemsharedmemory/region/c/register";
    server.post(path, "{}").await.assert_error(400, "invalid-json", "key: is missing");
}

#[tokio::test]
async fn a_tensor_that_its_memory_does_not_hold_is_refused_by_name() {
    let server = start();
    server.deploy_digits_model().await;
    deploy_types(&server).await;
    let object = Object::new("bad", 1_024);
    // A string that says that it has 7 bytes, and a boolean that is neither.
    object.write(512, &[7, 0, 0, 0, b'x']);
    object.write(600, &[1, 2]);
    register_all(&server, "r", &object).await;
    let image = |place| input("image", "FP32", json!([1, 64]), place);
    let field = "inputs[0].parameters.shared_memory_region: ";
    let outside = "reach beyond shared memory region \"r\", which has 1024 bytes";
    for (input, status, code, part) in [
        (image(place("s", 0, IMAGE)), 404, "not-found", "region \"s\" is not registered"),
        (image(place("r", 0, 255)), 400, "invalid-request", "[1, 64] of FP32 needs 256 bytes"),
        (image(place("r", 0, 512)), 400, "invalid-request", "needs 256 bytes, got 512"),
        (image(place("r", 1_000, IMAGE)), 400, "invalid-request", outside),
        (image(place("r", usize::MAX, IMAGE)), 400, "invalid-request", outside),
        (image(place("r", 1, usize::MAX)), 400, "invalid-request", outside),
        (
            image(json!({ "shared_memory_region": "r" })),
            400,
            "invalid-json",
            "inputs[0].parameters.shared_memory_byte_size: is missing",
        ),
        (
            input("image", "FP32", json!([u64::MAX, 64]), place("r", 0, IMAGE)),
            400,
            "invalid-request",
            "has too many elements",
        ),
        (
            input("image", "BYTES", json!([1]), place("r", 512, 5)),
            400,
            "invalid-request",
            "inputs[0]: shared memory of tensor \"image\": data are not 1 byte strings",
        ),
        (
            input("image", "BOOL", json!([2]), place("r", 600, 2)),
            400,
            "invalid-request",
            "element 1 of BOOL is 2, not 0 or 1",
        ),
        (
            input("image", "INT32", json!([64]), place("r", 0, IMAGE)),
            400,
            "signature-mismatch",
            "image",
        ),
    ] {
        let refused = infer(&server, input, json!([])).await;
        refused.assert_error(status, code, part);
        assert!(status != 404 || refused.text().contains(field), "{}", refused.text());
    }
    let small = json!([output("probabilities", place("r", 0, 39))]);
    let refused = infer(&server, image(place("r", 0, IMAGE)), small).await;
    refused.assert_error(400, "invalid-request", "has 40 bytes, which do not fit into the 39");
    let classes = json!([{ "name": "probabilities", "parameters": { "classification": 2,
        "shared_memory_region": "r", "shared_memory_byte_size": 40 } }]);
    let refused = infer(&server, image(place("r", 0, IMAGE)), classes).await;
    refused.assert_error(400, "invalid-json", "outputs[0].parameters.classification");
    let absent = json!([output("probabilities", place("s", 0, 40))]);
    let refused = infer(&server, image(place("r", 0, IMAGE)), absent).await;
    refused.assert_error(404, "not-found", "outputs[0].parameters.shared_memory_region");
}

#[tokio::test]
async fn nothing_is_written_unless_all_outputs_fit() {
    let server = start();
    deploy_types(&server).await;
    let object = Object::new("partial", 1_024);
    register_all(&server, "r", &object).await;
    let inputs: Vec<_> = datatypes()
        .iter()
        .map(|(dtype, data)| {
            let bytes = if *dtype == "BYTES" { 8 } else { data.len() };
            input(&dtype.to_lowercase(), dtype, json!([2]), place("r", 0, bytes))
        })
        .collect();
    object.write(512, &[9; 512]);
    let outputs = [output("fp32", place("r", 512, 8)), output("int64", place("r", 600, 15))];
    let request = json!({ "inputs": inputs, "outputs": outputs });
    let refused = server.post("/v2/models/types/infer", request.to_string()).await;
    refused.assert_error(400, "invalid-request", "output \"int64\" has 16 bytes");
    assert_eq!(object.read(512, 512), [9; 512]);
}

#[tokio::test]
async fn copies_are_limited_as_bodies_are() {
    let options = NamedTempFile::new().expect("a file");
    let text = format!(
        "[shared_memory]\nprefix = '{PREFIX}'\n[http]\nmax_json_body = '60KiB'\n\
                 body_memory = '64KiB'"
    );
    fs::write(options.path(), text).expect("written");
    let server = Server::start_with(&["--config", options.path().to_str().expect("text")]);
    server.deploy_digits_model().await;
    let object = Object::new("large", 1 << 20);
    register_all(&server, "r", &object).await;
    let rows = |rows: usize| input("image", "FP32", json!([rows, 64]), place("r", 0, rows * IMAGE));
    let refused = infer(&server, rows(241), json!([])).await;
    refused.assert_error(413, "request-too-large", "larger than the limit of 60.0 KiB");
    assert_eq!(infer(&server, rows(240), json!([])).await.status, 200);
    let twice = json!({ "inputs": [rows(200), rows(200)] }).to_string();
    server.post(INFER, twice).await.assert_error(413, "request-too-large", "60.0 KiB");
}

#[tokio::test]
async fn memory_that_is_cut_short_costs_its_request_alone() {
    let server = start();
    server.deploy_digits_model().await;
    let (images, results) = (Object::new("short", IMAGE), Object::new("shorter", PROBABILITIES));
    images.write(0, &points(1.0));
    register_all(&server, "i", &images).await;
    register_all(&server, "o", &results).await;
    let wanted = || json!([output("probabilities", place("o", 0, PROBABILITIES))]);
    assert_eq!(infer(&server, image("i"), wanted()).await.status, 200);
    for bytes in [IMAGE - 1, 1, 0] {
        images.resize(bytes);
        let refused = infer(&server, image("i"), wanted()).await;
        refused.assert_error(400, "invalid-request", "region \"i\" was cut short since");
    }
    images.resize(IMAGE);
    results.resize(PROBABILITIES - 1);
    let refused = infer(&server, image("i"), wanted()).await;
    refused.assert_error(400, "invalid-request", "region \"o\" was cut short since");
    assert_eq!(results.size(), PROBABILITIES as u64 - 1, "it is not made longer");

    // Again and again, while it is used.
    let stop = Arc::new(AtomicBool::new(false));
    let cutting = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                for object in [&images, &results] {
                    object.resize(0);
                    object.resize(IMAGE);
                }
            }
            (images, results)
        }
    });
    for _ in 0..200 {
        let answered = infer(&server, image("i"), wanted()).await;
        if answered.status != 200 {
            answered.assert_error(400, "invalid-request", "was cut short since");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (images, _results) = cutting.join().expect("cuts");
    images.write(0, &points(1.0));
    assert_eq!(infer(&server, image("i"), wanted()).await.status, 200);
    server.stop();
}

#[tokio::test]
async fn a_region_that_goes_away_is_used_to_the_end_or_not_found() {
    let server = start();
    server.deploy_digits_model().await;
    let object = Object::new("leaves", IMAGE + PROBABILITIES);
    object.write(0, &points(5.0));
    let wanted = || json!([output("probabilities", place("r", IMAGE, PROBABILITIES))]);
    register_all(&server, "r", &object).await;
    assert_eq!(infer(&server, image("r"), wanted()).await.status, 200);
    let expected = object.read(IMAGE, PROBABILITIES);
    let coming_and_going = async {
        for _ in 0..100 {
            server.post("/v2/systemsharedmemory/unregister", "").await;
            register_all(&server, "r", &object).await;
        }
    };
    let calling = async {
        for _ in 0..100 {
            object.write(IMAGE, &[0; PROBABILITIES]);
            let answered = infer(&server, image("r"), wanted()).await;
            if answered.status == 200 {
                assert_eq!(object.read(IMAGE, PROBABILITIES), expected);
            } else {
                answered.assert_error(404, "not-found", "region \"r\" is not registered");
            }
        }
    };
    futures::future::join(coming_and_going, calling).await;
    fs::remove_file(object.path()).expect("is there");
    assert_eq!(infer(&server, image("r"), wanted()).await.status, 200, "the object has no name");
}
