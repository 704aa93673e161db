//! Files of rows, whatever their format: one row after the other, from any place between two of
//! them. Memory is bounded by the longest row that is allowed, whatever the file has.

mod columns;
mod csv;
pub(crate) mod json;
mod ndjson;
mod parquet;

use std::{fs::File, io, path::Path};

use quern_parquet::{ReadError, ReaderConfig, Stop};
use quern_types::ByteSize;

use crate::{
    plan::{Plan, Record},
    request::Format,
    rows::{Place, Position},
};

/// Longest row of a file, as it is written.
pub(crate) const MOST_ROW: ByteSize = ByteSize::mib(8);

/// Why a file can't be read on, whatever is to be done about single rows.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The disk failed.
    #[error("the file can't be read: {0}")]
    Read(#[from] io::Error),
    /// It has no first line.
    #[error("the file is empty: its first line has to name the columns")]
    NoHeader,
    /// The names of its columns are no text.
    #[error("the name of column {number} is not UTF-8")]
    HeaderText {
        /// From 1.
        number: usize,
    },
    /// A column is not there, or is there twice.
    #[error("column {column:?} {reason}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of Parquet can't be read.
    #[error(transparent)]
    Parquet(ReadError),
    /// There is no process to read a file of Parquet in.
    #[error("the file can't be read: {0}")]
    Process(io::Error),
    /// A row has no end, or is too long.
    #[error("row {row} (line {line}) {reason}")]
    Row {
        /// Its number.
        row: u64,
        /// The line on which it begins.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Takes in a row: where it is, and what is in it or why that can't be told.
pub(crate) type Taking<'t> = &'t mut dyn FnMut(Place, Result<&dyn Record, String>);

/// Gives the rows of a file.
pub(crate) trait Source {
    /// Hands on the next row; false at the end of the file.
    fn next(&mut self, take: Taking<'_>) -> Result<bool, SourceError>;
}

impl From<ReadError> for SourceError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Start(cause) => Self::Process(cause),
            error => Self::Parquet(error),
        }
    }
}

/// What is to be read, and how.
pub(crate) struct Opening<'o> {
    pub(crate) path: &'o Path,
    pub(crate) format: Format,
    pub(crate) plan: &'o Plan,
    /// Where to read on.
    pub(crate) at: Position,
    /// How a file of Parquet is read.
    pub(crate) reader: &'o ReaderConfig,
    /// Ends reading that waits for another process.
    pub(crate) stop: &'o Stop,
}

/// Opens a file to read on from a place in it.
pub(crate) fn open(opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
    let Opening { plan, at, .. } = *opening;
    let file = File::open(opening.path)?;
    Ok(match opening.format {
        Format::Csv => Box::new(csv::CsvRows::open(file, plan, at)?),
        Format::Ndjson => Box::new(ndjson::JsonLines::open(file, at)?),
        Format::Parquet => Box::new(parquet::ParquetRows::open(&file, opening)?),
    })
}
