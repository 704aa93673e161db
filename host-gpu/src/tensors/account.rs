//! What a tenant's sessions have had of devices and have now. Counts only.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts for one tenant on one device, however many sessions and lanes it has.
#[derive(Debug, Default)]
pub struct Account {
    computed_ns: AtomicU64,
    used_bytes: AtomicU64,
}

impl Account {
    /// Time that lanes have computed, in ns.
    pub fn computed_ns(&self) -> u64 {
        self.computed_ns.load(Relaxed)
    }

    /// Memory of the tensors that there are.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    pub(super) fn computed(&self, ns: u64) {
        self.computed_ns.fetch_add(ns, Relaxed);
    }

    /// A session's tensors take up so much now, which took up so much before.
    pub(super) fn used(&self, before_bytes: u64, now_bytes: u64) {
        // Wraps around where it sinks, to what it is.
        self.used_bytes.fetch_add(now_bytes.wrapping_sub(before_bytes), Relaxed);
    }
}
