//! The answer to an inference request, written straight into its bytes; binary data are passed on
//! without a copy. A value that JSON can't write is an error, never `null`.

use std::io::Write;

use bytes::Bytes;
use quern_types::{DataType, QualifiedName, Tensor, VersionNumber};
use serde::Serialize;

use super::outputs::{Form, Output};

/// What is answered.
pub(crate) struct Answer<'a> {
    pub(crate) model: &'a QualifiedName,
    pub(crate) version: VersionNumber,
    pub(crate) id: Option<&'a str>,
    pub(crate) outputs: &'a [Output],
}

/// An answer as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) json: Bytes,
    /// What follows the JSON; none if no output is binary.
    pub(crate) binary: Option<Vec<Bytes>>,
}

/// Why outputs can't be written as JSON.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum EncodeError {
    /// NaN or an infinity.
    #[error(
        "output {output:?} has {value} at element {index}, which JSON can't write: ask for it as \
         binary data"
    )]
    NotFinite {
        /// The output.
        output: String,
        /// Row-major index of the element.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A byte string that is no text.
    #[error(
        "output {output:?} has bytes at element {index} that are not UTF-8: ask for it as binary \
         data"
    )]
    NotText {
        /// The output.
        output: String,
        /// Row-major index of the element.
        index: usize,
    },
    /// A type without a form in JSON.
    #[error("output {output:?} is {dtype}, which has no form in JSON: ask for it as binary data")]
    NoJson {
        /// The output.
        output: String,
        /// Its type.
        dtype: DataType,
    },
}

impl Answer<'_> {
    /// The answer in JSON, and the data of the outputs that are binary.
    pub(crate) fn encode(&self) -> Result<Encoded, EncodeError> {
        let in_json = self.outputs.iter().filter(|output| output.form == Form::Json);
        let bytes = in_json.map(|output| output.tensor.data().len() * 3).sum::<usize>();
        let mut out = Vec::with_capacity(160 + 128 * self.outputs.len() + bytes);
        out.extend_from_slice(b"{\"model_name\":");
        // No letter of a name needs an escape.
        text(&mut out, format_args!("\"{}\"", self.model));
        text(&mut out, format_args!(",\"model_version\":\"{}\"", self.version));
        if let Some(id) = self.id {
            out.extend_from_slice(b",\"id\":");
            json(&mut out, id);
        }
        out.extend_from_slice(b",\"outputs\":[");
        for (position, Output { tensor, form }) in self.outputs.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"name\":");
            json(&mut out, &**tensor.name());
            text(&mut out, format_args!(",\"datatype\":\"{}\",\"shape\":", tensor.dtype()));
            json(&mut out, tensor.shape());
            let size = tensor.data().len();
            match form {
                Form::Json => {
                    out.extend_from_slice(b",\"data\":");
                    data(&mut out, tensor)?;
                }
                Form::Binary => {
                    text(&mut out, format_args!(",\"parameters\":{{\"binary_data_size\":{size}}}"));
                }
                Form::Shared(slot) => {
                    out.extend_from_slice(b",\"parameters\":{\"shared_memory_region\":");
                    json(&mut out, slot.region());
                    if slot.offset() > 0 {
                        text(&mut out, format_args!(",\"shared_memory_offset\":{}", slot.offset()));
                    }
                    text(&mut out, format_args!(",\"shared_memory_byte_size\":{size}}}"));
                }
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        Ok(Encoded { json: out.into(), binary: self.binary() })
    }

    fn binary(&self) -> Option<Vec<Bytes>> {
        let binary = self.outputs.iter().filter(|output| output.form == Form::Binary);
        let data: Vec<_> = binary.map(|output| output.tensor.data().clone()).collect();
        Some(data).filter(|data| !data.is_empty())
    }
}

impl Encoded {
    /// The pieces of the body, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.json).chain(self.binary.iter().flatten())
    }

    /// Bytes of the body.
    pub(crate) fn len(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }
}

