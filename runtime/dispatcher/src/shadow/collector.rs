//! What came of copies, for `/metrics`. Reads the records when it is asked, and keeps nothing: what
//! is no longer deployed has no series.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::Shadows;

/// Reads the records of one class.
pub(crate) struct ShadowCollector {
    shadows: Arc<Shadows>,
    copies: IntGaugeVec,
    /// Held while the series are filled and read.
    collecting: Mutex<()>,
}

impl ShadowCollector {
    /// `class` is the word of the metric's name and label: "function" or "model".
    pub(crate) fn new(
        class: &'static str,
        shadows: Arc<Shadows>,
    ) -> Result<Self, prometheus::Error> {
        let name = format!("quern_{class}_shadow_copies");
        let help = "Copies of requests that a shadow got, by what came of them";
        let copies = IntGaugeVec::new(Opts::new(name, help), &["tenant", class, "outcome"])?;
        Ok(Self { shadows, copies, collecting: Mutex::default() })
    }
}

impl Collector for ShadowCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.copies.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        // Of all versions of a name together, so that the labels are bounded by the names.
        let mut sums = BTreeMap::<_, [u64; 4]>::new();
        for (key, report) in self.shadows.all() {
            let counts = [report.same, report.different, report.failed, report.dropped];
            let sum = sums.entry((key.tenant, key.name)).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.copies.reset();
        for ((tenant, name), sums) in sums {
            for (outcome, sum) in ["same", "different", "failed", "dropped"].into_iter().zip(sums) {
                let labels = [tenant.as_str(), name.as_str(), outcome];
                let sum = i64::try_from(sum).unwrap_or(i64::MAX);
                self.copies.with_label_values(&labels).set(sum);
            }
        }
        self.copies.collect()
    }
}
