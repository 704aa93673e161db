//! Why a file can't be read, and how far it was read before.

use std::{fmt, io, time::Duration};

/// How far a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Not even its columns are known.
    Nothing,
    /// So many of its rows.
    Rows(u64),
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing | Self::Rows(0) => f.write_str("before its first row"),
            Self::Rows(rows) => write!(f, "after row {rows}"),
        }
    }
}

/// Why a file can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is another kind of file.
    #[error("the file is not Parquet: it does not begin and end with \"PAR1\"")]
    NotParquet,
    /// There is no process to read it in.
    #[error("the process that reads Parquet can't be started: {0}")]
    Start(#[source] io::Error),
    /// It contradicts itself, or has what nobody here can read.
    #[error("the file can't be read {reached}: {reason}")]
    Broken {
        /// How far it was read.
        reached: Reached,
        /// What is wrong with it.
        reason: String,
    },
    /// The process ended: the file made it need too much, most likely.
    #[error("the process that reads the file ended {reached}: {reason}")]
    Ended {
        /// How far it had read.
        reached: Reached,
        /// How it ended.
        reason: String,
    },
    /// The process gives nothing.
    #[error(
        "the process that reads the file was stuck {reached}: it gave nothing for {patience:?}"
    )]
    Stuck {
        /// How far it had read.
        reached: Reached,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The process does not say what it has to.
    #[error("the process that reads the file made no sense {reached}: {reason}")]
    Nonsense {
        /// How far it had read.
        reached: Reached,
        /// What it said.
        reason: String,
    },
    /// Whoever wanted the rows does not want them any more.
    #[error("reading was stopped")]
    Stopped,
}
