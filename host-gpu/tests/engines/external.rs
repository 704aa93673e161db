//! A model whose weights lie in other files becomes one file, or is refused with the tensor named.

use std::collections::HashMap;

use prost::Message as _;
use quern_host_gpu::{InspectError, MergeError, external_files, inspect, merge};
use tract_onnx::pb;

use crate::{
    device::{cpu, engines, floats, load, rows, run, values},
    graphs::{Fixed, Graph, Named, Onnx},
};

const NO_LIMIT: u64 = u64::MAX;

fn entries(pairs: &[(&str, &str)]) -> Vec<pb::StringStringEntryProto> {
    let entry = |(key, value): &(&str, &str)| pb::StringStringEntryProto {
        key: (*key).into(),
        value: (*value).into(),
    };
    pairs.iter().map(entry).collect()
}

fn external(name: &str, dims: &[i64], pairs: &[(&str, &str)]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: Onnx::Float as i32,
        dims: dims.into(),
        external_data: entries(pairs),
        data_location: Some(1),
        ..Default::default()
    }
}

/// `y = x · scale + bias + 1`, where `scale` and `bias` are in two files and 1 is inside, in an
/// attribute.
fn model(scale: pb::TensorProto, bias: pb::TensorProto) -> Vec<u8> {
    let mut graph = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(3)])
        .node("Mul", &["x", "scale"], "scaled")
        .node("Add", &["scaled", "bias"], "moved")
        .floats("one", &[1], &[1.])
        .node("Add", &["moved", "one"], "y");
    graph.0.initializer.extend([scale, bias]);
    graph.encode()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn whole() -> (Vec<u8>, HashMap<&'static str, Vec<u8>>) {
    let scale =
        external("scale", &[3], &[("location", "weights.bin"), ("offset", "4"), ("length", "12")]);
    let bias = external("bias", &[3], &[("location", "./more/bias.bin"), ("checksum", "ignored")]);
    let files = HashMap::from([
        ("weights.bin", bytes(&[9., 2., 3., 4., 9.])),
        ("more/bias.bin", bytes(&[10., 20., 30.])),
    ]);
    (model(scale, bias), files)
}

fn merged(onnx: &[u8], files: &HashMap<&str, Vec<u8>>, limit: u64) -> Result<Vec<u8>, MergeError> {
    merge(onnx, |path| files.get(path).map(Vec::as_slice), limit)
}

#[tokio::test]
async fn a_model_in_several_files_computes_as_one_on_every_engine() {
    let (onnx, files) = whole();
    let found = external_files(&onnx).expect("a model");
    assert_eq!(Vec::from_iter(found), ["more/bias.bin", "weights.bin"]);
    assert!(matches!(inspect(&onnx), Err(InspectError::ExternalData { .. })));
    let onnx = merged(&onnx, &files, NO_LIMIT).expect("all is there");
    assert!(external_files(&onnx).expect("a model").is_empty());
    let device = cpu();
    for engine in engines() {
        let replica = load(&device, &onnx, engine, rows(4)).await.expect("loads");
        let call = vec![floats("x", &[1, 3], &[1., 2., 3.])];
        let replies = run(&*replica, vec![call]).await.expect("runs");
        assert_eq!(values(&replies[0][0]), [13., 27., 43.], "{engine}");
    }
}

#[test]
fn whatever_else_a_model_holds_stays_as_it_is() {
    let (onnx, files) = whole();
    // A field that nobody here knows, at the end of the model.
    let unknown = [(15 << 3) | 2, 3, 1, 2, 3];
    let extended = [&onnx[..], &unknown].concat();
    let (plain, extended) = (
        merged(&onnx, &files, NO_LIMIT).expect("merges"),
        merged(&extended, &files, NO_LIMIT).expect("merges"),
    );
    assert_eq!([&plain[..], &unknown].concat(), extended);
    assert_eq!(merged(&plain, &files, NO_LIMIT), Ok(plain.clone()), "nothing is left to do");
    let decoded = pb::ModelProto::decode(&plain[..]).expect("a model");
    let original = pb::ModelProto::decode(&onnx[..]).expect("a model");
    let names = |model: &pb::ModelProto| -> Vec<String> {
        let graph = model.graph.as_ref().expect("a graph");
        graph.initializer.iter().map(|tensor| tensor.name.clone()).collect()
    };
    assert_eq!(names(&decoded), names(&original));
}

