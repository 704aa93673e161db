//! The classification extension: the highest elements of an output, as the strings `value:index`,
//! or `value:index:label` where the output has labels.

use std::{
    cmp::Ordering, collections::BinaryHeap, fmt::Debug, io::Write, num::NonZeroU32, sync::Arc,
};

use quern_types::{ByteSize, DataType, Tensor, TensorError};

/// Most classes of one row.
const MAX_CLASSES: u32 = 1_024;

/// More classes are asked for than one row can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is more than {MAX_CLASSES}, the most classes that an answer has")]
pub(crate) struct TooManyClasses;

/// The number of classes that is asked for; 0 asks for the tensor itself.
pub(crate) fn class_count(asked: u64) -> Result<Option<NonZeroU32>, TooManyClasses> {
    let count = u32::try_from(asked).ok().filter(|count| *count <= MAX_CLASSES);
    Ok(NonZeroU32::new(count.ok_or(TooManyClasses)?))
}

/// Why a tensor has no classes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ClassError {
    /// Its elements have no order.
    #[error("output {name:?} is {dtype}: only outputs of numbers have a classification")]
    NoOrder {
        /// The output.
        name: String,
        /// Its type.
        dtype: DataType,
    },
    /// There are many rows, or long labels.
    #[error(
        "classes of output {name:?} take more than the {most} that they may: ask for fewer of \
         them, or send fewer rows"
    )]
    TooLong {
        /// The output.
        name: String,
        /// What they may take.
        most: ByteSize,
    },
    /// The strings don't make a tensor.
    #[error("classes of {0}")]
    Tensor(#[from] TensorError),
}

/// How many classes there are to be, and what they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) count: NonZeroU32,
    /// Of the places of the output's last dimension.
    pub(crate) labels: Option<Arc<[String]>>,
    /// Bytes that the classes of an output may take, as each row has labels of its own.
    pub(crate) most: ByteSize,
}

impl Choice {
    fn label(&self, place: usize) -> Option<&str> {
        self.labels.as_ref()?.get(place).map(String::as_str)
    }
}

/// Whether the elements of a type can be compared as numbers.
pub(crate) fn has_order(dtype: DataType) -> bool {
    !matches!(dtype, DataType::Bool | DataType::Bytes)
}

/// The `count` highest elements of each row of a tensor, or of the whole of it if it has no rows.
/// Equal ones come in the order of their indices, and NaN after all numbers.
pub(crate) fn classify(
    tensor: &Tensor,
    has_rows: bool,
    choice: &Choice,
) -> Result<Tensor, ClassError> {
    macro_rules! of {
        ($type:ty) => {
            classes_of(tensor, &tensor.to_elements::<$type>(), has_rows, choice)
        };
    }
    match tensor.dtype() {
        DataType::Uint8 => of!(u8),
        DataType::Uint16 => of!(u16),
        DataType::Uint32 => of!(u32),
        DataType::Uint64 => of!(u64),
        DataType::Int8 => of!(i8),
        DataType::Int16 => of!(i16),
        DataType::Int32 => of!(i32),
        DataType::Int64 => of!(i64),
        DataType::Fp16 => of!(half::f16),
        DataType::Bf16 => of!(half::bf16),
        DataType::Fp32 => of!(f32),
        DataType::Fp64 => of!(f64),
        dtype @ (DataType::Bool | DataType::Bytes) => {
            Err(ClassError::NoOrder { name: tensor.name().to_string(), dtype })
        }
    }
}

fn classes_of<T: PartialOrd + Debug>(
    tensor: &Tensor,
    elements: &[T],
    has_rows: bool,
    choice: &Choice,
) -> Result<Tensor, ClassError> {
    let rows = tensor.shape().first().copied().filter(|_| has_rows);
    // No more rows than elements: a row without elements has no classes.
    let row_length = match rows.and_then(|rows| usize::try_from(rows).ok()) {
        Some(0) => 0,
        Some(rows) => elements.len() / rows,
        None => elements.len(),
    };
    let count = usize::try_from(choice.count.get()).unwrap_or(usize::MAX).min(row_length);
    // Labels are of the places of the last dimension, of which a row may have several.
    let places = tensor.shape().last().and_then(|&places| usize::try_from(places).ok());
    let mut data = Vec::new();
    if row_length > 0 {
        for row in elements.chunks(row_length) {
            for Ranked { value, index } in highest(row, count) {
                let place = places.and_then(|places| index.checked_rem(places));
                append(&mut data, value, index, place.and_then(|place| choice.label(place)));
                if data.len() as u64 > choice.most.0 {
                    let (name, most) = (tensor.name().to_string(), choice.most);
                    return Err(ClassError::TooLong { name, most });
                }
            }
        }
    }
    let shape = rows.into_iter().chain([count as u64]).collect();
    Ok(Tensor::new(tensor.name().clone(), DataType::Bytes, shape, data)?)
}

