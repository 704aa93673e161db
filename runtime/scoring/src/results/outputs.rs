//! The outputs of a call row by row, and their elements as texts. Never knows where they stand in a
//! line.

use half::{bf16, f16};
use quern_types::{DataType, Tensor, byte_strings};

use crate::plan::Layout;

/// Outputs of some rows, which are taken one after the other.
pub(super) struct Outputs {
    tensors: Vec<Output>,
}

struct Output {
    tensor: Tensor,
    /// The shape of one row.
    shape: Vec<u64>,
    /// Where the next row's data begin.
    at: usize,
}

/// One output of one row.
#[derive(Debug)]
pub(super) struct RowOutput<'o> {
    pub(super) dtype: DataType,
    pub(super) shape: &'o [u64],
    data: &'o [u8],
}

impl Outputs {
    pub(super) fn new(tensors: Vec<Tensor>, layout: Layout) -> Self {
        let output = |tensor: Tensor| {
            let shape = match layout {
                Layout::Rows => tensor.shape().get(1..).unwrap_or_default().to_vec(),
                Layout::Whole => tensor.shape().to_vec(),
            };
            Output { tensor, shape, at: 0 }
        };
        Self { tensors: tensors.into_iter().map(output).collect() }
    }

    /// The outputs of the next row; what is not there has no data.
    pub(super) fn next_row(&mut self) -> Vec<RowOutput<'_>> {
        self.tensors.iter_mut().map(Output::next_row).collect()
    }
}

impl Output {
    fn next_row(&mut self) -> RowOutput<'_> {
        let dtype = self.tensor.dtype();
        let elements = self.shape.iter().product::<u64>() as usize;
        let rest = self.tensor.data().get(self.at..).unwrap_or_default();
        let length = match dtype.size() {
            Some(size) => elements * size,
            None => byte_strings(rest)
                .map_while(Result::ok)
                .take(elements)
                .map(|text| 4 + text.len())
                .sum(),
        };
        let data = rest.get(..length).unwrap_or_default();
        self.at += length;
        RowOutput { dtype, shape: &self.shape, data }
    }
}

/// What can't be written.
pub(super) const NOT_FINITE: &str = "an infinity or not a number, which JSON can't hold";
const NOT_TEXT: &str = "bytes that are not UTF-8";

impl RowOutput<'_> {
    /// Hands on the text of each element: numbers and truth values as JSON writes them, strings as
    /// they are. The error says what an element holds that is none.
    pub(super) fn each(
        &self,
        take: &mut dyn FnMut(Text<'_>) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        macro_rules! numbers {
            ($type:ty, $text:expr) => {
                self.data
                    .as_chunks()
                    .0
                    .iter()
                    .try_for_each(|bytes| take($text(<$type>::from_le_bytes(*bytes))))
            };
        }
        match self.dtype {
            DataType::Bool => self.data.iter().try_for_each(|byte| {
                take(Text::Plain(if *byte == 0 { "false".into() } else { "true".into() }))
            }),
            DataType::Uint8 => numbers!(u8, integer),
            DataType::Uint16 => numbers!(u16, integer),
            DataType::Uint32 => numbers!(u32, integer),
            DataType::Uint64 => numbers!(u64, integer),
            DataType::Int8 => numbers!(i8, integer),
            DataType::Int16 => numbers!(i16, integer),
            DataType::Int32 => numbers!(i32, integer),
            DataType::Int64 => numbers!(i64, integer),
            DataType::Fp16 => numbers!(f16, |value: f16| single(value.to_f32())),
            DataType::Bf16 => numbers!(bf16, |value: bf16| single(value.to_f32())),
            DataType::Fp32 => numbers!(f32, single),
            DataType::Fp64 => numbers!(f64, double),
            DataType::Bytes => {
                byte_strings(self.data).map_while(Result::ok).try_for_each(|bytes| {
                    take(Text::Quoted(str::from_utf8(bytes).map_err(|_| NOT_TEXT)?))
                })
            }
        }
    }
}

/// The text of an element.
pub(super) enum Text<'e> {
    /// A number or a truth value.
    Plain(String),
    /// A number that JSON has no form for.
    NotFinite(f64),
    /// A string.
    Quoted(&'e str),
}

fn integer<'e>(value: impl ToString) -> Text<'e> {
    Text::Plain(value.to_string())
}

/// The shortest text that is read as the same number.
fn single<'e>(value: f32) -> Text<'e> {
    match value.is_finite() {
        true => Text::Plain(serde_json::to_string(&value).unwrap_or_default()),
        false => Text::NotFinite(value.into()),
    }
}

fn double<'e>(value: f64) -> Text<'e> {
    match value.is_finite() {
        true => Text::Plain(serde_json::to_string(&value).unwrap_or_default()),
        false => Text::NotFinite(value),
    }
}

/// Writes an output of a row as JSON, nested as its shape says.
pub(super) fn write_json(output: &RowOutput<'_>, text: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut elements = Vec::new();
    output.each(&mut |element| {
        elements.push(match element {
            Text::Plain(plain) => plain,
            Text::Quoted(string) => serde_json::to_string(string).unwrap_or_default(),
            Text::NotFinite(_) => return Err(NOT_FINITE),
        });
        Ok(())
    })?;
    nest(output.shape, &mut elements.into_iter(), text);
    Ok(())
}

fn nest(shape: &[u64], elements: &mut impl Iterator<Item = String>, text: &mut Vec<u8>) {
    let Some((count, inner)) = shape.split_first() else {
        text.extend_from_slice(elements.next().unwrap_or_default().as_bytes());
        return;
    };
    text.push(b'[');
    for index in 0..*count {
        if index > 0 {
            text.push(b',');
        }
        nest(inner, elements, text);
    }
    text.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_taken_row_by_row_and_nested_as_their_shape() {
        let floats = Tensor::from_elements(
            "x",
            DataType::Fp32,
            vec![2, 1, 2],
            vec![0.1f32, 1.0, 1e-30, 3.0],
        );
        let texts = b"\x01\0\0\0a\x02\0\0\0\"b".to_vec();
        let texts = Tensor::new("s", DataType::Bytes, vec![2], texts).expect("two strings");
        let mut outputs = Outputs::new(vec![floats.expect("valid"), texts], Layout::Rows);
        for expected in [["[[0.1,1.0]]", "\"a\""], ["[[1e-30,3.0]]", "\"\\\"b\""]] {
            for (output, expected) in outputs.next_row().iter().zip(expected) {
                let mut text = Vec::new();
                write_json(output, &mut text).expect("JSON");
                assert_eq!(String::from_utf8(text).expect("text"), expected);
            }
        }
    }

    #[test]
    fn what_json_has_no_form_for_is_said() {
        let nan = Tensor::from_elements("x", DataType::Fp64, vec![1], vec![f64::NAN]);
        let bytes = Tensor::new("s", DataType::Bytes, vec![1], vec![1, 0, 0, 0, 0xff]);
        for (tensor, reason) in [(nan, NOT_FINITE), (bytes, NOT_TEXT)] {
            let mut outputs = Outputs::new(vec![tensor.expect("valid")], Layout::Rows);
            assert_eq!(write_json(&outputs.next_row()[0], &mut Vec::new()), Err(reason));
        }
    }
}
