//! What one instance may take of memory, tables and core instances, each counted over the whole
//! component.

use std::sync::Arc;

use quern_types::{Exceeded, InvokeError, Limits};
use wasmtime::ResourceLimiter;

use crate::memory::MemoryShare;

/// Bytes that an element of a table takes.
const ELEMENT_BYTES: u64 = 8;

/// Counts what one instance takes and refuses what exceeds its limits, or what there is.
pub(crate) struct Allowance {
    limits: Limits,
    share: Arc<MemoryShare>,
    memory_bytes: u64,
    table_elements: u64,
    /// What the last growth of a memory took.
    last_bytes: u64,
    refused: Option<InvokeError>,
}

impl Allowance {
    pub(crate) fn new(limits: Limits, share: Arc<MemoryShare>) -> Self {
        Self { limits, share, memory_bytes: 0, table_elements: 0, last_bytes: 0, refused: None }
    }

    /// The most bytes of linear memory that the instance has had.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Bytes that the instance has of what all share: of its memories and its tables.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.memory_bytes + self.table_elements * ELEMENT_BYTES
    }

    /// Why the guest was refused something, the first time that it was. That the others had all
    /// memory is forgotten once there is some: whatever befalls the guest later has other reasons.
    pub(crate) fn refused(&self) -> Option<&InvokeError> {
        self.refused.as_ref()
    }

    fn refuse(&mut self, reason: InvokeError) -> wasmtime::Result<bool> {
        self.refused.get_or_insert(reason);
        Ok(false)
    }

    /// Takes bytes of what all share.
    fn take(&mut self, bytes: u64) -> Result<(), InvokeError> {
        if self.taken_bytes().saturating_add(bytes) > self.share.most_bytes() {
            // Nobody need try again: this instance alone would have too much.
            return Err(InvokeError::Limit(Exceeded::Memory(self.limits.memory)));
        }
        self.share.take(bytes)?;
        self.refused
            .take_if(|reason| bytes > 0 && matches!(reason, InvokeError::MemoryFull { .. }));
        Ok(())
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.share.give_back(self.taken_bytes());
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
        let mut total = self.memory_bytes;
        if !grow(&mut total, limit.0, current, desired, maximum) {
            return self.refuse(InvokeError::Limit(Exceeded::Memory(limit)));
        }
        let bytes = total - self.memory_bytes;
        if let Err(reason) = self.take(bytes) {
            return self.refuse(reason);
        }
        self.memory_bytes = total;
        self.last_bytes = bytes;
        Ok(true)
    }

    /// The system had no memory for a growth that was allowed.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let bytes = std::mem::take(&mut self.last_bytes);
        self.memory_bytes -= bytes;
        self.share.give_back(bytes);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.tables;
        let mut total = self.table_elements;
        if !grow(&mut total, limit.into(), current, desired, maximum) {
            return self.refuse(InvokeError::Limit(Exceeded::Tables(limit)));
        }
        if let Err(reason) = self.take((total - self.table_elements) * ELEMENT_BYTES) {
            return self.refuse(reason);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        usize::try_from(self.limits.instances).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;
    use quern_types::ByteSize;

    use super::*;
    use crate::memory::MemoryPool;

    fn share(bytes: u64) -> Arc<MemoryShare> {
        let taken = IntGauge::new("taken", "taken").expect("a gauge");
        let pool = MemoryPool::new(ByteSize(2 * bytes), taken, Arc::default());
        Arc::new(MemoryShare::new(pool))
    }

    fn allowance() -> Allowance {
        let limits = Limits { memory: ByteSize(100), tables: 10, ..Limits::default() };
        Allowance::new(limits, share(100))
    }

    #[test]
    fn memories_share_one_limit() {
        let mut allowance = allowance();
        assert!(allowance.memory_growing(0, 60, None).expect("no error"));
        assert!(allowance.memory_growing(0, 40, None).expect("no error"));
        assert_eq!((allowance.memory_bytes(), allowance.refused()), (100, None));
        assert!(!allowance.memory_growing(60, 61, None).expect("no error"));
        assert_eq!(allowance.memory_bytes(), 100);
        let limit = InvokeError::Limit(Exceeded::Memory(ByteSize(100)));
        assert_eq!(allowance.refused(), Some(&limit));
    }

    #[test]
    fn memory_that_the_others_have_is_refused_until_they_are_gone() {
        let limits = Limits { memory: ByteSize(100), ..Limits::default() };
        let share = share(150);
        let [mut one, mut other] = [(); 2].map(|()| Allowance::new(limits, share.clone()));
        assert!(one.memory_growing(0, 100, None).expect("no error"));
        assert!(!other.memory_growing(0, 51, None).expect("no error"));
        let full = InvokeError::MemoryFull { scope: "function", limit: ByteSize(150) };
        assert_eq!((other.memory_bytes(), other.refused()), (0, Some(&full)));
        drop(one);
        assert!(other.memory_growing(0, 100, None).expect("no error"));
    }

    #[test]
    fn a_want_of_memory_that_has_passed_is_no_reason() {
        let limits = Limits { memory: ByteSize(100), ..Limits::default() };
        let share = share(150);
        let [mut one, mut other] = [(); 2].map(|()| Allowance::new(limits, share.clone()));
        assert!(one.memory_growing(0, 100, None).expect("no error"));
        assert!(!other.memory_growing(0, 51, None).expect("no error"));
        assert!(other.memory_growing(0, 0, None).expect("no error"));
        assert!(other.refused().is_some());
        assert!(other.memory_growing(0, 50, None).expect("no error"));
        assert_eq!(other.refused(), None);
        assert!(!other.memory_growing(50, 101, None).expect("no error"));
        assert!(other.table_growing(0, 0, None).expect("no error"));
        let limit = InvokeError::Limit(Exceeded::Memory(ByteSize(100)));
        assert_eq!(other.refused(), Some(&limit), "a limit of its own is one for good");
    }

    #[test]
    fn tables_take_memory_too() {
        let limits = Limits { memory: ByteSize(100), tables: 100, ..Limits::default() };
        let share = share(100);
        let mut allowance = Allowance::new(limits, share.clone());
        assert!(allowance.table_growing(0, 10, None).expect("no error"));
        assert_eq!((allowance.memory_bytes(), allowance.taken_bytes()), (0, 80));
        assert!(share.take(21).is_err());
        assert!(!allowance.memory_growing(0, 21, None).expect("no error"));
        let limit = InvokeError::Limit(Exceeded::Memory(ByteSize(100)));
        assert_eq!(allowance.refused(), Some(&limit), "it could never have as much");
        drop(allowance);
        assert_eq!(share.take(100), Ok(()));
    }

    #[test]
    fn a_growth_that_failed_takes_nothing() {
        let share = share(100);
        let limits = Limits { memory: ByteSize(100), ..Limits::default() };
        let mut allowance = Allowance::new(limits, share.clone());
        assert!(allowance.memory_growing(0, 40, None).expect("no error"));
        assert!(allowance.memory_growing(40, 100, None).expect("no error"));
        for _ in 0..2 {
            allowance.memory_grow_failed(wasmtime::Error::msg("no memory")).expect("no error");
            assert_eq!(allowance.memory_bytes(), 40);
        }
        assert_eq!(share.take(60), Ok(()));
    }

    #[test]
    fn tables_share_one_limit() {
        let mut allowance = allowance();
        assert!(allowance.table_growing(0, 10, None).expect("no error"));
        assert!(!allowance.table_growing(0, 1, None).expect("no error"));
        assert_eq!(allowance.refused(), Some(&InvokeError::Limit(Exceeded::Tables(10))));
    }

    #[test]
    fn a_growth_beyond_its_own_maximum_takes_nothing() {
        let mut allowance = allowance();
        assert!(allowance.memory_growing(0, 60, Some(50)).expect("no error"));
        assert_eq!((allowance.memory_bytes(), allowance.refused()), (0, None));
    }
}
