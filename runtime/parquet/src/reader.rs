//! The server's side: a process that reads one file. It is started with the file, asked once, and
//! gone with the reader. Nothing that it says is believed.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use quern_process::socket;

use crate::{
    cell::Cells,
    ended,
    error::{Reached, ReadError},
    frame::{
        self, ColumnDescription, Described, Kind, MOST_COLUMNS, MOST_DESCRIPTION, Opened,
        SKIPPED_ROWS, Setup, Wanted,
    },
    process::READER_COMMAND,
    stop::Stop,
};

/// What files of Parquet begin and end with.
const MAGIC: [u8; 4] = *b"PAR1";
/// Bytes that are read from the stream at once.
const BUFFER: usize = 128 << 10;

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderConfig {
    /// The program that calls [`crate::run_parquet_reader`], and with what.
    pub program: PathBuf,
    /// See there.
    pub arguments: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// What its process may allocate.
    pub memory_bytes: u64,
    /// Longest row, as its cells are written.
    pub row_bytes: u64,
    /// How long the process may take for the columns, and for each row.
    pub patience: Duration,
}

impl ReaderConfig {
    /// Has this very program read, also if there is another one by now where it was started from.
    pub fn of_this_program() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec![READER_COMMAND.into()],
            environment: vec![],
            memory_bytes: 1 << 30,
            row_bytes: 8 << 20,
            patience: Duration::from_secs(30),
        }
    }
}

/// A row of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'r> {
    /// Its values, one for each column that was asked for.
    Cells(Cells<'r>),
    /// It is longer than a row may be.
    TooLong,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    stream: BufReader<Deadlined>,
    config: ReaderConfig,
    stop: Stop,
    described: Described,
    reached: Reached,
    /// How often it may still say that it passes over rows.
    skips: u64,
    frame: Vec<u8>,
}

/// A stream from which nothing comes after its deadline.
#[derive(Debug)]
struct Deadlined {
    stream: UnixStream,
    until: Instant,
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

impl Reader {
    /// Starts a process that reads this file, and waits until it knows the columns.
    pub fn open(file: &File, config: ReaderConfig, stop: Stop) -> Result<Self, ReadError> {
        let file_bytes = file.metadata().map_err(ReadError::Start)?.len();
        if !has_magic(file, file_bytes) {
            return Err(ReadError::NotParquet);
        }
        let (ours, theirs) = UnixStream::pair().map_err(ReadError::Start)?;
        let watched = ours.try_clone().map_err(ReadError::Start)?;
        if !stop.watch(watched) {
            return Err(ReadError::Stopped);
        }
        let setup = Setup { file_bytes, memory_bytes: config.memory_bytes };
        let child = start(&config, &setup, file, theirs).map_err(ReadError::Start)?;
        let stream = Deadlined { stream: ours, until: Instant::now() };
        let mut reader = Self {
            child,
            stream: BufReader::with_capacity(BUFFER, stream),
            config,
            stop,
            described: Described { confinement: vec![], rows: 0, columns: vec![] },
            reached: Reached::Nothing,
            skips: 0,
            frame: Vec::new(),
        };
        reader.described = match reader.receive(MOST_DESCRIPTION)? {
            Kind::Described => {
                frame::message(&reader.frame).map_err(|error| reader.nonsense(&error))?
            }
            other => return Err(reader.unexpected(other)),
        };
        let found = reader.described.columns.len();
        if found > MOST_COLUMNS {
            return Err(reader.nonsense(&io::Error::other(format!("it describes {found} columns"))));
        }
        for missing in &reader.described.confinement {
            if let Some(reason) = &missing.absent {
                let measure = &missing.measure;
                tracing::warn!(measure, reason, "not kept from the process that reads Parquet");
            }
        }
        Ok(reader)
    }

    /// The columns of the file, in order.
    pub fn columns(&self) -> &[ColumnDescription] {
        &self.described.columns
    }

    /// How many rows the file claims to have.
    pub fn rows(&self) -> u64 {
        self.described.rows
    }

