//! Rows as JSON objects, one a line. Lines that are blank are no rows; a line that is too long is a
//! bad row, and costs no memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    str,
};

use super::{
    MOST_ROW, Source, SourceError, Taking,
    json::{self, Members},
};
use crate::{
    plan::{Kept, Record},
    rows::{Place, Position},
    value::Value,
};

const BUFFER: usize = 256 << 10;

/// The rows of a file.
pub(super) struct JsonLines {
    file: BufReader<File>,
    at: Position,
    line: Vec<u8>,
}

/// What became of a line.
enum Line {
    Whole,
    TooLong,
    End,
}

impl JsonLines {
    pub(super) fn open(mut file: File, at: Position) -> Result<Self, SourceError> {
        file.seek(SeekFrom::Start(at.byte))?;
        Ok(Self { file: BufReader::with_capacity(BUFFER, file), at, line: Vec::new() })
    }

    /// Reads a line, without its end; of one that is too long nothing is kept.
    fn read_line(&mut self) -> io::Result<Line> {
        self.line.clear();
        let (mut read, mut too_long) = (0u64, false);
        loop {
            let part = self.file.fill_buf()?;
            if part.is_empty() {
                break;
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let text = &part[..end.unwrap_or(part.len())];
            too_long |= (self.line.len() + text.len()) as u64 > MOST_ROW.0;
            if too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(text);
            }
            let used = end.map_or(part.len(), |end| end + 1);
            read += used as u64;
            self.file.consume(used);
            if end.is_some() {
                break;
            }
        }
        if read == 0 {
            return Ok(Line::End);
        }
        let begins = self.at.byte == 0;
        self.at.byte += read;
        self.at.line += 1;
        if begins && self.line.starts_with("\u{feff}".as_bytes()) {
            self.line.drain(..3);
        }
        Ok(if too_long { Line::TooLong } else { Line::Whole })
    }
}

impl Source for JsonLines {
    fn next(&mut self, take: Taking<'_>) -> Result<bool, SourceError> {
        let line = loop {
            match self.read_line()? {
                Line::End => return Ok(false),
                Line::Whole if self.line.trim_ascii().is_empty() => {}
                other => break other,
            }
        };
        self.at.row += 1;
        let place = Place { row: self.at.row, line: Some(self.at.line), end: self.at };
        if let Line::TooLong = line {
            take(place, Err(format!("is longer than {MOST_ROW}")));
            return Ok(true);
        }
        let text = match str::from_utf8(&self.line) {
            Ok(text) => text,
            Err(error) => {
                take(place, Err(format!("is not UTF-8 at byte {}", error.valid_up_to() + 1)));
                return Ok(true);
            }
        };
        match serde_json::from_str::<Members<'_>>(text) {
            Ok(members) => take(place, Ok(&members)),
            // Its line is 1, whatever line of the file it is.
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                let column = error.column();
                take(place, Err(format!("is no JSON object: {reason} at character {column}")));
            }
        }
        Ok(true)
    }
}

impl Record for Members<'_> {
    fn get(&self, column: &str) -> Option<Result<Value<'_>, String>> {
        self.0.get(column).map(|raw| json::value(raw.get(), 0))
    }

    fn kept(&self, column: &str) -> Result<Kept, String> {
        let Some(raw) = self.0.get(column).map(|raw| raw.get()) else { return Ok(Kept::Null) };
        Ok(match raw.as_bytes().first() {
            Some(b'"' | b'n') => match json::value(raw, 0)? {
                Value::Text(text) => Kept::Text(text.into_owned()),
                _ => Kept::Null,
            },
            _ => Kept::Json(raw.to_owned()),
        })
    }
}