fn data(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), EncodeError> {
    let output = || tensor.name().to_string();
    macro_rules! plain {
        ($type:ty) => {
            json(out, &*tensor.to_elements::<$type>())
        };
    }
    macro_rules! floats {
        ($type:ty) => {{
            let elements = tensor.to_elements::<$type>();
            if let Some(index) = elements.iter().position(|x| !x.is_finite()) {
                let value = elements[index].into();
                return Err(EncodeError::NotFinite { output: output(), index, value });
            }
            json(out, &*elements);
        }};
    }
    match tensor.dtype() {
        DataType::Bool => {
            let values = tensor.data().iter().map(|byte| *byte != 0).collect::<Vec<_>>();
            json(out, &values);
        }
        DataType::Uint8 => plain!(u8),
        DataType::Uint16 => plain!(u16),
        DataType::Uint32 => plain!(u32),
        DataType::Uint64 => plain!(u64),
        DataType::Int8 => plain!(i8),
        DataType::Int16 => plain!(i16),
        DataType::Int32 => plain!(i32),
        DataType::Int64 => plain!(i64),
        DataType::Fp32 => floats!(f32),
        DataType::Fp64 => floats!(f64),
        DataType::Bytes => {
            let strings = tensor.strings().enumerate().map(|(index, bytes)| {
                str::from_utf8(bytes).map_err(|_| EncodeError::NotText { output: output(), index })
            });
            json(out, &strings.collect::<Result<Vec<_>, _>>()?);
        }
        dtype @ (DataType::Fp16 | DataType::Bf16) => {
            return Err(EncodeError::NoJson { output: output(), dtype });
        }
    }
    Ok(())
}

fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("numbers and strings are written to memory");
}

