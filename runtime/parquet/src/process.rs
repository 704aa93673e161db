//! The process's side: takes an open file and a stream from the server, confines itself, and then
//! looks at the file for the first time. It gives rows as fast as they are taken, and ends.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    panic::{self, AssertUnwindSafe},
};

use quern_process::{
    confine, leave_files, outlive_nobody,
    socket::{self, MAX_MESSAGE},
};
use rustix::{
    net::{SocketType, sockopt::socket_type},
    process::setpriority_process,
    stdio::stdin,
};

use crate::{
    frame::{self, ColumnDescription, Described, Kind, MOST_DESCRIPTION, Opened, Setup, Wanted},
    source::OpenFile,
    table::{Event, Table, TableError},
};

/// The command of a program that calls [`run_parquet_reader`].
pub const READER_COMMAND: &str = "parquet-reader";

/// How much less urgent than the server the process is.
const NICE: i32 = 10;
/// Bytes of frames that are sent together.
const BUFFER: usize = 128 << 10;
/// Longest reason that is told.
const MOST_REASON: usize = 400;

/// Why a process can't read files.
#[derive(Debug, thiserror::Error)]
pub enum ReaderProcessError {
    /// Its standard input is not the socket of a server.
    #[error("this is what a server reads Parquet in: only `quern serve` can start it")]
    NotStartedByServer,
    /// The server is gone, or says something else than it has to.
    #[error("lost the server: {0}")]
    Server(#[from] io::Error),
}

/// Reads one file for the server that started this process, with its standard input for a socket.
/// To be called before there is any other thread, for what confines this one would not confine
/// others.
pub fn run_parquet_reader() -> Result<(), ReaderProcessError> {
    let control = stdin();
    if socket_type(control).ok() != Some(SocketType::SEQPACKET) {
        return Err(ReaderProcessError::NotStartedByServer);
    }
    outlive_nobody()?;
    let (setup, file): (Setup, _) = socket::receive_with_file(control, &mut vec![0; MAX_MESSAGE])?;
    let (Opened { row_bytes }, stream) = socket::receive_with_file(control, &mut [0; 16])?;
    let (Some(file), Some(stream)) = (file, stream) else {
        return Err(io::Error::other("a file or a stream is missing").into());
    };
    // Whatever this computes, calls go first.
    let _ = setpriority_process(None, NICE);
    // What a panic says is told to the server, as a reason among others.
    panic::set_hook(Box::new(|_| {}));
    // As a file: what std does with sockets is not allowed here.
    let mut stream = &File::from(stream);
    let served = panic::catch_unwind(AssertUnwindSafe(|| {
        serve(&setup, row_bytes, File::from(file), stream)
    }));
    let reason = match served {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(TableError::Taken(error))) => return Err(error.into()),
        Ok(Err(TableError::File(reason))) => reason,
        Err(panic) => format!("the parser gave up: {}", said(&*panic)),
    };
    let reason: String =
        reason.chars().filter(|char| !char.is_control()).take(MOST_REASON).collect();
    frame::write(&mut stream, Kind::Broken, reason.as_bytes())?;
    Ok(())
}

fn serve(setup: &Setup, row_bytes: u64, file: File, mut stream: &File) -> Result<(), TableError> {
    let files = leave_files();
    let confinement = confine(&files, Some(setup.memory_bytes));
    let table = Table::open(OpenFile::new(file, setup.file_bytes))?;
    let columns = table.columns().iter().map(|column| ColumnDescription {
        name: column.name.clone(),
        refusal: column.leaf.as_ref().err().cloned(),
    });
    let described = Described { confinement, rows: table.rows(), columns: columns.collect() };
    let mut to = BufWriter::with_capacity(BUFFER, stream);
    let description = frame::encode(&described)?;
    if description.len() as u64 > MOST_DESCRIPTION {
        let columns = table.columns().len();
        return Err(TableError::File(format!("the names of its {columns} columns are too long")));
    }
    frame::write(&mut to, Kind::Described, &description)?;
    to.flush()?;
    let mut bytes = Vec::new();
    match frame::read(&mut stream, u64::from(u32::MAX), &mut bytes) {
        Ok(Kind::Wanted) => {}
        Ok(_) => return Err(io::Error::other("something else than what is wanted").into()),
        // Its description was all that was wanted.
        Err(error) if socket::is_end(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let Wanted { columns, skip } = frame::message(&bytes)?;
    let read = table.read(&columns, skip, &mut |event| match event {
        Event::Row(row) if row.len() as u64 > row_bytes => {
            frame::write(&mut to, Kind::LongRow, &[])
        }
        Event::Row(row) => frame::write(&mut to, Kind::Row, row),
        Event::Skipped => {
            frame::write(&mut to, Kind::Skipped, &[])?;
            to.flush()
        }
    });
    // Rows before the one that can't be read count, so they are sent first.
    let ended = match &read {
        Ok(()) => frame::write(&mut to, Kind::End, &[]),
        Err(_) => Ok(()),
    };
    ended.and_then(|()| to.flush())?;
    read
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it does not say why").to_owned()
}
