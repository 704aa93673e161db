//! What the host holds for one instance beside its linear memory: counted in bytes, and bounded by
//! `limits.memory` once more.

/// How much more the host may hold.
pub(crate) struct Held {
    left_bytes: u64,
}

/// The host holds as much as it may; in a trap, the function ran into `limits.memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host holds as much for this request as limits.memory allows: drop something first")]
pub(crate) struct HeldTooMuch;

impl Held {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { left_bytes: limit_bytes }
    }

    /// Counts what is held from now on.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), HeldTooMuch> {
        self.left_bytes = self.left_bytes.checked_sub(bytes as u64).ok_or(HeldTooMuch)?;
        Ok(())
    }

    /// Counts what was taken and is held no longer.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.left_bytes += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut held = Held::new(10);
        assert_eq!(held.take(7), Ok(()));
        assert_eq!(held.take(4), Err(HeldTooMuch));
        assert_eq!(held.take(3), Ok(()));
        held.give_back(7);
        assert_eq!(held.take(7), Ok(()));
    }
}
