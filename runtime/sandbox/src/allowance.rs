//! What one instance may take of memory, tables and core instances, each counted over the whole
//! component.

use std::sync::Arc;

use quern_types::{Exceeded, InvokeError, Limits};
use wasmtime::ResourceLimiter;

use crate::memory::MemoryShare;

/// Counts what one instance takes and refuses what exceeds its limits, or what there is.
pub(crate) struct Allowance {
    limits: Limits,
    share: Arc<MemoryShare>,
    memory_bytes: u64,
    table_elements: u64,
    refused: Option<InvokeError>,
}

impl Allowance {
    pub(crate) fn new(limits: Limits, share: Arc<MemoryShare>) -> Self {
        Self { limits, share, memory_bytes: 0, table_elements: 0, refused: None }
    }

    /// The most bytes of linear memory that the instance has had.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Why the guest was refused something, the first time that it was.
    pub(crate) fn refused(&self) -> Option<&InvokeError> {
        self.refused.as_ref()
    }

    fn refuse(&mut self, reason: InvokeError) -> wasmtime::Result<bool> {
        self.refused.get_or_insert(reason);
        Ok(false)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.share.give_back(self.memory_bytes);
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
        if let Err(full) = self.share.take(total - self.memory_bytes) {
            return self.refuse(full);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let limit = self.limits.tables;
        if grow(&mut self.table_elements, limit.into(), current, desired, maximum) {
            return Ok(true);
        }
        self.refuse(InvokeError::Limit(Exceeded::Tables(limit)))
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
