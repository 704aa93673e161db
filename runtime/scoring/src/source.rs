//! Files of rows, whatever their format: one row after the other, from any place between two of
//! them. Memory is bounded by the longest row that is allowed, whatever the file has.

mod csv;
pub(crate) mod json;
mod ndjson;

use std::{fs::File, io, path::Path};

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

/// Opens a file to read on from a place in it.
pub(crate) fn open(
    path: &Path,
    format: Format,
    plan: &Plan,
    at: Position,
) -> Result<Box<dyn Source>, SourceError> {
    let file = File::open(path)?;
    Ok(match format {
        Format::Csv => Box::new(csv::CsvRows::open(file, plan, at)?),
        Format::Ndjson => Box::new(ndjson::JsonLines::open(file, at)?),
    })
}