#[test]
fn weights_in_attributes_and_subgraphs_are_found() {
    let hidden = pb::AttributeProto {
        t: Some(external("deep", &[1], &[("location", "w.bin")])),
        ..Default::default()
    };
    let inner = pb::GraphProto {
        node: vec![pb::NodeProto { attribute: vec![hidden], ..Default::default() }],
        ..Default::default()
    };
    let holder = pb::AttributeProto { g: Some(inner), ..Default::default() };
    let mut graph = Graph::default();
    graph.0.node.push(pb::NodeProto { attribute: vec![holder], ..Default::default() });
    let files = HashMap::from([("w.bin", bytes(&[7.]))]);
    let onnx = merged(&graph.encode(), &files, NO_LIMIT).expect("merges");
    let model = pb::ModelProto::decode(&onnx[..]).expect("a model");
    let graph = model.graph.expect("a graph");
    let inner = graph.node[0].attribute[0].g.as_ref().expect("a graph");
    let tensor = inner.node[0].attribute[0].t.as_ref().expect("a tensor");
    assert_eq!((&tensor.raw_data, &*tensor.name), (&bytes(&[7.]), "deep"));
    assert!(tensor.external_data.is_empty() && tensor.data_location.unwrap_or(0) == 0);
}

#[test]
fn what_does_not_fit_is_named() {
    let of = |dims: &[i64], pairs: &[(&str, &str)]| external("w", dims, pairs);
    let here = ("location", "w.bin");
    let strings =
        pb::TensorProto { data_type: Onnx::String as i32, ..of(&[1], &[("location", "w.bin")]) };
    let unknown = pb::TensorProto { data_type: 99, ..of(&[1], &[("location", "w.bin")]) };
    let outside = "which is no path below the model's folder";
    let cases = [
        (
            of(&[1], &[("location", "../w.bin")]),
            format!("tensor \"w\" has its data in \"../w.bin\", {outside}"),
        ),
        (of(&[1], &[("location", "/etc/passwd")]), format!("in \"/etc/passwd\", {outside}")),
        (of(&[1], &[("location", "a\\b")]), outside.to_owned()),
        (of(&[1], &[("location", "")]), outside.to_owned()),
        (of(&[1], &[]), outside.to_owned()),
        (of(&[1], &[("location", "v.bin")]), "in \"v.bin\", which is not there".to_owned()),
        (of(&[1], &[here, ("offset", "-1")]), "the offset \"-1\", which is no number".to_owned()),
        (of(&[1], &[here, ("length", "4 KiB")]), "the length \"4 KiB\"".to_owned()),
        (
            of(&[2], &[here, ("offset", "4"), ("length", "8")]),
            "has 8 bytes of data from byte 4 of \"w.bin\", which has 8".to_owned(),
        ),
        (
            of(&[2], &[here, ("offset", "18446744073709551615"), ("length", "8")]),
            "which has 8".to_owned(),
        ),
        (of(&[2], &[here, ("offset", "9")]), "0 bytes of data from byte 9".to_owned()),
        (of(&[3], &[here]), "has 8 bytes of external data, its shape needs 12".to_owned()),
        (of(&[1], &[here]), "has 8 bytes of external data, its shape needs 4".to_owned()),
        (of(&[-1], &[here]), "of FLOAT and shape [-1] can't have its data".to_owned()),
        (of(&[i64::MAX, i64::MAX], &[here]), "of FLOAT and shape".to_owned()),
        (strings, "of STRING and shape [1] can't have its data in another file".to_owned()),
        (unknown, "of type number 99 and shape [1]".to_owned()),
    ];
    let files = HashMap::from([("w.bin", vec![0; 8])]);
    for (tensor, expected) in cases {
        let onnx = model(tensor, external("v", &[2], &[here]));
        let error = merged(&onnx, &files, NO_LIMIT).expect_err(&expected).to_string();
        assert!(error.contains(&expected), "{error:?} should contain {expected:?}");
    }
    let broken = merged(b"\x00asm", &files, NO_LIMIT);
    assert!(matches!(broken, Err(MergeError::Inspect(InspectError::NotOnnx { .. }))));
}

#[test]
fn many_tensors_of_the_same_bytes_do_not_grow_beyond_the_limit() {
    let mut graph = Graph::default();
    let weights = vec![0; 1 << 20];
    let dims = [1 << 18];
    for number in 0..1000 {
        let name = format!("w{number}");
        graph.0.initializer.push(external(&name, &dims, &[("location", "w.bin")]));
    }
    let files = HashMap::from([("w.bin", weights)]);
    let onnx = graph.encode();
    let limit = 10 << 20;
    match merged(&onnx, &files, limit) {
        Err(MergeError::TooLarge { bytes, limit: named }) => {
            assert_eq!(named, limit);
            assert!((limit..limit + (2 << 20)).contains(&bytes), "stops at once: {bytes}");
        }
        other => panic!("{:?}", other.map(|onnx| onnx.len())),
    }
}

#[test]
fn no_limit_of_the_caller_exceeds_what_protobuf_holds() {
    let mut graph = Graph::default();
    for number in 0..3000 {
        let name = format!("w{number}");
        graph.0.initializer.push(external(&name, &[1 << 18], &[("location", "w.bin")]));
    }
    let files = HashMap::from([("w.bin", vec![0; 1 << 20])]);
    let limit = i32::MAX as u64;
    let refused = merged(&graph.encode(), &files, NO_LIMIT);
    assert!(matches!(refused, Err(MergeError::TooLarge { limit: named, .. }) if named == limit));
}