    /// The process that reads.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Asks for the values of columns, by their places, in the rows after the first `skip`.
    pub fn ask(&mut self, columns: Vec<u32>, skip: u64) -> Result<(), ReadError> {
        self.reached = Reached::Rows(skip);
        self.skips = skip.div_ceil(SKIPPED_ROWS).saturating_mul(columns.len() as u64);
        let wanted = Wanted { columns, skip };
        let stream = &mut self.stream.get_mut().stream;
        // It has nothing else to do than to take this.
        let sent = stream
            .set_write_timeout(Some(self.config.patience))
            .and_then(|()| frame::write(stream, Kind::Wanted, &frame::encode(&wanted)?));
        sent.map_err(|error| self.lost(&error))
    }

    /// The next row; none at the end of the file.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, ReadError> {
        let mut kind = self.receive(self.config.row_bytes)?;
        while kind == Kind::Skipped && self.skips > 0 {
            self.skips -= 1;
            kind = self.receive(self.config.row_bytes)?;
        }
        let row = match kind {
            Kind::Row => Row::Cells(Cells::new(&self.frame)),
            Kind::LongRow => Row::TooLong,
            Kind::End => return Ok(None),
            other => return Err(self.unexpected(other)),
        };
        if let Reached::Rows(rows) = &mut self.reached {
            *rows += 1;
        }
        Ok(Some(row))
    }

    /// Receives a frame.
    fn receive(&mut self, most: u64) -> Result<Kind, ReadError> {
        self.stream.get_mut().until = Instant::now() + self.config.patience;
        match frame::read(&mut self.stream, most, &mut self.frame) {
            Ok(Kind::Broken) => {
                let reason = String::from_utf8_lossy(&self.frame).into_owned();
                Err(ReadError::Broken { reached: self.reached, reason })
            }
            Ok(kind) => Ok(kind),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// What it means that nothing comes, or something else than a frame.
    fn lost(&mut self, error: &io::Error) -> ReadError {
        let reached = self.reached;
        match error.kind() {
            _ if self.stop.is_stopped() => ReadError::Stopped,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ReadError::Stuck { reached, patience: self.config.patience }
            }
            _ if socket::is_end(error) => {
                let memory = quern_types::ByteSize(self.config.memory_bytes);
                let reason = ended::ending(&mut self.child);
                ReadError::Ended {
                    reached,
                    reason: format!("{reason}; it may have {memory} of memory"),
                }
            }
            _ => self.nonsense(error),
        }
    }

    fn unexpected(&self, kind: Kind) -> ReadError {
        self.nonsense(&io::Error::other(format!("a frame of kind {kind:?} out of turn")))
    }

    fn nonsense(&self, error: &io::Error) -> ReadError {
        ReadError::Nonsense { reached: self.reached, reason: error.to_string() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        ended::end(&mut self.child);
    }
}

/// Whether a file begins and ends as one of Parquet does.
fn has_magic(file: &File, bytes: u64) -> bool {
    let is_magic = |at: u64| {
        let mut found = [0; MAGIC.len()];
        file.read_exact_at(&mut found, at).is_ok() && found == MAGIC
    };
    let last = bytes.checked_sub(MAGIC.len() as u64);
    last.is_some_and(|last| is_magic(0) && is_magic(last))
}

/// Starts the process. It has nothing of this one but the file and the stream.
fn start(
    config: &ReaderConfig,
    setup: &Setup,
    file: &File,
    stream: UnixStream,
) -> io::Result<Child> {
    let (control, theirs) = socket::pair()?;
    let mut child = Command::new(&config.program)
        .arg0("quern")
        .args(&config.arguments)
        .env_clear()
        .envs(config.environment.iter().cloned())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stream, opened) = (OwnedFd::from(stream), Opened { row_bytes: config.row_bytes });
    let told = socket::send(&control, setup, Some(file.as_fd()))
        .and_then(|()| socket::send(&control, &opened, Some(stream.as_fd())));
    if let Err(error) = told {
        // It says why, where it can.
        let reason =
            if socket::is_end(&error) { ended::ending(&mut child) } else { error.to_string() };
        ended::end(&mut child);
        return Err(io::Error::other(reason));
    }
    Ok(child)
}
