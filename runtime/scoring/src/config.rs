//! What bounds batches: how many there are and run, how large they are, and for how long they are kept.
//! It enforces nothing itself.

use std::{path::PathBuf, time::Duration};

use quern_parquet::ReaderConfig;
use quern_types::ByteSize;

use crate::source::MOST_ROW;

/// What batches may take up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoringConfig {
    /// Where their files are.
    pub directory: PathBuf,
    /// Batches that run at a time; more wait for their turn.
    pub running: u32,
    /// Batches that a tenant has, ended ones included.
    pub most: u32,
    /// Bytes of one file.
    pub upload: ByteSize,
    /// Bytes that the files and results of a tenant's batches have together.
    pub storage: ByteSize,
    /// How long a batch is kept after it has ended.
    pub keep: Duration,
    /// How long a call is tried again that is refused for want of room, before its batch fails.
    pub patience: Duration,
    /// How files of Parquet are read.
    pub reader: ReaderConfig,
}

impl ScoringConfig {
    /// What is usual, for batches in a folder.
    pub fn new(directory: PathBuf) -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            directory,
            running: 2,
            most: 1_000,
            upload: ByteSize::mib(4 << 10),
            storage: ByteSize::mib(16 << 10),
            keep: 7 * 24 * HOUR,
            patience: HOUR,
            reader: ReaderConfig { row_bytes: MOST_ROW.0, ..ReaderConfig::of_this_program() },
        }
    }
}
