//! Inference as clients of other servers ask for it: binary tensors, compression, classification,
//! parameters, and whatever can be wrong with them.

use std::io::{Read, Write};

use flate2::{
    Compression,
    read::{GzDecoder, ZlibDecoder},
    write::{GzEncoder, ZlibEncoder},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    DIGITS, ECHO,
    support::{Answer, Server, answer},
};

const INFER: &str = "/v2/models/digits-mlp/infer";

/// The datatypes, and two elements of each.
pub(crate) fn datatypes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("BOOL", vec![0, 1]),
        ("UINT8", vec![0, 255]),
        ("UINT16", vec![0, 1, 255, 255]),
        ("UINT32", vec![0, 1, 2, 3, 255, 255, 255, 255]),
        ("UINT64", vec![255; 16]),
        ("INT8", vec![128, 127]),
        ("INT16", vec![0, 128, 255, 127]),
        ("INT32", vec![0, 0, 0, 128, 1, 0, 0, 0]),
        ("INT64", vec![254; 16]),
        ("FP16", vec![0, 60, 0, 124]),
        ("BF16", vec![128, 63, 128, 127]),
        ("FP32", [1.5f32, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ("FP64", [-0.1f64, f64::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ("BYTES", vec![2, 0, 0, 0, 0xff, 0, 0, 0, 0, 0]),
    ]
}

/// Deploys a function that gives back inputs of every datatype, in the opposite order.
pub(crate) async fn deploy_types(server: &Server) {
    let mut manifest = String::from("name = 'types'\nkind = 'inference'\n");
    let declare = |side: &str, dtype: &str| {
        let name = dtype.to_lowercase();
        format!("[[{side}]]\nname = '{name}'\ndtype = '{dtype}'\nshape = [-1]\n")
    };
    let datatypes = datatypes();
    manifest.extend(datatypes.iter().map(|(dtype, _)| declare("inputs", dtype)));
    manifest.extend(datatypes.iter().rev().map(|(dtype, _)| declare("outputs", dtype)));
    let deployed = server.upload("types", manifest, ECHO.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
}

/// A request whose body is JSON and binary data behind it.
fn divided(server: &Server, path: &str, json: &Value, binary: &[u8]) -> RequestBuilder {
    let json = json.to_string();
    let length = json.len();
    let body = [json.as_bytes(), binary].concat();
    server.request(Method::POST, path).header("inference-header-content-length", length).body(body)
}

/// The JSON of an answer, and the binary data behind it.
fn parts(answer: &Answer) -> (Value, &[u8]) {
    let length = answer.header("inference-header-content-length").parse().expect("a length");
    let (json, binary) = answer.body.split_at(length);
    (serde_json::from_slice(json).expect("JSON"), binary)
}

fn binary_input(name: &str, shape: Value, datatype: &str, size: usize) -> Value {
    json!({ "name": name, "shape": shape, "datatype": datatype,
            "parameters": { "binary_data_size": size } })
}

fn image(rows: usize) -> Vec<u8> {
    (0..rows * 64).flat_map(|pixel| ((pixel % 17) as f32).to_le_bytes()).collect()
}

fn image_json(rows: usize) -> Value {
    let pixels: Vec<_> = (0..rows * 64).map(|pixel| pixel % 17).collect();
    json!([{ "name": "image", "shape": [rows, 64], "datatype": "FP32", "data": pixels }])
}

/// The elements of the only output in JSON.
fn numbers(answer: &Value) -> Vec<f64> {
    let data = answer["outputs"][0]["data"].as_array().expect("data");
    data.iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn floats(binary: &[u8]) -> Vec<f32> {
    binary.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
}

#[tokio::test]
async fn every_datatype_passes_in_binary() {
    let server = Server::start();
    deploy_types(&server).await;
    let datatypes = datatypes();
    let inputs: Vec<_> = datatypes
        .iter()
        .map(|(dtype, data)| binary_input(&dtype.to_lowercase(), json!([2]), dtype, data.len()))
        .collect();
    let request = json!({ "id": "all", "inputs": inputs,
                          "parameters": { "binary_data_output": true } });
    let data: Vec<u8> = datatypes.iter().flat_map(|(_, data)| data.clone()).collect();
    let answered = answer(divided(&server, "/v2/models/types/infer", &request, &data)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.header("content-type"), "application/octet-stream");
    let (json, mut binary) = parts(&answered);
    assert_eq!(json["id"], "all");
    let outputs = json["outputs"].as_array().expect("outputs");
    for (output, (dtype, data)) in outputs.iter().zip(datatypes.iter().rev()) {
        let expected = binary_input(&dtype.to_lowercase(), json!([2]), dtype, data.len());
        assert_eq!(*output, expected);
        let (own, rest) = binary.split_at(data.len());
        assert_eq!(own, data, "{dtype}");
        binary = rest;
    }
    assert_eq!((outputs.len(), binary.len()), (datatypes.len(), 0));
}

#[tokio::test]
async fn outputs_are_binary_or_json_as_each_says() {
    let server = Server::start();
    server.deploy(&ECHO).await;
    let inputs = json!([
        binary_input("floats", json!([1, 2]), "FP32", 8),
        { "name": "words", "shape": [1], "datatype": "BYTES", "data": ["é"] },
    ]);
    let outputs = json!([
        { "name": "floats", "parameters": { "binary_data": false } },
        { "name": "words" },
    ]);
    let request = json!({ "inputs": inputs, "outputs": outputs,
                          "parameters": { "binary_data_output": true } });
    let pixels = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
    let answered = answer(divided(&server, "/v2/models/echo/infer", &request, &pixels)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let (json, binary) = parts(&answered);
    assert_eq!(json["outputs"][0]["data"], json!([1.5, -2.0]));
    assert_eq!(json["outputs"][1]["parameters"], json!({ "binary_data_size": 6 }));
    assert_eq!(binary, [&[2, 0, 0, 0][..], "é".as_bytes()].concat());
}

#[tokio::test]
async fn what_json_can_not_hold_is_refused_with_a_hint() {
    let server = Server::start();
    deploy_types(&server).await;
    let input = json!({ "name": "fp16", "shape": [1], "datatype": "FP16", "data": [1.0] });
    let refused = server.infer("types", json!([input])).await;
    refused.assert_error(400, "invalid-json", "FP16 has no form in JSON: send it as binary data");
    let refused = server.infer("types", json!([])).await;
    refused.assert_error(400, "invalid-request", "ask for it as binary data");
}

#[tokio::test]
async fn a_body_alone_is_the_only_input() {
    let server = Server::start();
    server.deploy_digits_model().await;
    for rows in [1, 3] {
        let raw = server.request(Method::POST, INFER).header("inference-header-content-length", 0);
        let raw = answer(raw.body(image(rows))).await;
        assert_eq!(raw.status, 200, "{}", raw.text());
        let (json, binary) = parts(&raw);
        assert_eq!(json["outputs"][0]["shape"], json!([rows, 10]));
        let in_json = server.infer("digits-mlp", image_json(rows)).await.json();
        for (one, other) in floats(binary).into_iter().zip(numbers(&in_json)) {
            assert!((f64::from(one) - other).abs() < 1e-5, "{one} instead of {other}");
        }
    }
    let cut = server.request(Method::POST, INFER).header("inference-header-content-length", 0);
    let cut = answer(cut.body(vec![0; 255])).await;
    cut.assert_error(400, "invalid-request", "a body of 255 bytes makes no input \"image\"");
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn bodies_are_compressed_both_ways() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let request = json!({ "inputs": [binary_input("image", json!([40, 64]), "FP32", 40 * 256)],
                          "parameters": { "binary_data_output": true } });
    let plain = answer(divided(&server, INFER, &request, &image(40))).await;
    assert_eq!(plain.status, 200, "{}", plain.text());
    assert_eq!(plain.header("content-encoding"), "");
    let (head, _) = parts(&plain);

    let body = [request.to_string().into_bytes(), image(40)].concat();
    for (encoding, compressed) in [("gzip", gzip(&body)), ("deflate", deflate(&body))] {
        let request = divided(&server, INFER, &request, &[]).body(compressed);
        let request = request.header("content-encoding", encoding);
        let answered = answer(request.header("accept-encoding", encoding)).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_eq!(answered.header("content-encoding"), encoding);
        let mut decompressed = Vec::new();
        let read = match encoding {
            "gzip" => GzDecoder::new(&answered.body[..]).read_to_end(&mut decompressed),
            _ => ZlibDecoder::new(&answered.body[..]).read_to_end(&mut decompressed),
        };
        read.expect("is what it says");
        let length: usize =
            answered.header("inference-header-content-length").parse().expect("a length");
        let json: Value = serde_json::from_slice(&decompressed[..length]).expect("JSON");
        assert_eq!(json["outputs"], head["outputs"]);
        assert_eq!(decompressed.len() - length, 40 * 40);
    }
    let small = server.request(Method::POST, INFER).header("accept-encoding", "gzip");
    let small = answer(small.body(json!({ "inputs": image_json(1) }).to_string())).await;
    assert_eq!(small.header("content-encoding"), "", "not worth it");
}

#[tokio::test]
async fn what_is_wrong_with_a_compressed_body_is_said() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let send = async |encoding: &str, body: Vec<u8>| {
        let request = server.request(Method::POST, INFER).header("content-encoding", encoding);
        answer(request.body(body)).await
    };
    let body = json!({ "inputs": image_json(1) }).to_string().into_bytes();
    for (encoding, whole) in [("gzip", gzip(&body)), ("deflate", deflate(&body))] {
        assert_eq!(send(encoding, whole.clone()).await.status, 200);
        let says = format!("body is not {encoding}");
        for length in [0, 1, 10, whole.len() / 2, whole.len() - 1] {
            let cut = send(encoding, whole[..length].to_vec()).await;
            cut.assert_error(400, "invalid-request", &says);
        }
        send(encoding, body.clone()).await.assert_error(400, "invalid-request", &says);
    }
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < 1 << 20);
    let refused = send("gzip", bomb).await;
    refused.assert_error(413, "request-too-large", "larger than the limit of 64.0 MiB");
    send("br", body.clone()).await.assert_error(400, "invalid-request", "\"br\"");
    send("gzip, gzip", gzip(&body)).await.assert_error(400, "invalid-request", "\"gzip, gzip\"");
    assert_eq!(server.infer("digits-mlp", image_json(1)).await.status, 200, "others are served");
}

#[tokio::test]
async fn the_highest_classes_of_each_row_are_given() {
    let server = Server::start();
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let ask = async |target: &str, output: &str, parameters: Value| {
        let outputs = json!([{ "name": output, "parameters": parameters }]);
        let body = json!({ "inputs": image_json(2), "outputs": outputs }).to_string();
        server.post(&format!("/v2/models/{target}/infer"), body).await
    };
    let all = numbers(&server.infer("digits-mlp", image_json(2)).await.json());
    let answered = ask("digits-mlp", "probabilities", json!({ "classification": 3 })).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let output = &answered.json()["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([2, 3])));
    let classes = output["data"].as_array().expect("strings");
    for (row, classes) in all.chunks(10).zip(classes.chunks(3)) {
        let mut expected: Vec<_> = row.iter().copied().enumerate().collect();
        expected.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        for (class, (index, value)) in classes.iter().zip(expected) {
            let class = class.as_str().expect("a string");
            let (score, found) = class.split_once(':').expect("two parts");
            assert_eq!(found, index.to_string());
            let score: f64 = score.parse().expect("a number");
            assert!((score - value).abs() < 1e-5, "{score} instead of {value}");
        }
    }
    let more = ask("digits-mlp", "probabilities", json!({ "classification": 99 })).await.json();
    assert_eq!(more["outputs"][0]["shape"], json!([2, 10]));
    let whole = ask("digits", "probabilities", json!({ "classification": 2 })).await.json();
    assert_eq!(whole["outputs"][0]["shape"], json!([2]), "a function has no rows");
    let negative = ask("digits-mlp", "probabilities", json!({ "classification": -1 })).await;
    let field = "outputs[0].parameters.classification";
    negative.assert_error(400, "invalid-json", field);
}

#[tokio::test]
async fn parameters_are_kept_to_or_refused() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let ask = async |parameters: Value| {
        let body = json!({ "inputs": image_json(1), "parameters": parameters }).to_string();
        server.post(INFER, body).await
    };
    ask(json!({ "timeout": 1 })).await.assert_error(504, "deadline-exceeded", "within 1µs");
    for parameters in [
        json!({}),
        json!({ "timeout": 60_000_000, "priority": 1, "mine": "x", "flag": true, "ratio": 0.5 }),
        json!({ "timeout": 0, "sequence_id": 0 }),
    ] {
        let answered = ask(parameters.clone()).await;
        assert_eq!(answered.status, 200, "{parameters}: {}", answered.text());
    }
    ask(json!({ "timeout": "soon" })).await.assert_error(400, "invalid-json", "parameters.timeout");
    ask(json!({ "priority": -1 })).await.assert_error(400, "invalid-json", "parameters.priority");
    ask(json!({ "mine": [1] })).await.assert_error(400, "invalid-json", "parameters.mine");
    ask(json!({ "sequence_id": 7 })).await.assert_error(400, "unsupported", "sequences");
    let shared = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
                          "parameters": { "shared_memory_region": "r",
                                          "shared_memory_byte_size": 256 } }]);
    let refused = server.infer("digits-mlp", shared).await;
    refused.assert_error(400, "unsupported", "shared memory is not allowed on this server");
}

