//! Writes the ONNX files that the tests deploy, field by field as in `onnx.proto`.

/// The numbers of element types.
const FLOAT: u64 = 1;
const INT64: u64 = 7;
const STRING: u64 = 8;

/// Where the elements of a weight lie.
pub(crate) enum Data {
    Inside(Vec<f32>),
    /// In this file, from this byte on.
    File(&'static str, u64),
}

/// A weight by its name and shape.
struct Weight {
    name: &'static str,
    dims: Vec<u64>,
    data: Data,
}

/// `y = x + weight`, for rows of two.
pub(crate) fn adding(weight: Data) -> Vec<u8> {
    let weights = [Weight { name: "w", dims: vec![2], data: weight }];
    let nodes: [(&str, &[&str], &str); 1] = [("Add", &["x", "w"], "y")];
    model(&nodes, &weights, (2, 2))
}

/// `y = x · wide · narrow`, for rows of `inner` ones: `wide` has `inner` × `width` elements.
pub(crate) fn multiplying(inner: u64, width: u64) -> Vec<u8> {
    let ones = |dims: [u64; 2]| Data::Inside(vec![1.0; (dims[0] * dims[1]) as usize]);
    let weight = |name, dims: [u64; 2]| Weight { name, dims: dims.to_vec(), data: ones(dims) };
    let weights = [weight("wide", [inner, width]), weight("narrow", [width, 1])];
    let nodes: [(&str, &[&str], &str); 2] =
        [("MatMul", &["x", "wide"], "h"), ("MatMul", &["h", "narrow"], "y")];
    model(&nodes, &weights, (inner, 1))
}

/// `y = x`, for rows of two texts.
pub(crate) fn echoing_texts() -> Vec<u8> {
    let port = |name| port(name, STRING, 2);
    let node = bytes(1, &[text(1, "x"), text(2, "y"), text(4, "Identity")].concat());
    file(&[node, text(2, "graph"), bytes(11, &port("x")), bytes(12, &port("y"))].concat())
}

/// Rows of two as rows of three: it loads, but two elements don't make such a row.
pub(crate) fn failing() -> Vec<u8> {
    let shape = [(-1i64).to_le_bytes(), 3i64.to_le_bytes()].concat();
    let shape = [varint_field(1, 2), varint_field(2, INT64), text(8, "shape"), bytes(9, &shape)];
    let nodes: [(&str, &[&str], &str); 1] = [("Reshape", &["x", "shape"], "y")];
    model_with(&nodes, &[], (2, 3), &bytes(5, &shape.concat()))
}

/// An ONNX file that takes seconds to compute: the product of large matrices, again and again.
pub(crate) fn slow_model() -> Vec<u8> {
    const SIDE: u64 = 2_000;
    let tensor_type = |dims: &[u64]| {
        let dims = dims.iter().flat_map(|&dim| bytes(1, &varint_field(1, dim))).collect::<Vec<_>>();
        bytes(1, &[varint_field(1, FLOAT), bytes(2, &dims)].concat())
    };
    let port =
        |name: &str, dims| [bytes(1, name.as_bytes()), bytes(2, &tensor_type(dims))].concat();
    let node = |operator: &str, inputs: [&str; 2], output: &str| {
        let inputs = inputs.map(|input| bytes(1, input.as_bytes())).concat();
        let output = bytes(2, output.as_bytes());
        bytes(1, &[inputs, output, bytes(4, operator.as_bytes())].concat())
    };
    let sides = [SIDE.to_le_bytes(), SIDE.to_le_bytes()].concat();
    let shape =
        [varint_field(1, 2), varint_field(2, INT64), bytes(8, b"shape"), bytes(9, &sides)].concat();
    let mut graph = node("Expand", ["x", "shape"], "m0");
    for step in 0..40 {
        graph.extend(node("MatMul", [&format!("m{step}"), "m0"], &format!("m{}", step + 1)));
    }
    graph.extend(bytes(2, b"slow"));
    graph.extend(bytes(5, &shape));
    graph.extend(bytes(11, &port("x", &[1])));
    graph.extend(bytes(12, &port("m40", &[SIDE, SIDE])));
    file(&graph)
}

/// A model of one input `x` and one output `y`, both of rows.
fn model(nodes: &[(&str, &[&str], &str)], weights: &[Weight], columns: (u64, u64)) -> Vec<u8> {
    model_with(nodes, weights, columns, &[])
}

fn model_with(
    nodes: &[(&str, &[&str], &str)],
    weights: &[Weight],
    (columns_in, columns_out): (u64, u64),
    extra: &[u8],
) -> Vec<u8> {
    let node = |(operator, inputs, output): &(&str, &[&str], &str)| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
        bytes(1, &[inputs, text(2, output), text(4, operator)].concat())
    };
    let graph = [
        nodes.iter().flat_map(node).collect(),
        text(2, "graph"),
        weights.iter().flat_map(|weight| bytes(5, &tensor(weight))).collect(),
        extra.to_vec(),
        bytes(11, &port("x", FLOAT, columns_in)),
        bytes(12, &port("y", FLOAT, columns_out)),
    ];
    file(&graph.concat())
}

fn file(graph: &[u8]) -> Vec<u8> {
    let operators = bytes(8, &varint_field(2, 17));
    [varint_field(1, 8), bytes(7, graph), operators].concat()
}

fn tensor(weight: &Weight) -> Vec<u8> {
    let dims: Vec<u8> = weight.dims.iter().flat_map(|dim| varint_field(1, *dim)).collect();
    let data = match &weight.data {
        Data::Inside(values) => bytes(9, &floats(values)),
        Data::File(path, offset) => {
            let length = 4 * weight.dims.iter().product::<u64>();
            let entry =
                |key: &str, value: &str| bytes(13, &[text(1, key), text(2, value)].concat());
            [
                entry("location", path),
                entry("offset", &offset.to_string()),
                entry("length", &length.to_string()),
                varint_field(14, 1),
            ]
            .concat()
        }
    };
    [dims, varint_field(2, FLOAT), text(8, weight.name), data].concat()
}

pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn port(name: &str, element: u64, columns: u64) -> Vec<u8> {
    let rows = bytes(1, &text(2, "rows"));
    let columns = bytes(1, &varint_field(1, columns));
    let shape = bytes(2, &[rows, columns].concat());
    let tensor = bytes(1, &[varint_field(1, element), shape].concat());
    [text(1, name), bytes(2, &tensor)].concat()
}

fn text(number: u64, text: &str) -> Vec<u8> {
    bytes(number, text.as_bytes())
}

/// A length-delimited field.
fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | 2)[..], &varint(content.len() as u64), content].concat()
}

fn varint_field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
