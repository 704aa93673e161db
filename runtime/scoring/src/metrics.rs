//! What is counted of batches.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::batch::BatchState;

/// The metrics of all batches.
#[derive(Debug, Clone)]
pub(crate) struct ScoringMetrics {
    scored: IntCounter,
    failed: IntCounter,
    batches: IntGaugeVec,
}

impl ScoringMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let rows = IntCounterVec::new(
            Opts::new("quern_batch_scoring_rows_total", "Rows of batches that have their result"),
            &["outcome"],
        )?;
        let batches = IntGaugeVec::new(
            Opts::new("quern_batch_scoring_batches", "Batches that are kept, by their state"),
            &["state"],
        )?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(batches.clone()))?;
        let [scored, failed] =
            ["scored", "failed"].map(|outcome| rows.with_label_values(&[outcome]));
        Ok(Self { scored, failed, batches })
    }

    pub(crate) fn scored(&self, scored: u64, failed: u64) {
        self.scored.inc_by(scored);
        self.failed.inc_by(failed);
    }

    /// Notes how many batches there are of each state.
    pub(crate) fn states(&self, states: impl Iterator<Item = BatchState> + Clone) {
        for state in BatchState::ALL {
            let count = states.clone().filter(|other| *other == state).count();
            self.batches.with_label_values(&[state.as_str()]).set(count as i64);
        }
    }
}
