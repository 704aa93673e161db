//! What kernels tell of bad indices.

use quern_operators::LaneError;

/// Bytes in which they tell it: `Fault` of quern.cuh, rounded up.
pub(crate) const FAULT_BYTES: u64 = 256;

/// Operators that look at indices, by the number that their kernels are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexed {
    Gather = 1,
    ScatterAdd = 2,
    CrossEntropy = 3,
}

/// A bad index.
pub(crate) struct Fault;

impl Fault {
    /// The error that the bytes tell, if there was one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<LaneError> {
        let word = |at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        let operator = match (word(0)? >> 32) as u32 {
            0 => return None,
            number if number == Indexed::Gather as u32 => "gather",
            number if number == Indexed::ScatterAdd as u32 => "scatter-add",
            _ => "cross-entropy",
        };
        Some(LaneError::Index { operator, index: word(24)? as i64, size: word(32)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_of_the_index_that_led_out_of_its_dimension() {
        let mut bytes = [0; FAULT_BYTES as usize];
        assert_eq!(Fault::parse(&bytes), None);
        for (number, operator) in [(1, "gather"), (2, "scatter-add"), (3, "cross-entropy")] {
            (bytes[4], bytes[24], bytes[32]) = (number, 7, 5);
            let expected = LaneError::Index { operator, index: 7, size: 5 };
            assert_eq!(Fault::parse(&bytes), Some(expected));
        }
    }
}
