//! The archive of a backup on its way out: plain tar, in which each file is checked as it passes.
//! Never knows what the files mean.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use quern_types::{ByteSize, Digest, DigestWriter};
use tar::{Builder, EntryType, Header};

use super::{
    BackupDescription, BackupError, BackupFile, CHUNK, DESCRIPTION, DESCRIPTION_DIGEST,
    sources::unreadable,
};

/// What tar rounds lengths up to.
const BLOCK: u64 = 512;

/// An archive on its way out.
pub(super) struct Writer<W: io::Write>(Builder<W>);

impl<W: io::Write> Writer<W> {
    /// Begins with the description and its digest.
    pub(super) fn begin(to: W, text: &[u8]) -> Result<Self, BackupError> {
        let mut builder = Builder::new(to);
        for (path, content) in
            [(DESCRIPTION, text), (DESCRIPTION_DIGEST, digest_line(text).as_bytes())]
        {
            let appended = builder.append_data(&mut header(content.len() as u64), path, content);
            appended.map_err(BackupError::Write)?;
        }
        Ok(Self(builder))
    }

    /// Adds a file, which must be what the description says.
    pub(super) fn append(&mut self, file: &BackupFile, source: &Path) -> Result<(), BackupError> {
        let content = File::open(source).map_err(|cause| unreadable(source, cause))?;
        let mut checked = Checked::new(content.take(file.bytes));
        let appended = self.0.append_data(&mut header(file.bytes), &file.path, &mut checked);
        appended.map_err(BackupError::Write)?;
        match checked.finish() == (file.bytes, file.digest) {
            true => Ok(()),
            false => Err(BackupError::Corrupt { path: file.path.clone() }),
        }
    }

    pub(super) fn finish(self) -> Result<(), BackupError> {
        let mut inner = self.0.into_inner().map_err(BackupError::Write)?;
        inner.flush().map_err(BackupError::Write)
    }
}

/// Bytes of the archive of what is described with this text: a block and whole blocks of content for
/// each file, and two blocks at the end.
pub(super) fn length(description: &BackupDescription, text: &[u8]) -> u64 {
    let own = [text.len() as u64, digest_line(text).len() as u64];
    let files = description.files.iter().map(|file| file.bytes);
    let blocks = files.chain(own).map(|bytes| BLOCK + bytes.next_multiple_of(BLOCK));
    blocks.sum::<u64>() + 2 * BLOCK
}

/// What stands beside a description: its digest, as `sha256sum` writes and checks it.
pub(super) fn digest_line(description: &[u8]) -> String {
    format!("{}  {DESCRIPTION}\n", Digest::of(description).hex())
}

/// A description as it stands in the archive, if it is no longer than this.
pub(super) fn described(
    description: &BackupDescription,
    limit: ByteSize,
) -> Result<Vec<u8>, BackupError> {
    let text = serde_json::to_vec(description).expect("text and numbers are JSON");
    match ByteSize(text.len() as u64) {
        bytes if bytes > limit => {
            Err(BackupError::TooMany { files: description.files.len(), bytes, limit })
        }
        _ => Ok(text),
    }
}

fn header(bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    // Whoever unpacks it by hand has what nobody else is to read.
    header.set_mode(0o600);
    header
}

/// A reader that digests what goes through it.
pub(super) struct Checked<R> {
    inner: R,
    digest: DigestWriter,
    bytes: u64,
}

impl<R> Checked<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, digest: DigestWriter::default(), bytes: 0 }
    }

    /// Length and digest of what was read.
    pub(super) fn finish(self) -> (u64, Digest) {
        (self.bytes, self.digest.finish())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(CHUNK);
        let read = self.inner.read(&mut into[..most])?;
        self.digest.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
