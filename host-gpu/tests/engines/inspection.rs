//! What is read from a file, and that no file, however broken, does more than be refused.

use prost::Message as _;
use quern_host_gpu::{BatchCandidate, InspectError, inspect};
use quern_types::Side;
use tract_onnx::pb;

use crate::graphs::{Dim, Fixed, Graph, Named, Onnx, Open, doubling, port, two_by_two};

fn described(onnx: &[u8]) -> String {
    let outline = inspect(onnx).expect("a model");
    let specs = [outline.signature.inputs(), outline.signature.outputs()].map(|specs| {
        let spec =
            specs.iter().map(|spec| format!("{} {} {:?}", spec.name, spec.dtype, spec.shape));
        spec.collect::<Vec<_>>().join(", ")
    });
    specs.join(" -> ")
}

#[test]
fn the_signature_is_the_graphs() {
    assert_eq!(
        described(&two_by_two().encode()),
        "a FP32 [-1, 2], b FP32 [-1, 3] -> sum FP32 [-1, 2], top FP32 [-1, 2]"
    );
}

#[test]
fn the_shape_of_an_output_is_inferred_where_the_file_lacks_it() {
    let onnx = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .floats("w", &[3, 5], &[0.5; 15])
        .node("MatMul", &["x", "w"], "y")
        .output_without_shape("y", Onnx::Float)
        .encode();
    assert_eq!(described(&onnx), "x FP32 [-1, 3] -> y FP32 [-1, 5]");
    assert_eq!(inspect(&onnx).expect("a model").batch, BatchCandidate::Rows);
}

/// Dimensions of two inputs and an output, and why they have no rows in common.
type Case<'a> = (&'a [Dim], &'a [Dim], &'a [Dim], Option<&'a str>);

#[test]
fn rows_are_a_candidate_only_where_every_tensor_has_them() {
    let model = |input: &[Dim], other: &[Dim], output: &[Dim]| {
        Graph::default()
            .input("a", Onnx::Float, input)
            .input("b", Onnx::Float, other)
            .output("y", Onnx::Float, output)
            .node("Add", &["a", "b"], "y")
            .encode()
    };
    let row: &[Dim] = &[Named("batch"), Fixed(3)];
    let cases: [Case; 9] = [
        (row, row, row, None),
        (&[Open, Fixed(3)], row, &[Named("y_dim_0"), Fixed(3)], None),
        (
            row,
            &[Named("n")],
            row,
            Some("the first dimension of input \"a\" is \"batch\", that of \"b\" is \"n\""),
        ),
        (row, &[Fixed(3)], row, Some("the first dimension of input \"b\" is always 3")),
        (row, &[], row, Some("input \"b\" has no dimensions")),
        (row, row, &[Fixed(1)], Some("the first dimension of output \"y\" is always 1")),
        (row, row, &[], Some("output \"y\" has no dimensions")),
        (&[Named("batch"), Named("length")], &[Open, Open], &[Open, Named("length")], None),
        (
            &[Named("batch"), Fixed(3), Named("batch")],
            row,
            row,
            Some("dimension 2 of input \"a\" is \"batch\" as well"),
        ),
    ];
    for (input, other, output, reason) in cases {
        let expected = reason
            .map_or(BatchCandidate::Rows, |reason| BatchCandidate::None { reason: reason.into() });
        assert_eq!(inspect(&model(input, other, output)).expect("a model").batch, expected);
    }
    let constant = Graph::default().floats("c", &[1], &[1.]).node("Identity", &["c"], "y").output(
        "y",
        Onnx::Float,
        &[Fixed(1)],
    );
    let reason = "it has no inputs".to_owned();
    assert_eq!(
        inspect(&constant.encode()).expect("a model").batch,
        BatchCandidate::None { reason }
    );
}

