//! Whether a model's calls come one at a time. Then waiting for a turn, so that others can join,
//! is in vain, and the run may as well take place where the call is. Decides nothing else.

/// Calls in a row that come alone before the next one is expected to. A few, so that the first of
/// a burst is not taken for the only one by chance.
const USUAL: u32 = 8;

/// Counts calls that come alone.
#[derive(Default)]
pub(super) struct Solitude {
    in_a_row: u32,
}

impl Solitude {
    /// Takes note of a call: whether it finds no other on its way, waiting or running. Says whether
    /// this one is alone, as those before it were.
    pub(super) fn note(&mut self, alone: bool) -> bool {
        let usual = self.in_a_row >= USUAL;
        self.in_a_row = if alone { self.in_a_row.saturating_add(1) } else { 0 };
        alone && usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_expected_alone_after_some_that_were() {
        let mut solitude = Solitude::default();
        for _ in 0..2 {
            for _ in 0..USUAL {
                assert!(!solitude.note(true));
            }
            assert!(solitude.note(true) && solitude.note(true));
            assert!(!solitude.note(false));
        }
    }
}
