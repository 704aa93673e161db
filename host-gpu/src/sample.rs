//! Inputs that are made up for a model, the same ones each time, so that what is done with them can
//! be repeated. Keeps to the signature's ranges; knows nothing else of what a model expects.

use half::{bf16, f16};
use quern_types::{DataType, Signature, Tensor, TensorSpec};

/// Integers that inputs are given where they have no range, in the order in which they are tried:
/// many different ones tell more, but many models take no more than zero and one, as masks and
/// token types are. Texts are such numbers in decimal.
pub(crate) const INTEGERS: [(u8, u8); 2] = [(1, 8), (0, 1)];

const SEED: u64 = 0x5eed;
/// A graph may claim inputs of any size; one of more elements than this is not made up.
const MOST_ELEMENTS: u64 = 1 << 26;

/// A call of so many rows, with random elements; dimensions that may vary are 1, but for the
/// first. Fails where the model's inputs are too large.
pub fn sample(signature: &Signature, rows: u64) -> Result<Vec<Tensor>, String> {
    let [_, smallest] = INTEGERS;
    call(signature, rows, 1, smallest, &mut Random::new())
}

/// The same, with dimensions of this length where they may vary, and integers in this range where
/// the signature has none.
pub(crate) fn call(
    signature: &Signature,
    rows: u64,
    length: u64,
    integers: (u8, u8),
    random: &mut Random,
) -> Result<Vec<Tensor>, String> {
    let tensor = |spec: &TensorSpec| {
        let name = &spec.name;
        let shape = shape(spec, rows, length);
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let Some(elements) = elements.filter(|elements| *elements <= MOST_ELEMENTS) else {
            return Err(format!("input {name:?} of shape {shape:?} is too large to be made up"));
        };
        let data = elements_of(spec, elements, integers, random);
        Tensor::new(name.clone(), spec.dtype, shape, data).map_err(|error| error.to_string())
    };
    signature.inputs().iter().map(tensor).collect()
}

fn shape(spec: &TensorSpec, rows: u64, length: u64) -> Vec<u64> {
    let size = |(axis, dim): (usize, &i64)| match (axis, u64::try_from(*dim)) {
        (_, Ok(size)) => size,
        (0, Err(_)) => rows,
        (_, Err(_)) => length,
    };
    spec.shape.iter().enumerate().map(size).collect()
}

fn elements_of(
    spec: &TensorSpec,
    count: u64,
    (low, high): (u8, u8),
    random: &mut Random,
) -> Vec<u8> {
    let range = spec.range.map(<(f64, f64)>::from);
    let (least, most) = range.unwrap_or((-1.0, 1.0));
    // Whole numbers that lie in the range: none if it holds none.
    let (lowest, highest) = match range {
        Some((least, most)) => (least.ceil() as i128, most.floor() as i128),
        None => (low.into(), high.into()),
    };
    let width = (highest - lowest).clamp(0, i128::from(u32::MAX)) as u64 + 1;
    let size = spec.dtype.size().unwrap_or(0);
    let mut data = Vec::new();
    for _ in 0..count {
        let part = random.next() as f64 / u64::MAX as f64;
        let float = (least * (1.0 - part) + most * part).clamp(least, most);
        match spec.dtype {
            DataType::Bool => data.push((random.next() & 1) as u8),
            DataType::Fp16 => data.extend(f16::from_f64(float).to_le_bytes()),
            DataType::Bf16 => data.extend(bf16::from_f64(float).to_le_bytes()),
            DataType::Fp32 => data.extend((float as f32).to_le_bytes()),
            DataType::Fp64 => data.extend(float.to_le_bytes()),
            DataType::Bytes => {
                let text = (lowest + i128::from(random.next() % width)).to_string();
                data.extend((text.len() as u32).to_le_bytes());
                data.extend(text.as_bytes());
            }
            _ => {
                let integer = lowest + i128::from(random.next() % width);
                data.extend(&integer.to_le_bytes()[..size]);
            }
        }
    }
    data
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(SEED)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dtype: DataType, shape: &[i64], range: Option<(f64, f64)>) -> Signature {
        let range = range.map(|range| range.try_into().expect("a range"));
        let spec = TensorSpec { name: "x".into(), dtype, shape: shape.to_vec(), range };
        Signature::new(vec![spec], vec![]).expect("valid")
    }

    #[test]
    fn what_is_made_up_fits_the_signature_and_is_always_the_same() {
        for dtype in DataType::ALL {
            let ranges = [None, Some((-3.0, 5.0)), Some((2.0, 2.0)), Some((100.0, 120.0))];
            let unsigned = dtype.as_str().starts_with("UINT");
            for range in ranges {
                let negative = range.is_some_and(|(least, _)| least < 0.0);
                let unordered = matches!(dtype, DataType::Bool | DataType::Bytes);
                if (range.is_some() && unordered) || (unsigned && negative) {
                    continue;
                }
                let signature = signature(dtype, &[-1, 4, -1], range);
                let made = sample(&signature, 3).expect("numbers");
                assert_eq!(made[0].shape(), [3, 4, 1]);
                assert_eq!(signature.check_inputs(made.clone()), Ok(made.clone()), "{dtype}");
                assert_eq!(sample(&signature, 3), Ok(made));
            }
        }
    }

    #[test]
    fn what_can_not_be_made_up_is_named() {
        let cases = [
            (DataType::Fp32, &[-1, 1 << 40][..], "input \"x\" of shape [1, 1099511627776]"),
            (DataType::Fp32, &[i64::MAX, i64::MAX], "too large"),
        ];
        for (dtype, shape, expected) in cases {
            let error = sample(&signature(dtype, shape, None), 1).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(sample(&signature(DataType::Fp32, &[], None), 7).expect("a scalar").len(), 1);
    }
}
