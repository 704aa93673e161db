//! How two answers of models differ: exactly, and by how much at most. Never decides how much is
//! too much.

use half::{bf16, f16};

use crate::{DataType, Tensor};

/// Where and by how much two answers differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The first output, and the first element of it, in the one answer.
    pub one: String,
    /// The same in the other.
    pub other: String,
    /// The greatest absolute difference of two elements; none where there are no numbers to
    /// subtract, such as for other names or shapes, for strings, and where one of the two is NaN.
    pub max_abs: Option<f64>,
}

/// How two answers differ; none if they are the same to the bit.
pub fn difference(one: &[Tensor], other: &[Tensor]) -> Option<Difference> {
    let outline = |tensors: &[Tensor]| -> Vec<_> {
        let of = |tensor: &Tensor| (tensor.name().clone(), tensor.dtype(), tensor.shape().to_vec());
        tensors.iter().map(of).collect()
    };
    let (outline, other_outline) = (outline(one), outline(other));
    if outline != other_outline {
        let text = |outline: &[_]| format!("{outline:?}").chars().take(200).collect();
        return Some(Difference {
            one: text(&outline),
            other: text(&other_outline),
            max_abs: None,
        });
    }
    let mut found: Option<Difference> = None;
    for (one, other) in one.iter().zip(other) {
        if one.data() == other.data() {
            continue;
        }
        let difference = of_pair(one, other);
        found = Some(match found {
            None => difference,
            Some(first) => {
                let max_abs = first.max_abs.zip(difference.max_abs).map(|(a, b)| a.max(b));
                Difference { max_abs, ..first }
            }
        });
    }
    found
}

/// The difference of two tensors that differ in their data alone.
fn of_pair(one: &Tensor, other: &Tensor) -> Difference {
    macro_rules! numbers {
        ($type:ty, $number:expr) => {
            subtract(
                one,
                other,
                &one.to_elements::<$type>(),
                &other.to_elements::<$type>(),
                $number,
            )
        };
    }
    match one.dtype() {
        DataType::Bool | DataType::Uint8 => numbers!(u8, |x| f64::from(*x)),
        DataType::Uint16 => numbers!(u16, |x| f64::from(*x)),
        DataType::Uint32 => numbers!(u32, |x| f64::from(*x)),
        DataType::Uint64 => numbers!(u64, |x| *x as f64),
        DataType::Int8 => numbers!(i8, |x| f64::from(*x)),
        DataType::Int16 => numbers!(i16, |x| f64::from(*x)),
        DataType::Int32 => numbers!(i32, |x| f64::from(*x)),
        DataType::Int64 => numbers!(i64, |x| *x as f64),
        DataType::Fp16 => numbers!(f16, |x| f64::from(*x)),
        DataType::Bf16 => numbers!(bf16, |x| f64::from(*x)),
        DataType::Fp32 => numbers!(f32, |x| f64::from(*x)),
        DataType::Fp64 => numbers!(f64, |x| *x),
        DataType::Bytes => {
            let at = one.strings().zip(other.strings()).position(|(one, other)| one != other);
            let at = at.unwrap_or_default();
            let text = |tensor: &Tensor| {
                let string = tensor.strings().nth(at).unwrap_or_default();
                let string = String::from_utf8_lossy(&string[..string.len().min(200)]).into_owned();
                format!("{}[{at}] = {string:?}", tensor.name())
            };
            Difference { one: text(one), other: text(other), max_abs: None }
        }
    }
}

fn subtract<T: PartialEq>(
    one: &Tensor,
    other: &Tensor,
    elements: &[T],
    other_elements: &[T],
    number: impl Fn(&T) -> f64,
) -> Difference {
    let (mut first, mut max_abs) = (None, Some(0.0_f64));
    for (at, (a, b)) in elements.iter().zip(other_elements).enumerate() {
        let (a, b) = (number(a), number(b));
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        first.get_or_insert((at, a, b));
        let apart = (a - b).abs();
        max_abs = max_abs.filter(|_| apart.is_finite()).map(|most| most.max(apart));
    }
    // Where only zeros of another sign differ, the first element stands for all.
    let (at, a, b) = first.unwrap_or_else(|| {
        let first = |elements: &[T]| elements.first().map_or(0.0, &number);
        (0, first(elements), first(other_elements))
    });
    let text = |tensor: &Tensor, value| format!("{}[{at}] = {value:?}", tensor.name());
    Difference { one: text(one, a), other: text(other, b), max_abs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(name: &str, values: &[f32]) -> Tensor {
        let shape = vec![values.len() as u64];
        Tensor::from_elements(name, DataType::Fp32, shape, values.to_vec()).expect("a tensor")
    }

    fn strings(values: &[&str]) -> Tensor {
        let mut data = Vec::new();
        for value in values {
            data.extend((value.len() as u32).to_le_bytes());
            data.extend(value.as_bytes());
        }
        Tensor::new("s", DataType::Bytes, vec![values.len() as u64], data).expect("a tensor")
    }

    #[test]
    fn the_greatest_difference_of_all_elements_is_found() {
        let one = [floats("x", &[1.0, 2.0]), floats("y", &[5.0, f32::NAN])];
        assert_eq!(difference(&one, &one), None);
        let other = [floats("x", &[1.0, 2.5]), floats("y", &[3.0, f32::NAN])];
        let found = difference(&one, &other).expect("they differ");
        assert_eq!((found.one.as_str(), found.other.as_str()), ("x[1] = 2.0", "x[1] = 2.5"));
        assert_eq!(found.max_abs, Some(2.0));
        for dtype in DataType::ALL.into_iter().filter(|dtype| dtype.size().is_some()) {
            let of = |byte: u8| {
                let mut data = vec![0; 2 * dtype.size().expect("a size")];
                data[0] = byte;
                vec![Tensor::new("x", dtype, vec![2], data).expect("a tensor")]
            };
            let found = difference(&of(0), &of(1)).expect("they differ");
            assert!(found.max_abs.expect("numbers") > 0.0, "{dtype}");
        }
    }

    #[test]
    fn what_can_not_be_subtracted_differs_all_the_same() {
        let one = [floats("x", &[1.0])];
        for other in [floats("x", &[1.0, 2.0]), floats("z", &[1.0]), floats("x", &[f32::NAN])] {
            let found = difference(&one, std::slice::from_ref(&other)).expect("they differ");
            assert_eq!(found.max_abs, None, "{other:?}");
        }
        let found = difference(&[strings(&["a", "b"])], &[strings(&["a", "c"])]).expect("differ");
        assert_eq!((found.one.as_str(), found.max_abs), ("s[1] = \"b\"", None));
        let zeros = difference(&[floats("x", &[0.0])], &[floats("x", &[-0.0])]).expect("differ");
        assert_eq!(zeros.max_abs, Some(0.0));
    }
}
