//! Rows of Parquet files, read in a process of their own. A file of Parquet says how much to
//! allocate and how often to repeat what, and the parser may follow it to its end: that ends a
//! process that has nothing but this one file.
//!
//! The server's side is [`Reader`]: it starts the process, gives it the open file, asks for columns,
//! and takes row after row. The process's side is [`run_parquet_reader`]: it is confined before it
//! looks at the file. Between them is a stream of frames (`frame`) whose rows are [`Cells`]. The
//! server believes nothing that it says, and waits for each frame only so long.
//!
//! Never knows what rows are for.

mod cell;
mod column;
mod ended;
mod error;
mod frame;
mod kind;
mod process;
mod reader;
mod schema;
mod source;
mod stop;
mod table;

pub use cell::{Cell, Cells, Malformed, RowWriter};
pub use error::{Reached, ReadError};
pub use frame::ColumnDescription;
pub use process::{READER_COMMAND, ReaderProcessError, run_parquet_reader};
pub use reader::{Reader, ReaderConfig, Row};
pub use stop::Stop;
