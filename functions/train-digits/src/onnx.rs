//! Writes ONNX files, field by field as in `onnx.proto`: graphs of one input and one output.

/// Numbers of element types.
const FLOAT: u64 = 1;
const INT64: u64 = 7;
/// What is written: opset 17 came with version 8 of the format.
const FORMAT: u64 = 8;
const OPSET: u64 = 17;

/// A graph that grows by its constants and nodes.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<u8>,
    constants: Vec<u8>,
}

/// What a node is told beside its inputs.
pub(crate) enum Attribute<'a> {
    Integer(&'a str, i64),
    Integers(&'a str, &'a [i64]),
}

impl Graph {
    /// A constant of floats.
    pub(crate) fn floats(&mut self, name: &str, shape: &[u64], elements: &[f32]) {
        let elements: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        self.constant(name, FLOAT, shape, &elements);
    }

    /// A list of integers.
    pub(crate) fn integers(&mut self, name: &str, elements: &[i64]) {
        let bytes: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        self.constant(name, INT64, &[elements.len() as u64], &bytes);
    }

    fn constant(&mut self, name: &str, element_type: u64, shape: &[u64], elements: &[u8]) {
        let mut tensor = Vec::new();
        for size in shape {
            number(&mut tensor, 1, *size);
        }
        number(&mut tensor, 2, element_type);
        bytes(&mut tensor, 8, name.as_bytes());
        bytes(&mut tensor, 9, elements);
        bytes(&mut self.constants, 5, &tensor);
    }

    /// A node; its name is that of its output. Nodes come after those that they need.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Attribute<'_>],
    ) {
        let mut node = Vec::new();
        for input in inputs {
            bytes(&mut node, 1, input.as_bytes());
        }
        bytes(&mut node, 2, output.as_bytes());
        bytes(&mut node, 3, output.as_bytes());
        bytes(&mut node, 4, operator.as_bytes());
        for attribute in attributes {
            bytes(&mut node, 5, &attribute.message());
        }
        bytes(&mut self.nodes, 1, &node);
    }

    /// The file of it, with an input and an output of rows of so many floats.
    pub(crate) fn file(self, name: &str, input: (&str, u64), output: (&str, u64)) -> Vec<u8> {
        let mut graph = self.nodes;
        bytes(&mut graph, 2, name.as_bytes());
        graph.extend(self.constants);
        bytes(&mut graph, 11, &port(input));
        bytes(&mut graph, 12, &port(output));

        let mut file = Vec::new();
        number(&mut file, 1, FORMAT);
        bytes(&mut file, 2, env!("CARGO_PKG_NAME").as_bytes());
        bytes(&mut file, 7, &graph);
        let mut opset = Vec::new();
        number(&mut opset, 2, OPSET);
        bytes(&mut file, 8, &opset);
        file
    }
}

impl Attribute<'_> {
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        match *self {
            Self::Integer(name, value) => {
                bytes(&mut message, 1, name.as_bytes());
                number(&mut message, 3, value as u64);
                number(&mut message, 20, 2);
            }
            Self::Integers(name, values) => {
                bytes(&mut message, 1, name.as_bytes());
                for value in values {
                    number(&mut message, 8, *value as u64);
                }
                number(&mut message, 20, 7);
            }
        }
        message
    }
}

/// An input or output of any number of rows.
fn port((name, columns): (&str, u64)) -> Vec<u8> {
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    bytes(&mut rows, 2, b"batch");
    number(&mut row, 1, columns);
    let mut shape = Vec::new();
    bytes(&mut shape, 1, &rows);
    bytes(&mut shape, 1, &row);
    let mut tensor = Vec::new();
    number(&mut tensor, 1, FLOAT);
    bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut port = Vec::new();
    bytes(&mut port, 1, name.as_bytes());
    bytes(&mut port, 2, &kind);
    port
}

/// A field of a number.
fn number(message: &mut Vec<u8>, field: u64, value: u64) {
    varint(message, field << 3);
    varint(message, value);
}

/// A field of text, bytes or another message.
fn bytes(message: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, value.len() as u64);
    message.extend_from_slice(value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let cases: [(u64, &[u8]); 4] = [
            (0, &[0]),
            (127, &[127]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ];
        for (value, expected) in cases {
            let mut written = Vec::new();
            varint(&mut written, value);
            assert_eq!(written, expected, "{value}");
        }
    }

    #[test]
    fn a_node_has_its_inputs_output_operator_and_attributes() {
        let mut graph = Graph::default();
        graph.node("Gemm", &["x", "w"], "y", &[Attribute::Integer("transB", 1)]);
        let expected = b"\x0a\x21\x0a\x01x\x0a\x01w\x12\x01y\x1a\x01y\x22\x04Gemm\x2a\x0d\x0a\x06transB\x18\x01\xa0\x01\x02";
        assert_eq!(graph.nodes, expected);
    }

    #[test]
    fn a_constant_has_its_shape_type_name_and_elements() {
        let mut graph = Graph::default();
        graph.integers("s", &[-1]);
        let expected = b"\x2a\x11\x08\x01\x10\x07\x42\x01s\x4a\x08\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(graph.constants, expected);
    }
}
