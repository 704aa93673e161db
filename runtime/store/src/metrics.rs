//! What the store measures of itself; registered by whoever opens it.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, exponential_buckets,
};

use crate::last_commit::LastCommit;

/// Handles to the store's metrics.
#[derive(Debug, Clone)]
pub(crate) struct StoreMetrics {
    /// From the first operation of a group to its end on the disk.
    pub(crate) commit_seconds: Histogram,
    /// Operations that shared a commit.
    pub(crate) group_operations: Histogram,
    /// Operations that wait for the writer.
    pub(crate) queued_operations: IntGauge,
    /// From the first write of a group of key-value operations to its end on the disk.
    pub(crate) keyvalue_commit_seconds: Histogram,
    /// Key-value operations that shared a commit.
    pub(crate) keyvalue_group_operations: Histogram,
    /// From the first write of a group of the queue's operations to its end on the disk.
    pub(crate) queue_commit_seconds: Histogram,
    /// Operations of the queue of calls that shared a commit.
    pub(crate) queue_group_operations: Histogram,
    /// Bytes of all blobs.
    pub(crate) blob_bytes: IntGauge,
    /// Log records that the queue had no room for, or that could not be written.
    pub(crate) dropped_records: IntCounter,
    /// Whether the last commit of the catalog failed.
    pub(crate) catalog_failing: LastCommit,
    /// The same for keys and values.
    pub(crate) keyvalue_failing: LastCommit,
    /// The same for the queue of asynchronous calls.
    pub(crate) queue_failing: LastCommit,
    /// The same for the logs of functions.
    pub(crate) logs_failing: LastCommit,
    /// Backups that whoever asked for them has, and those that broke off.
    backups: IntCounterVec,
    /// When the last one was complete.
    backup_time: Gauge,
}

/// How a backup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupEnd {
    /// All of it was taken.
    Complete,
    /// It failed, or whoever was to have it left.
    BrokenOff,
}

impl StoreMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let commit_seconds = HistogramOpts::new(
            "quern_store_commit_seconds",
            "Time to write and sync one group of catalog operations",
        )
        .buckets(exponential_buckets(0.000_25, 2.0, 14)?);
        let group_operations = HistogramOpts::new(
            "quern_store_group_operations",
            "Catalog operations that shared one commit",
        )
        .buckets(exponential_buckets(1.0, 2.0, 8)?);
        let keyvalue_commit_seconds = HistogramOpts::new(
            "quern_store_keyvalue_commit_seconds",
            "Time to write and sync one group of key-value operations",
        )
        .buckets(exponential_buckets(0.000_25, 2.0, 14)?);
        let keyvalue_group_operations = HistogramOpts::new(
            "quern_store_keyvalue_group_operations",
            "Key-value operations that shared one commit",
        )
        .buckets(exponential_buckets(1.0, 2.0, 9)?);
        let queue_commit_seconds = HistogramOpts::new(
            "quern_store_queue_commit_seconds",
            "Time to write and sync one group of operations on the queue of asynchronous calls",
        )
        .buckets(exponential_buckets(0.000_25, 2.0, 14)?);
        let queue_group_operations = HistogramOpts::new(
            "quern_store_queue_group_operations",
            "Operations on the queue of asynchronous calls that shared one commit",
        )
        .buckets(exponential_buckets(1.0, 2.0, 10)?);
        let failing = IntGaugeVec::new(
            Opts::new(
                "quern_store_failing",
                "Whether the last commit of a writer failed, by what it writes",
            ),
            &["writer"],
        )?;
        let failing = registered(registry, failing)?;
        let last_commit = |writer| LastCommit::new(failing.with_label_values(&[writer]));
        let backups = IntCounterVec::new(
            Opts::new("quern_store_backups_total", "Backups of the data folder, by how they ended"),
            &["outcome"],
        )?;
        for end in [BackupEnd::Complete, BackupEnd::BrokenOff] {
            backups.with_label_values(&[end.as_str()]);
        }
        let backup_time = Gauge::new(
            "quern_store_last_backup_timestamp_seconds",
            "When the last complete backup since the start ended, in seconds since 1970",
        )?;
        Ok(Self {
            backups: registered(registry, backups)?,
            backup_time: registered(registry, backup_time)?,
            catalog_failing: last_commit("catalog"),
            keyvalue_failing: last_commit("keyvalue"),
            queue_failing: last_commit("queue"),
            logs_failing: last_commit("logs"),
            queue_commit_seconds: registered(
                registry,
                Histogram::with_opts(queue_commit_seconds)?,
            )?,
            queue_group_operations: registered(
                registry,
                Histogram::with_opts(queue_group_operations)?,
            )?,
            keyvalue_commit_seconds: registered(
                registry,
                Histogram::with_opts(keyvalue_commit_seconds)?,
            )?,
            keyvalue_group_operations: registered(
                registry,
                Histogram::with_opts(keyvalue_group_operations)?,
            )?,
            commit_seconds: registered(registry, Histogram::with_opts(commit_seconds)?)?,
            group_operations: registered(registry, Histogram::with_opts(group_operations)?)?,
            queued_operations: registered(
                registry,
                IntGauge::new(
                    "quern_store_queued_operations",
                    "Catalog operations that wait for the writer",
                )?,
            )?,
            blob_bytes: registered(
                registry,
                IntGauge::new("quern_store_blob_bytes", "Bytes of all stored blobs")?,
            )?,
            dropped_records: registered(
                registry,
                IntCounter::new(
                    "quern_store_dropped_log_records_total",
                    "Log records of functions that were dropped because the queue was full or \
                     the disk refused them",
                )?,
            )?,
        })
    }
}

impl StoreMetrics {
    /// Counts a backup that has ended.
    pub(crate) fn backup_ended(&self, end: BackupEnd) {
        self.backups.with_label_values(&[end.as_str()]).inc();
        if end == BackupEnd::Complete {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.backup_time.set(now.as_secs_f64());
        }
    }
}

impl BackupEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::BrokenOff => "broken-off",
        }
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