fn text(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("memory takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(id: Option<&str>, outputs: &[Tensor]) -> Result<String, String> {
        let in_json = |tensor: &Tensor| Output { tensor: tensor.clone(), form: Form::Json };
        let outputs: Vec<_> = outputs.iter().map(in_json).collect();
        let encoded = encode_as(id, &outputs)?;
        assert_eq!(encoded.binary, None);
        Ok(String::from_utf8(encoded.json.to_vec()).expect("text"))
    }

    fn encode_as(id: Option<&str>, outputs: &[Output]) -> Result<Encoded, String> {
        let model = "digits".parse().expect("a name");
        let answer = Answer { model: &model, version: VersionNumber::FIRST, id, outputs };
        answer.encode().map_err(|error| error.to_string())
    }

    fn tensor(name: &str, dtype: DataType, shape: &[u64], data: &[u8]) -> Tensor {
        Tensor::new(name, dtype, shape.to_vec(), data.to_vec()).expect("valid")
    }

    #[test]
    fn an_answer_has_the_protocols_fields() {
        let floats =
            Tensor::from_elements("p", DataType::Fp32, vec![1, 3], vec![0.1f32, -2.0, 1e-9])
                .expect("valid");
        let longs =
            Tensor::from_elements("n", DataType::Int64, vec![1], vec![i64::MIN]).expect("valid");
        let text = encode(Some("a\"b"), &[floats, longs]).expect("finite");
        assert_eq!(
            text,
            r#"{"model_name":"digits","model_version":"1","id":"a\"b","outputs":[{"name":"p","datatype":"FP32","shape":[1,3],"data":[0.1,-2.0,1e-9]},{"name":"n","datatype":"INT64","shape":[1],"data":[-9223372036854775808]}]}"#
        );
        assert_eq!(
            encode(None, &[]).expect("empty"),
            r#"{"model_name":"digits","model_version":"1","outputs":[]}"#
        );
    }

    #[test]
    fn every_datatype_is_written() {
        let cases: &[(DataType, &[u8], &str)] = &[
            (DataType::Bool, &[1, 0], "[true,false]"),
            (DataType::Uint8, &[255, 0], "[255,0]"),
            (DataType::Uint16, &[255, 255, 1, 0], "[65535,1]"),
            (DataType::Uint32, &[255, 255, 255, 255, 1, 0, 0, 0], "[4294967295,1]"),
            (DataType::Int8, &[255, 1], "[-1,1]"),
            (DataType::Int16, &[255, 255, 1, 0], "[-1,1]"),
            (DataType::Int32, &[255, 255, 255, 255, 1, 0, 0, 0], "[-1,1]"),
            (DataType::Bytes, &[1, 0, 0, 0, b'"', 0, 0, 0, 0], r#"["\"",""]"#),
        ];
        for (dtype, data, expected) in cases {
            let text = encode(None, &[tensor("x", *dtype, &[2], data)]).expect("written");
            assert!(text.ends_with(&format!(r#""data":{expected}}}]}}"#)), "{text}");
        }
        let longs = Tensor::from_elements("x", DataType::Uint64, vec![1], vec![u64::MAX]);
        let doubles = Tensor::from_elements("y", DataType::Fp64, vec![1], vec![0.1 + 0.2]);
        let text = encode(None, &[longs.expect("valid"), doubles.expect("valid")]).expect("ok");
        assert!(text.contains("18446744073709551615") && text.contains("0.30000000000000004"));
    }

    #[test]
    fn binary_data_follow_the_json_without_a_copy() {
        let output = |tensor: Tensor, binary| Output { tensor, form: Form::of(binary) };
        let outputs = [
            output(tensor("a", DataType::Fp16, &[2], &[1, 2, 3, 4]), true),
            output(tensor("b", DataType::Uint8, &[1], &[7]), false),
            output(tensor("c", DataType::Fp32, &[0], &[]), true),
        ];
        let encoded = encode_as(None, &outputs).expect("written");
        assert_eq!(
            String::from_utf8_lossy(&encoded.json),
            r#"{"model_name":"digits","model_version":"1","outputs":[{"name":"a","datatype":"FP16","shape":[2],"parameters":{"binary_data_size":4}},{"name":"b","datatype":"UINT8","shape":[1],"data":[7]},{"name":"c","datatype":"FP32","shape":[0],"parameters":{"binary_data_size":0}}]}"#
        );
        let [a, c] = &encoded.binary.as_ref().expect("binary")[..] else { panic!("{encoded:?}") };
        assert_eq!((a.as_ptr(), c.len()), (outputs[0].tensor.data().as_ptr(), 0));
        assert_eq!(encoded.len(), encoded.json.len() + 4);
        assert_eq!(encoded.pieces().count(), 3);
    }

    #[test]
    fn what_json_can_not_write_is_named() {
        let cases = [
            (
                DataType::Fp32,
                bytemuck::cast_slice(&[1f32, f32::NAN]).to_vec(),
                "output \"x\" has NaN at element 1, which JSON can't write: ask for it as binary data",
            ),
            (
                DataType::Fp64,
                bytemuck::cast_slice(&[f64::INFINITY, 1.]).to_vec(),
                "output \"x\" has inf at element 0, which JSON can't write: ask for it as binary data",
            ),
            (
                DataType::Bytes,
                vec![0, 0, 0, 0, 1, 0, 0, 0, 0xff],
                "output \"x\" has bytes at element 1 that are not UTF-8: ask for it as binary data",
            ),
            (
                DataType::Fp16,
                vec![0; 4],
                "output \"x\" is FP16, which has no form in JSON: ask for it as binary data",
            ),
            (
                DataType::Bf16,
                vec![0; 4],
                "output \"x\" is BF16, which has no form in JSON: ask for it as binary data",
            ),
        ];
        for (dtype, data, message) in cases {
            let outputs = [tensor("x", dtype, &[2], &data)];
            assert_eq!(encode(None, &outputs), Err(message.into()));
        }
    }
}
