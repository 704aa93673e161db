//! A disk that fails, and a clock that jumps, at the word of a test: a small library between one server
//! and the system (`simulator.c`), which is compiled here by the compiler that builds the server.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::io::Errno;
use tempfile::TempDir;

use crate::support::{Server, root};

/// What a disk does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disk {
    /// It takes everything.
    Well,
    /// It has no room: nothing grows, and nothing is made.
    Full,
    /// It lets nobody open a file to write it, as one that is mounted anew as read-only.
    ReadOnly,
    /// It takes no writes at all, as one that has found that something is wrong with it.
    Broken,
    /// It takes everything, and then says that it can't keep it.
    Forgetful,
}

/// The library, what it is told, and a data folder.
pub(crate) struct Simulator {
    data: Arc<TempDir>,
    library: PathBuf,
    path: PathBuf,
    control: File,
}

/// Where the library finds its words; see there.
const CLOCK: u64 = 0;
const ERRORS: u64 = 8;
const FAILED: u64 = 20;
const BYTES: u64 = 24;

impl Simulator {
    pub(crate) fn new() -> Self {
        let data = Arc::new(TempDir::new().expect("a folder"));
        let library = data.path().join("simulator.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let source = root().join("tests/end_to_end/faults/simulator.c");
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compile.status().expect("a C compiler is there").success());
        let path = data.path().join("control");
        let control = File::options().create_new(true).read(true).write(true).open(&path);
        let control = control.expect("made");
        control.set_len(BYTES).expect("grows");
        Self { data, library, path, control }
    }

    /// Starts a server that stands behind the library.
    pub(crate) fn start(&self, arguments: &[&str]) -> Server {
        Server::start_program(self.program(), self.data.clone(), arguments)
    }

    /// The program, behind the library.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command
            .env("LD_PRELOAD", &self.library)
            .env("QUERN_TEST_CONTROL", &self.path)
            .env("QUERN_TEST_FOLDER", self.folder());
        command
    }

    /// A folder of the test's own, with the data folder in it.
    pub(crate) fn data(&self) -> Arc<TempDir> {
        self.data.clone()
    }

    /// The data folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.data.path().join("data")
    }

    pub(crate) fn set_disk(&self, disk: Disk) {
        let none = 0;
        let (write, sync, open) = match disk {
            Disk::Well => (none, none, none),
            Disk::Full => (Errno::NOSPC.raw_os_error(), none, Errno::NOSPC.raw_os_error()),
            Disk::ReadOnly => (none, none, Errno::ROFS.raw_os_error()),
            Disk::Broken => {
                (Errno::ROFS.raw_os_error(), Errno::ROFS.raw_os_error(), Errno::ROFS.raw_os_error())
            }
            Disk::Forgetful => (none, Errno::IO.raw_os_error(), none),
        };
        let words = [write, sync, open].map(i32::to_ne_bytes).concat();
        self.control.write_all_at(&words, ERRORS).expect("written");
    }

    /// How much has failed so far.
    pub(crate) fn failures(&self) -> i32 {
        let mut word = [0; 4];
        self.control.read_exact_at(&mut word, FAILED).expect("read");
        i32::from_ne_bytes(word)
    }

    /// Sets the server's clock on the wall, to seconds since 1970.
    pub(crate) fn set_clock(&self, seconds: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let offset = seconds.cast_signed() - now.cast_signed();
        self.control.write_all_at(&offset.to_ne_bytes(), CLOCK).expect("written");
    }
}
