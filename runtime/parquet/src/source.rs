//! The open file, read where the parser wants to, and never beyond what it has: a claim to a
//! gigabyte in a short file is refused before there is room for one.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};

/// An open file.
#[derive(Debug, Clone)]
pub(crate) struct OpenFile {
    file: Arc<File>,
    length: u64,
}

/// A place in it, from which is read on.
#[derive(Debug)]
pub(crate) struct Place {
    file: OpenFile,
    at: u64,
}

impl OpenFile {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { file: Arc::new(file), length }
    }
}

impl Length for OpenFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for OpenFile {
    type T = BufReader<Place>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Place { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            let length_of_file = self.length;
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} lie beyond the end of the file, at {length_of_file}"
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
