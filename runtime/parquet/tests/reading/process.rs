//! The process under test is this program again, with the one test that takes its part; and what
//! becomes of a read when the process does not do its own.

use std::{
    env, fs,
    io::{Seek, Write},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use parquet::basic::Compression;
use quern_parquet::{
    Cell, Cells, Reached, ReadError, Reader, ReaderConfig, ReaderProcessError, Row, Stop,
    run_parquet_reader,
};
use quern_process::socket;
use rustix::process::{Pid, Signal, kill_process};

use crate::files::{Values, file, required, small};

#[test]
#[ignore = "the process's side of the other tests, which start it"]
fn this_process_reads() {
    match run_parquet_reader() {
        Ok(()) => {}
        Err(ReaderProcessError::NotStartedByServer) => {}
        Err(ReaderProcessError::Server(error)) => panic!("{error}"),
    }
}

/// A config that starts one of the tests here.
fn config_of(test: &str) -> ReaderConfig {
    let arguments = [test, "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    ReaderConfig {
        program: env::current_exe().expect("this program's file"),
        arguments: arguments.map(Into::into).into(),
        memory_bytes: 256 << 20,
        ..ReaderConfig::of_this_program()
    }
}

pub(crate) fn config() -> ReaderConfig {
    config_of("process::this_process_reads")
}

/// Opens a file with these bytes.
pub(crate) fn open(bytes: &[u8], config: ReaderConfig) -> Result<Reader, ReadError> {
    Reader::open(&on_disk(bytes), config, Stop::default())
}

fn on_disk(bytes: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("rewound");
    file
}

/// All rows after the first `skip`, with all columns.
pub(crate) fn rows(
    bytes: &[u8],
    config: ReaderConfig,
    skip: u64,
) -> Result<Vec<String>, ReadError> {
    let mut reader = open(bytes, config)?;
    let columns = (0..reader.columns().len() as u32).collect();
    reader.ask(columns, skip)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(text(row));
    }
    Ok(rows)
}

/// A row as a text.
pub(crate) fn text(row: Row<'_>) -> String {
    match row {
        Row::Cells(cells) => shown(cells),
        Row::TooLong => "too long".into(),
    }
}

/// Cells as a text.
fn shown(cells: Cells<'_>) -> String {
    let cell = |cell: Result<Cell<'_>, _>| match cell.expect("well-formed") {
        Cell::Null => "null".into(),
        Cell::Bool(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Unsigned(value) => format!("{value}u"),
        Cell::Single(value) => format!("{value:?}f"),
        Cell::Double(value) => format!("{value:?}"),
        Cell::Decimal(value) => value.into(),
        Cell::Text(value) => format!("{value:?}"),
        Cell::Binary(value) => format!("{value:?}"),
        Cell::List(cells) => format!("[{}]", shown(cells)),
        Cell::Unreadable(reason) => format!("({reason})"),
    };
    cells.map(cell).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_a_server_can_start_the_process() {
    let refused = run_parquet_reader();
    assert!(matches!(refused, Err(ReaderProcessError::NotStartedByServer)), "{refused:?}");
}

#[test]
fn what_is_no_process_is_an_error_of_the_server() {
    let absent = ReaderConfig { program: "/nonexistent".into(), ..config() };
    let refused = open(&small(Compression::SNAPPY), absent).expect_err("no program");
    assert!(matches!(refused, ReadError::Start(_)), "{refused}");
}

#[test]
fn a_process_that_gives_nothing_is_waited_for_so_long() {
    let patience = Duration::from_millis(50);
    let stuck = ReaderConfig {
        program: "sleep".into(),
        arguments: vec!["1000".into()],
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        patience,
        ..config()
    };
    let refused = open(&small(Compression::SNAPPY), stuck.clone()).expect_err("nothing comes");
    let expected = "the process that reads the file was stuck before its first row: it gave \
                    nothing for 50ms";
    assert_eq!(refused.to_string(), expected);
    let (stop, file) = (Stop::default(), on_disk(&small(Compression::SNAPPY)));
    let stopping = thread::spawn({
        let stop = stop.clone();
        move || stop.stop()
    });
    let patient = ReaderConfig { patience: Duration::from_secs(600), ..stuck };
    let stopped = Reader::open(&file, patient, stop).expect_err("is stopped");
    assert!(matches!(stopped, ReadError::Stopped), "{stopped}");
    stopping.join().expect("no panic");
}

#[test]
fn a_process_that_is_killed_is_an_end_at_its_row() {
    let many = file(
        "required int64 x;",
        Compression::SNAPPY,
        &[vec![required(Values::Int64((0..1_000_000).collect()))]],
    );
    let mut reader = open(&many, config()).expect("opens");
    assert_eq!(reader.rows(), 1_000_000);
    reader.ask(vec![0], 10).expect("asks");
    for _ in 0..5 {
        assert!(reader.next_row().expect("a row").is_some());
    }
    let process = i32::try_from(reader.process_id()).ok().and_then(Pid::from_raw);
    kill_process(process.expect("a process"), Signal::KILL).expect("is there");
    let ended = loop {
        match reader.next_row() {
            Ok(row) => assert!(row.is_some()),
            Err(error) => break error,
        }
    };
    let ReadError::Ended { reached: Reached::Rows(rows), reason } = &ended else {
        panic!("{ended}")
    };
    assert!((15..1_000_000).contains(rows), "{ended}");
    assert!(reason.starts_with("signal: 9 (SIGKILL); it may have 256.0 MiB"), "{ended}");
}

#[test]
fn a_process_that_is_refused_its_rows_ends_with_its_reader() {
    let many = file(
        "required int64 x;",
        Compression::SNAPPY,
        &[vec![required(Values::Int64((0..1_000_000).collect()))]],
    );
    let mut reader = open(&many, config()).expect("opens");
    reader.ask(vec![0], 0).expect("asks");
    let process = reader.process_id();
    drop(reader);
    assert!(!fs::exists(format!("/proc/{process}")).expect("can be looked up"));
}

#[test]
#[ignore = "a process that talks nonsense, started by the other tests"]
fn this_process_talks_nonsense() {
    says(&[0xff; 64]);
}

#[test]
#[ignore = "a process that describes more columns than there may be, started by the other tests"]
fn this_process_describes_too_much() {
    // Nothing that it is kept from, no rows, and 65,537 columns: without a name, and not refused.
    let described = [&[0, 0, 0x81, 0x80, 0x04][..], &[0; 2 * 65_537]].concat();
    let length = u32::try_from(described.len()).expect("short").to_le_bytes();
    says(&[&length[..], &[1], &described].concat());
}

/// Takes the part of a process that says this, if a server has started it.
fn says(bytes: &[u8]) {
    let control = rustix::stdio::stdin();
    let Ok(((_, _), _)) = socket::receive_with_file::<(u64, u64)>(control, &mut [0; 64]) else {
        return;
    };
    let (_, stream): (u64, Option<OwnedFd>) =
        socket::receive_with_file(control, &mut [0; 64]).expect("another message");
    let mut stream = fs::File::from(stream.expect("a stream"));
    stream.write_all(bytes).expect("writes");
}

#[test]
fn what_makes_no_sense_is_said() {
    for (process, expected) in [
        ("process::this_process_talks_nonsense", "a frame of kind 255"),
        ("process::this_process_describes_too_much", "it describes 65537 columns"),
    ] {
        let refused = open(&small(Compression::SNAPPY), config_of(process));
        let refused = refused.expect_err("makes no sense").to_string();
        let before = "the process that reads the file made no sense before its first row: ";
        assert_eq!(refused, format!("{before}{expected}"));
    }
}