#[tokio::test]
async fn malformed_requests_name_the_field() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let input = |fields: &str| format!(r#"{{"inputs":[{{"name":"image",{fields}}}]}}"#);
    let data = |data: &str| input(&format!(r#""datatype":"FP32","shape":[1,2],"data":{data}"#));
    let deep = "[".repeat(200_000);
    let dimensions = vec!["1"; 1_000_000].join(",");
    let mut cases = vec![
        (format!(r#"{{"inputs":{deep}"#), "inputs"),
        (format!(r#"{{"parameters":{deep}"#), "parameters"),
        (data(&deep), "input \"image\": data[0][0]: is nested deeper than its shape"),
        (input(&format!(r#""shape":[{dimensions}]"#)), "inputs[0].shape: has more than 16 items"),
        (
            input(r#""datatype":"FP32","shape":[4294967296,4294967296,4294967296],"data":[]"#),
            "has too many elements in its shape",
        ),
        (input(r#""shape":[-1,64]"#), "inputs[0].shape[0]"),
        (input(r#""shape":["64"]"#), "inputs[0].shape[0]"),
        (input(r#""shape":[1e2]"#), "inputs[0].shape[0]"),
        (data(r#"["1","2"]"#), "data[0]: FP32 takes numbers, found a string"),
        (data("[1,null]"), "data[1]: FP32 takes numbers, found null"),
        (data("[1,1e99]"), "data[1]: 1e99 is outside the range of FP32"),
        (data("[[1],[2]]"), "data[0]: has 1 elements, its shape asks for 2"),
        (format!(r#"{{"inputs":[{{"name":"{}"}}]}}"#, "x".repeat(100_000)), "inputs[0].name"),
        (r#"{"inputs":[],"outputs":[{"name":7}]}"#.into(), "outputs[0].name"),
    ];
    cases.extend(
        ["NaN", "Infinity", "-Infinity", "nan"]
            .map(|word| (data(&format!("[1,{word}]")), "data[1]")),
    );
    for (body, part) in cases {
        let shown: String = body.chars().take(100).collect();
        let refused = server.post(INFER, body).await;
        assert_eq!(refused.status, 400, "{shown}: {}", refused.text());
        let error = refused.json();
        let error = error["error"].as_str().expect("the protocol's error");
        assert!(error.contains(part) && error.len() < 400, "{shown}: {error}");
    }
}

#[tokio::test]
async fn binary_sizes_that_disagree_are_refused() {
    let server = Server::start();
    server.deploy_digits_model().await;
    let request = |size: Value| {
        json!({ "inputs": [{ "name": "image", "shape": [1, 64], "datatype": "FP32",
                             "parameters": { "binary_data_size": size } }] })
    };
    let size = "inputs[0].parameters.binary_data_size";
    for (promised, sent, code, part) in [
        (json!(256), 255, "invalid-json", size),
        (json!(256), 257, "invalid-json", "inputs"),
        (json!(255), 255, "invalid-request", "tensor \"image\""),
        (json!(-1), 256, "invalid-json", size),
        (json!(1.5), 256, "invalid-json", size),
        (json!(u64::MAX), 256, "invalid-json", size),
        (json!("256"), 256, "invalid-json", size),
    ] {
        let refused = answer(divided(&server, INFER, &request(promised), &vec![0; sent])).await;
        refused.assert_error(400, code, part);
    }
    let whole = request(json!(256)).to_string();
    server.post(INFER, whole.clone()).await.assert_error(400, "invalid-json", size);
    for length in ["99999", "-1", "x", "", "18446744073709551616"] {
        let request = server.request(Method::POST, INFER).body(whole.clone());
        let refused = answer(request.header("inference-header-content-length", length)).await;
        refused.assert_error(400, "invalid-request", "Inference-Header-Content-Length");
    }
    // JSON that ends before the header says is no JSON.
    let early = divided(&server, INFER, &json!({}), &[]).body(whole);
    answer(early).await.assert_error(400, "invalid-json", "body is not JSON");
}
