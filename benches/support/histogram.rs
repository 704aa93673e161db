//! Quantiles of a Prometheus histogram, of what was observed between two readings. Never finer
//! than its buckets: inside one, values are taken to lie evenly.

use anyhow::{Context as _, Result, ensure};

/// Cumulative counts by upper bound, in the order of the bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Reads a histogram from Prometheus text; series that differ in other labels are added up.
    pub(crate) fn read(text: &str, name: &str) -> Result<Self> {
        let prefix = format!("{name}_bucket{{");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(&prefix)) {
            let (labels, count) = line.rsplit_once(' ').context("a count")?;
            let (_, bound) = labels.split_once("le=\"").context("a bound")?;
            let bound = bound.split('"').next().unwrap_or(bound).parse()?;
            let count: f64 = count.parse()?;
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        ensure!(!buckets.is_empty(), "/metrics has no histogram {name}");
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(Self(buckets))
    }

    /// What was observed after an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().map(|(_, count)| *count).chain(std::iter::repeat(0.0));
        let buckets = self.0.iter().zip(before);
        Self(buckets.map(|((bound, count), before)| (*bound, count - before)).collect())
    }

    /// The value below which this part of the observations lies.
    pub(crate) fn quantile(&self, part: f64) -> Result<f64> {
        let total = self.0.last().map_or(0.0, |(_, count)| *count);
        ensure!(total > 0.0, "nothing was observed");
        let rank = part * total;
        let mut below = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                if bound.is_infinite() {
                    return Ok(below.0);
                }
                let inside = (rank - below.1) / (count - below.1);
                return Ok(below.0 + (bound - below.0) * inside);
            }
            below = (*bound, *count);
        }
        Ok(below.0)
    }
}
