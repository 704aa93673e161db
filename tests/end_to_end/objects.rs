//! Objects of POSIX shared memory, as a client on the same machine has them.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use rustix::{
    fs::{Mode, OFlags, ftruncate},
    process::getpid,
};

/// How the names of objects begin that tests make.
pub(crate) const PREFIX: &str = "/quern-test-";

/// An object, until it is dropped.
pub(crate) struct Object {
    key: String,
    file: fs::File,
}

impl Object {
    /// An object of zeros, whose name is of this test process and ends so.
    pub(crate) fn new(name: &str, bytes: usize) -> Self {
        Self::with_key(format!("{PREFIX}{}-{name}", getpid()), bytes)
    }

    /// An object of any name.
    pub(crate) fn with_key(key: String, bytes: usize) -> Self {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let path = path(&key);
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).expect("is made");
        let object = Self { key, file: file.into() };
        object.resize(bytes);
        object
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn path(&self) -> PathBuf {
        path(&self.key)
    }

    /// Cuts it short, or makes it longer.
    pub(crate) fn resize(&self, bytes: usize) {
        ftruncate(&self.file, bytes as u64).expect("is resized");
    }

    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        self.file.write_all_at(data, offset as u64).expect("is written");
    }

    pub(crate) fn read(&self, offset: usize, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        self.file.read_exact_at(&mut content, offset as u64).expect("is that long");
        content
    }

    /// Bytes that it has now.
    pub(crate) fn size(&self) -> u64 {
        self.file.metadata().expect("is open").len()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = fs::remove_file(self.path());
    }
}

fn path(key: &str) -> PathBuf {
    format!("/dev/shm{key}").into()
}