/// The `count` highest elements, the highest first. No more than these are held at a time, however
/// many there are to choose from.
fn highest<T: PartialOrd>(row: &[T], count: usize) -> Vec<Ranked<'_, T>> {
    let mut best = BinaryHeap::with_capacity(count);
    for (index, value) in row.iter().enumerate() {
        let element = Ranked { value, index };
        if best.len() < count {
            best.push(element);
        } else if let Some(mut last) = best.peek_mut()
            && element < *last
        {
            *last = element;
        }
    }
    best.into_sorted_vec()
}

/// An element of a row; what is less comes before what is greater.
struct Ranked<'a, T> {
    value: &'a T,
    index: usize,
}

impl<T: PartialOrd> Ord for Ranked<'_, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let is_number = |one: &Self| one.value.partial_cmp(one.value).is_some();
        let descending = other.value.partial_cmp(self.value);
        let descending = descending.unwrap_or_else(|| is_number(other).cmp(&is_number(self)));
        descending.then(self.index.cmp(&other.index))
    }
}

impl<T: PartialOrd> PartialOrd for Ranked<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: PartialOrd> PartialEq for Ranked<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: PartialOrd> Eq for Ranked<'_, T> {}

/// Appends one string behind its length. The value is written in full, and never longer than 32
/// characters: that is what `Debug` is of a number.
fn append(data: &mut Vec<u8>, value: &impl Debug, index: usize, label: Option<&str>) {
    let start = data.len();
    data.extend_from_slice(&[0; 4]);
    write!(data, "{value:?}:{index}").expect("memory takes all that is written");
    if let Some(label) = label {
        data.push(b':');
        data.extend_from_slice(label.as_bytes());
    }
    let length = u32::try_from(data.len() - start - 4).expect("a manifest has at most 1 MiB");
    data[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(tensor: &Tensor, count: u32, has_rows: bool) -> (Vec<u64>, Vec<String>) {
        let count = NonZeroU32::new(count).expect("not zero");
        let choice = Choice { count, labels: None, most: ByteSize::mib(1) };
        let found = classify(tensor, has_rows, &choice).expect("has classes");
        assert_eq!((found.dtype(), found.name()), (DataType::Bytes, tensor.name()));
        let strings = found.strings().map(|text| String::from_utf8_lossy(text).into_owned());
        (found.shape().to_vec(), strings.collect())
    }

    fn floats(shape: &[u64], values: &[f32]) -> Tensor {
        Tensor::from_elements("p", DataType::Fp32, shape.to_vec(), values.to_vec()).expect("valid")
    }

    fn strings(expected: &[&str]) -> Vec<String> {
        expected.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_highest_come_first() {
        let tensor = floats(&[4], &[1.1, 3.3, 0.5, 2.4]);
        assert_eq!(classes(&tensor, 2, false), (vec![2], strings(&["3.3:1", "2.4:3"])));
        let all = strings(&["3.3:1", "2.4:3", "1.1:0", "0.5:2"]);
        assert_eq!(classes(&tensor, 9, false), (vec![4], all));
    }

    #[test]
    fn labels_are_of_the_places_of_the_last_dimension() {
        let tensor = floats(&[1, 2, 3], &[1., 2., 3., 6., 5., 4.]);
        let labels = Some(["cat", "dog"].map(str::to_owned).into());
        let count = NonZeroU32::new(3).expect("not zero");
        let choice = Choice { count, labels, most: ByteSize::mib(1) };
        let found = classify(&tensor, true, &choice).expect("has classes");
        let strings: Vec<_> = found.strings().map(String::from_utf8_lossy).collect();
        assert_eq!(strings, ["6.0:3:cat", "5.0:4:dog", "4.0:5"]);
    }

    #[test]
    fn each_row_has_its_own() {
        let tensor = floats(&[2, 1, 3], &[1., 2., 3., 6., 5., 4.]);
        let by_row = strings(&["3.0:2", "2.0:1", "6.0:0", "5.0:1"]);
        assert_eq!(classes(&tensor, 2, true), (vec![2, 2], by_row));
        assert_eq!(classes(&tensor, 2, false), (vec![2], strings(&["6.0:3", "5.0:4"])));
        assert_eq!(
            classes(&floats(&[2], &[1., 2.]), 3, true),
            (vec![2, 1], strings(&["1.0:0", "2.0:0"]))
        );
        assert_eq!(classes(&floats(&[0, 3], &[]), 2, true), (vec![0, 0], vec![]));
        assert_eq!(classes(&floats(&[2, 0], &[]), 2, true), (vec![2, 0], vec![]));
    }

    #[test]
    fn ties_keep_their_order_and_nan_is_the_last() {
        let tensor = floats(&[5], &[f32::NAN, 1., 2., 1., f32::NEG_INFINITY]);
        let expected = strings(&["2.0:2", "1.0:1", "1.0:3", "-inf:4", "NaN:0"]);
        assert_eq!(classes(&tensor, 5, false).1, expected);
        assert_eq!(classes(&tensor, 3, false).1, expected[..3]);
    }

    #[test]
    fn so_many_classes_can_be_asked_for_and_no_more() {
        assert_eq!(class_count(0), Ok(None));
        for count in [1, MAX_CLASSES] {
            assert_eq!(class_count(count.into()), Ok(NonZeroU32::new(count)));
        }
        for count in [u64::from(MAX_CLASSES) + 1, 1 << 32, u64::MAX] {
            assert_eq!(class_count(count), Err(TooManyClasses));
        }
        let message = "is more than 1024, the most classes that an answer has";
        assert_eq!(TooManyClasses.to_string(), message);
    }

    #[test]
    fn the_highest_of_many_are_found_wherever_they_are() {
        let row: Vec<u32> = (0..1_000).map(|index| index * 7_919 % 1_000).collect();
        let mut expected: Vec<_> = row.iter().copied().zip(0usize..).collect();
        expected.sort_by_key(|(value, index)| (std::cmp::Reverse(*value), *index));
        for count in [1, 2, 17, 999, 1_000] {
            let found = highest(&row, count).into_iter();
            let found: Vec<_> = found.map(|Ranked { value, index }| (*value, index)).collect();
            assert_eq!(found, expected[..count], "{count}");
        }
    }

    #[test]
    fn every_type_of_number_has_classes() {
        let of = |dtype, data: &[u8]| {
            let size = dtype_size(dtype);
            let shape = vec![(data.len() / size) as u64];
            Tensor::new("x", dtype, shape, data.to_vec()).expect("valid")
        };
        let half: Vec<u8> =
            [half::f16::ONE, half::f16::NEG_ONE].iter().flat_map(|x| x.to_le_bytes()).collect();
        let brain: Vec<u8> =
            [half::bf16::ONE, half::bf16::NEG_ONE].iter().flat_map(|x| x.to_le_bytes()).collect();
        for (dtype, data, best) in [
            (DataType::Uint8, &[1, 255][..], "255:1"),
            (DataType::Int8, &[1, 255], "1:0"),
            (DataType::Uint16, &[1, 0, 255, 255], "65535:1"),
            (DataType::Int16, &[1, 0, 255, 255], "1:0"),
            (DataType::Uint32, &[1, 0, 0, 0, 255, 255, 255, 255], "4294967295:1"),
            (DataType::Int32, &[1, 0, 0, 0, 255, 255, 255, 255], "1:0"),
            (DataType::Uint64, &[7, 0, 0, 0, 0, 0, 0, 0], "7:0"),
            (DataType::Int64, &[255; 8], "-1:0"),
            (DataType::Fp16, &half, "1.0:0"),
            (DataType::Bf16, &brain, "1.0:0"),
            (DataType::Fp64, &1e300f64.to_le_bytes(), "1e300:0"),
        ] {
            assert_eq!(classes(&of(dtype, data), 1, false).1, [best], "{dtype}");
        }
        for dtype in [DataType::Bool, DataType::Bytes] {
            assert!(!has_order(dtype));
            let tensor = Tensor::new("x", dtype, vec![0], vec![]).expect("empty");
            let most = ByteSize::mib(1);
            let choice = Choice { count: NonZeroU32::MIN, labels: None, most };
            let error = classify(&tensor, false, &choice).expect_err("no order");
            let message =
                format!("output \"x\" is {dtype}: only outputs of numbers have a classification");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn classes_that_take_too_much_are_refused() {
        let labels: Arc<[String]> = ["x".repeat(1_000)].into();
        let classes = |rows: u64, most| {
            let data = vec![7; usize::try_from(rows).expect("few")];
            let tensor = Tensor::new("x", DataType::Uint8, vec![rows, 1], data).expect("valid");
            let labels = Some(labels.clone());
            classify(&tensor, true, &Choice { count: NonZeroU32::MIN, labels, most })
        };
        // A string is `7:0:`, the label, and its length before it.
        assert_eq!(classes(10, ByteSize(10_080)).expect("fits").data().len(), 10_080);
        let error = classes(1_000_000, ByteSize(10_079)).expect_err("a gigabyte");
        assert!(error.to_string().contains("\"x\" take more than the 9.8 KiB"), "{error}");
    }

    fn dtype_size(dtype: DataType) -> usize {
        dtype.size().expect("a number")
    }
}
