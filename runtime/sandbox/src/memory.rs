//! The limits on a guest's linear memory, which all of an instance's memories share, and on each of
//! its tables.

use quern_types::ByteSize;
use wasmtime::ResourceLimiter;

/// Elements of one table, where the address of a function takes one; interpreters compiled to
/// WebAssembly have large ones.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;

/// Counts the memory of one instance and refuses what exceeds its limit.
pub(crate) struct MemoryLimit {
    limit: ByteSize,
    used: u64,
    refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(limit: ByteSize) -> Self {
        Self { limit, used: 0, refused: false }
    }

    /// The most bytes that the instance has had.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// The limit, if it was ever hit.
    pub(crate) fn hit(&self) -> Option<ByteSize> {
        self.refused.then_some(self.limit)
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.used.saturating_add(desired.saturating_sub(current) as u64);
        let fits = total <= self.limit.0;
        self.refused |= !fits;
        // Beyond its own declared maximum, a growth fails without being counted.
        if fits && maximum.is_none_or(|maximum| desired <= maximum) {
            self.used = total;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut limit = MemoryLimit::new(ByteSize(100));
        assert!(limit.memory_growing(0, 60, None).expect("no error"));
        assert!(limit.memory_growing(0, 40, None).expect("no error"));
        assert_eq!((limit.used(), limit.hit()), (100, None));
        assert!(!limit.memory_growing(60, 61, None).expect("no error"));
        assert_eq!((limit.used(), limit.hit()), (100, Some(ByteSize(100))));
    }
}
