//! The range that an input's values lie in, as far as data show it. Reads no files.

use half::{bf16, f16};
use quern_types::DataType;

/// The values that were seen of one input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    dtype: DataType,
    pub(crate) values: u64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Seen {
    pub(crate) fn new(dtype: DataType) -> Self {
        Self { dtype, values: 0, least: f64::INFINITY, most: f64::NEG_INFINITY }
    }

    /// Takes a value in, as the model would get it.
    pub(crate) fn take(&mut self, value: f64) -> Result<(), String> {
        let dtype = self.dtype;
        let value = match dtype {
            DataType::Fp32 => f64::from(value as f32),
            DataType::Fp16 => f16::from_f64(value).to_f64(),
            DataType::Bf16 => bf16::from_f64(value).to_f64(),
            _ => value,
        };
        if !value.is_finite() {
            return Err(format!("value {value} lies in no range: leave such values out"));
        }
        if let Some((least, most)) = bounds(dtype)
            && (value.fract() != 0.0 || value < least || value > most)
        {
            return Err(format!("value {value} is no {dtype}"));
        }
        self.values += 1;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        Ok(())
    }

    /// The range to propose: what was seen, and on either side `margin` of its width; none where
    /// nothing was seen. Of whole numbers it is whole.
    pub(crate) fn range(&self, margin: f64) -> Option<(f64, f64)> {
        if self.values == 0 {
            return None;
        }
        let more = (self.most - self.least) * margin;
        let (least, most) = (self.least - more, self.most + more);
        Some(match bounds(self.dtype) {
            Some((lowest, highest)) => (least.floor().max(lowest), most.ceil().min(highest)),
            None => (least.max(f64::MIN), most.min(f64::MAX)),
        })
    }

    /// A bound as it stands in a manifest.
    pub(crate) fn written(&self, bound: f64) -> String {
        match bounds(self.dtype) {
            // TOML has no whole numbers beyond 64 bits with a sign.
            Some(_) if bound.abs() < 9e18 => format!("{bound:.0}"),
            _ => format!("{bound:?}"),
        }
    }
}

/// The least and the greatest number of a type of whole numbers.
fn bounds(dtype: DataType) -> Option<(f64, f64)> {
    Some(match dtype {
        DataType::Uint8 => (0.0, f64::from(u8::MAX)),
        DataType::Uint16 => (0.0, f64::from(u16::MAX)),
        DataType::Uint32 => (0.0, f64::from(u32::MAX)),
        DataType::Uint64 => (0.0, u64::MAX as f64),
        DataType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DataType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DataType::Int64 => (i64::MIN as f64, i64::MAX as f64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(dtype: DataType, values: &[f64]) -> Seen {
        let mut seen = Seen::new(dtype);
        values.iter().for_each(|value| seen.take(*value).expect("a value"));
        seen
    }

    #[test]
    fn a_range_spans_what_was_seen_and_its_margin() {
        let cases = [
            (DataType::Fp64, &[1.0, -1.0, 0.5][..], 0.0, "-1.0", "1.0"),
            (DataType::Fp64, &[0.0, 10.0], 0.1, "-1.0", "11.0"),
            (DataType::Fp64, &[3.0], 0.5, "3.0", "3.0"),
            (DataType::Uint8, &[0.0, 250.0], 0.1, "0", "255"),
            (DataType::Int32, &[-3.0, 4.0], 0.1, "-4", "5"),
            (DataType::Uint64, &[0.0, u64::MAX as f64], 0.0, "0", "1.8446744073709552e19"),
            (
                DataType::Fp64,
                &[f64::MIN, f64::MAX],
                1.0,
                "-1.7976931348623157e308",
                "1.7976931348623157e308",
            ),
        ];
        for (dtype, values, margin, least, most) in cases {
            let seen = seen(dtype, values);
            let range = seen.range(margin).expect("values");
            assert_eq!((&*seen.written(range.0), &*seen.written(range.1)), (least, most));
            assert_eq!(seen.values, values.len() as u64);
        }
        assert_eq!(Seen::new(DataType::Fp32).range(0.0), None);
    }

    #[test]
    fn a_proposed_range_accepts_the_values_it_was_learned_from() {
        for dtype in [DataType::Fp32, DataType::Fp16, DataType::Bf16] {
            // As numbers of fewer bits, these are a little more and a little less.
            let seen = seen(dtype, &[0.1, 0.2]);
            let kept = |value: f64| match dtype {
                DataType::Fp32 => f64::from(value as f32),
                DataType::Fp16 => f16::from_f64(value).to_f64(),
                _ => bf16::from_f64(value).to_f64(),
            };
            assert_eq!(seen.range(0.0), Some((kept(0.1), kept(0.2))), "{dtype}");
        }
    }

    #[test]
    fn values_that_no_range_can_hold_are_refused() {
        let cases = [
            (DataType::Fp32, f64::NAN, "value NaN lies in no range"),
            (DataType::Fp32, 1e300, "value inf lies in no range"),
            (DataType::Int64, 0.5, "value 0.5 is no INT64"),
            (DataType::Uint8, 256.0, "value 256 is no UINT8"),
            (DataType::Int8, -129.0, "value -129 is no INT8"),
        ];
        for (dtype, value, expected) in cases {
            let error = Seen::new(dtype).take(value).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
