//! What one instance may take of memory, tables and core instances, each counted over the whole
//! component.

use quern_types::{Exceeded, Limits};
use wasmtime::ResourceLimiter;

/// Counts what one instance takes and refuses what exceeds its limits.
pub(crate) struct Allowance {
    limits: Limits,
    memory_bytes: u64,
    table_elements: u64,
    refused: Option<Exceeded>,
}

impl Allowance {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory_bytes: 0, table_elements: 0, refused: None }
    }

    /// The most bytes of linear memory that the instance has had.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The first limit that was hit, if any was.
    pub(crate) fn refused(&self) -> Option<Exceeded> {
        self.refused
    }
}

/// Adds what a memory or table grows by to what there is. Beyond its own declared maximum a growth
/// fails without being counted.
fn grow(
    taken: &mut u64,
    limit: u64,
    current: usize,
    desired: usize,
    maximum: Option<usize>,
) -> bool {
    let total = taken.saturating_add(desired.saturating_sub(current) as u64);
    let fits = total <= limit;
    if fits && maximum.is_none_or(|maximum| desired <= maximum) {
        *taken = total;
    }
    fits
}

impl ResourceLimiter for Allowance {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.memory;
        let fits = grow(&mut self.memory_bytes, limit.0, current, desired, maximum);
        if !fits {
            self.refused.get_or_insert(Exceeded::Memory(limit));
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.tables;
        let fits = grow(&mut self.table_elements, limit.into(), current, desired, maximum);
        if !fits {
            self.refused.get_or_insert(Exceeded::Tables(limit));
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        usize::try_from(self.limits.instances).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use quern_types::ByteSize;

    use super::*;

    fn allowance() -> Allowance {
        Allowance::new(Limits { memory: ByteSize(100), tables: 10, ..Limits::default() })
    }

    #[test]
    fn memories_share_one_limit() {
        let mut allowance = allowance();
        assert!(allowance.memory_growing(0, 60, None).expect("no error"));
        assert!(allowance.memory_growing(0, 40, None).expect("no error"));
        assert_eq!((allowance.memory_bytes(), allowance.refused()), (100, None));
        assert!(!allowance.memory_growing(60, 61, None).expect("no error"));
        assert_eq!(allowance.memory_bytes(), 100);
        assert_eq!(allowance.refused(), Some(Exceeded::Memory(ByteSize(100))));
    }

    #[test]
    fn tables_share_one_limit() {
        let mut allowance = allowance();
        assert!(allowance.table_growing(0, 10, None).expect("no error"));
        assert!(!allowance.table_growing(0, 1, None).expect("no error"));
        assert_eq!(allowance.refused(), Some(Exceeded::Tables(10)));
    }

    #[test]
    fn a_growth_beyond_its_own_maximum_takes_nothing() {
        let mut allowance = allowance();
        assert!(allowance.memory_growing(0, 60, Some(50)).expect("no error"));
        assert_eq!((allowance.memory_bytes(), allowance.refused()), (0, None));
    }
}