#[test]
fn each_fault_of_a_file_is_named() {
    let named = |name: &str| Graph::default().input(name, Onnx::Float, &[Open]);
    let mut sequence = named("x").output("y", Onnx::Float, &[Open]);
    sequence.0.input[0].r#type = Some(pb::TypeProto::default());
    let mut shapeless = doubling(Onnx::Float);
    shapeless.0.input[0] = port("x", Onnx::Float, None);
    let mut external = doubling(Onnx::Float).floats("w", &[1], &[]);
    external.0.initializer[0].data_location = Some(1);
    let mut hidden = doubling(Onnx::Float);
    hidden.0.node[0].attribute.push(pb::AttributeProto {
        t: Some(pb::TensorProto {
            name: "v".into(),
            external_data: vec![pb::StringStringEntryProto::default()],
            ..Default::default()
        }),
        ..Default::default()
    });
    let uninferable =
        named("x").node("Frobnicate", &["x"], "y").output_without_shape("y", Onnx::Float);
    let cases: [(Graph, &str); 8] = [
        (named("x"), "the graph has no outputs"),
        (sequence, "input \"x\" is without a type: only dense tensors are supported"),
        (
            doubling(Onnx::Float8e5m2),
            "input \"x\" has elements of ONNX type FLOAT8E5M2, which is not supported",
        ),
        (
            shapeless,
            "input \"x\" has no shape: export the model with one, with named dimensions where they may vary",
        ),
        (
            external,
            "tensor \"w\" has its data in another file: deploy the model's folder, or save the model as a single file",
        ),
        (
            hidden,
            "tensor \"v\" has its data in another file: deploy the model's folder, or save the model as a single file",
        ),
        (
            named("x").input("x", Onnx::Float, &[Open]).output("y", Onnx::Float, &[Open]),
            "the graph can't be called: input \"x\" is declared more than once",
        ),
        (
            named("").output("y", Onnx::Float, &[Open]),
            "the graph can't be called: input 0 has an empty name",
        ),
    ];
    for (graph, expected) in cases {
        let error = inspect(&graph.encode()).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    let error =
        inspect(&uninferable.encode()).expect_err("an unknown operator has unknown outputs");
    assert!(matches!(&error, InspectError::UnknownOutput { name, .. } if name == "y"), "{error}");
    let graphless = pb::ModelProto { ir_version: 8, ..Default::default() };
    assert_eq!(inspect(&graphless.encode_to_vec()), Err(InspectError::NoGraph));
    assert!(matches!(inspect(b"\x00asm"), Err(InspectError::NotOnnx { .. })));
    let error = inspect(&doubling(Onnx::Complex64).encode()).expect_err("pairs");
    assert!(matches!(error, InspectError::ElementType { side: Side::Input, .. }));
}

#[test]
fn a_value_that_is_no_dense_tensor_is_named_with_what_it_is() {
    // What is decoded has no fields for these: written by hand, an empty message each.
    let typed = |field: u8| {
        let name = [&[1 << 3 | 2, 1][..], b"s"].concat();
        let kind = [2 << 3 | 2, 2, field << 3 | 2, 0];
        let port = [&name[..], &kind].concat();
        let inside = doubling(Onnx::Float).0.encode_to_vec();
        let graph = [&inside[..], &[12 << 3 | 2, port.len() as u8], &port].concat();
        [&[7 << 3 | 2, graph.len() as u8][..], &graph].concat()
    };
    let cases = [
        (4, "output \"s\" is a sequence: only dense tensors are supported"),
        (5, "output \"s\" is a map: only dense tensors are supported"),
        (8, "output \"s\" is a sparse tensor: only dense tensors are supported"),
        (9, "output \"s\" is an optional value: only dense tensors are supported"),
    ];
    for (field, expected) in cases {
        assert_eq!(inspect(&typed(field)).expect_err(expected).to_string(), expected);
    }
}

#[test]
fn sparse_weights_that_stand_among_the_inputs_are_not_asked_for() {
    let mut graph = doubling(Onnx::Float).input("w", Onnx::Float, &[Fixed(3)]);
    let values = crate::graphs::tensor("w", Onnx::Float, &[0], vec![]);
    let sparse = pb::SparseTensorProto { values: Some(values), dims: vec![3], indices: None };
    graph.0.sparse_initializer.push(sparse);
    assert_eq!(described(&graph.encode()), "x FP32 [-1, 3] -> y FP32 [-1, 3]");
}

#[test]
fn truncated_and_mutated_files_are_refused_or_read_and_never_panic() {
    let shapeless = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .floats("w", &[3, 5], &[0.5; 15])
        .node("MatMul", &["x", "w"], "y")
        .output_without_shape("y", Onnx::Float);
    let files = [two_by_two().encode(), shapeless.encode()];
    let (mut refused, mut read) = (0, 0);
    let mut check = |onnx: &[u8]| match inspect(onnx) {
        Ok(_) => read += 1,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            refused += 1;
        }
    };
    let mut random = 0x5eed_u64;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for file in &files {
        (0..file.len()).for_each(|end| check(&file[..end]));
        for _ in 0..3000 {
            let mut mutated = file.clone();
            for _ in 0..1 + next(4) {
                let at = next(mutated.len());
                match next(4) {
                    0 => mutated[at] = next(256) as u8,
                    1 => mutated[at] ^= 1 << next(8),
                    2 => _ = mutated.remove(at),
                    _ => mutated.insert(at, next(256) as u8),
                }
            }
            check(&mutated);
        }
    }
    assert!(refused > 1000 && read > 100, "{refused} refused, {read} read: mutations are too tame");
}
