//! How the last commit of a writer went: as a metric, and for those who ask how the server is. Never
//! commits anything.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGauge;
use quern_types::{StorageFailure, StorageFault};

/// What is known of a writer's last commit that was to change something.
#[derive(Debug, Clone)]
pub(crate) struct LastCommit {
    failing: IntGauge,
    fault: Arc<Mutex<Option<StorageFault>>>,
}

impl LastCommit {
    /// Shows on a gauge whether it failed.
    pub(crate) fn new(failing: IntGauge) -> Self {
        Self { failing, fault: Arc::default() }
    }

    /// Notes that something is on the disk.
    pub(crate) fn succeeded(&self) {
        self.note(None);
    }

    /// Notes that nothing is.
    pub(crate) fn failed(&self, failure: &StorageFailure) {
        self.note(Some(failure.fault()));
    }

    /// Why it failed, if it did.
    pub(crate) fn fault(&self) -> Option<StorageFault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, fault: Option<StorageFault>) {
        self.failing.set(fault.is_some().into());
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_counts() {
        let gauge = IntGauge::new("failing", "failing").expect("a valid name");
        let last = LastCommit::new(gauge.clone());
        assert_eq!((last.fault(), gauge.get()), (None, 0));
        last.failed(&StorageFailure::new(StorageFault::Full, "no room"));
        assert_eq!((last.fault(), gauge.get()), (Some(StorageFault::Full), 1));
        last.succeeded();
        assert_eq!((last.fault(), gauge.get()), (None, 0));
    }
}
