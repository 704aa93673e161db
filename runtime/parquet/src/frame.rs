//! What the two processes say to each other, as frames: a length, what it is, and its bytes. Frames
//! from the process are bounded by whoever reads them, before anything is allocated.

use std::io::{self, Read, Write};

use quern_types::Confinement;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest description of a file.
pub(crate) const MOST_DESCRIPTION: u64 = 16 << 20;
/// Most columns of a file, those within structs counted as well: each is described, and may be read at
/// the same time as all others.
pub(crate) const MOST_COLUMNS: usize = 65_536;
/// Rows of a column that are passed over before that is said.
pub(crate) const SKIPPED_ROWS: u64 = 1 << 10;

/// What a new process is told first, together with the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The length of the file.
    pub(crate) file_bytes: u64,
    /// What it may allocate.
    pub(crate) memory_bytes: u64,
}

/// What it is told next, together with the stream of frames.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Longest row.
    pub(crate) row_bytes: u64,
}

/// What the file has.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Described {
    /// What the process is kept from.
    pub(crate) confinement: Vec<Confinement>,
    /// Rows, as the file claims.
    pub(crate) rows: u64,
    /// Its columns, in order.
    pub(crate) columns: Vec<ColumnDescription>,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Why it can't be read: `is …`. None: it can.
    pub refusal: Option<String>,
}

/// Which rows the server wants.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Places of columns, in the order in which their values come.
    pub(crate) columns: Vec<u32>,
    /// Rows that are passed over.
    pub(crate) skip: u64,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Described = 1,
    Wanted = 2,
    /// One row.
    Row = 3,
    /// One row that is longer than it may be; nothing comes with it.
    LongRow = 4,
    /// There are no more rows.
    End = 5,
    /// There might be, but they can't be read: why, as a text.
    Broken = 6,
    /// Rows of a column are passed over, which takes a while.
    Skipped = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Described,
        Self::Wanted,
        Self::Row,
        Self::LongRow,
        Self::End,
        Self::Broken,
        Self::Skipped,
    ];

    fn of(byte: u8) -> io::Result<Self> {
        let kind = Self::ALL.into_iter().find(|kind| *kind as u8 == byte);
        kind.ok_or_else(|| invalid(format!("a frame of kind {byte}")))
    }
}

/// Writes a frame.
pub(crate) fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&[kind as u8])?;
    to.write_all(bytes)
}

/// The bytes of a message, which are a frame's.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(message).map_err(io::Error::other)
}

/// Reads a frame of at most so many bytes into `bytes`.
pub(crate) fn read(from: &mut impl Read, most: u64, bytes: &mut Vec<u8>) -> io::Result<Kind> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [length @ .., kind] = head;
    let (length, kind) = (u32::from_le_bytes(length), Kind::of(kind)?);
    if u64::from(length) > most {
        return Err(invalid(format!("a frame of {length} bytes")));
    }
    bytes.clear();
    bytes.resize(length as usize, 0);
    from.read_exact(bytes)?;
    Ok(kind)
}

/// The message that a frame is.
pub(crate) fn message<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(invalid(format!("a message with {} bytes too many", rest.len()))),
        Err(error) => Err(invalid(format!("a message that can't be read: {error}"))),
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut stream = Vec::new();
        for kind in Kind::ALL {
            write(&mut stream, kind, &[kind as u8; 3]).expect("writes");
        }
        let (mut stream, mut bytes) = (&stream[..], Vec::new());
        for kind in Kind::ALL {
            assert_eq!(read(&mut stream, 3, &mut bytes).expect("reads"), kind);
            assert_eq!(bytes, [kind as u8; 3]);
        }
        let end = read(&mut stream, 3, &mut bytes).expect_err("the end");
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for (bytes, problem) in [
            (&[0, 0, 0, 0, 9][..], "a frame of kind 9"),
            (&[4, 0, 0, 0, 3, 1, 2, 3, 4], "a frame of 4 bytes"),
            (&[0xff, 0xff, 0xff, 0xff, 3], "a frame of 4294967295 bytes"),
        ] {
            let refused = read(&mut &bytes[..], 3, &mut Vec::new()).expect_err(problem);
            assert_eq!(refused.to_string(), problem);
        }
        let wanted = encode(&Wanted { columns: vec![1], skip: 2 }).expect("encodes");
        assert_eq!(message::<Wanted>(&wanted).expect("decodes").skip, 2);
        assert!(message::<Wanted>(&[&wanted[..], &[0]].concat()).is_err());
        assert!(message::<Wanted>(&wanted[..1]).is_err());
    }
}
