//! Rows as comma-separated values: RFC 4180, with the columns' names in the first line. Blank lines
//! are no rows; a row with more or fewer fields than columns is a bad one.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
    str,
};

use csv::{ByteRecord, ReaderBuilder, StringRecord};

use super::{
    MOST_ROW, Source, SourceError, Taking,
    columns::{Columns, Expected},
};
use crate::{
    plan::{CellError, Kept, Plan, Record},
    rows::{Place, Position},
    value::Value,
};

const BUFFER: usize = 64 << 10;

/// The rows of a file.
pub(super) struct CsvRows {
    reader: csv::Reader<Bounded>,
    allowance: Rc<Cell<u64>>,
    header: Columns,
    length: u64,
    row: u64,
    record: ByteRecord,
}

/// A file that gives no more bytes than one row may have: the parser keeps all of a row, and what
/// opens a quote and never closes it is one row to its end.
struct Bounded {
    file: File,
    allowance: Rc<Cell<u64>>,
}

/// Says that a row was cut off, through the parser.
const TOO_LONG: &str = "row too long";

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.get();
        if left == 0 {
            return Err(io::Error::other(TOO_LONG));
        }
        let read = self.file.read(buffer)?;
        self.allowance.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl CsvRows {
    pub(super) fn open(file: File, plan: &Plan, at: Position) -> Result<Self, SourceError> {
        let length = file.metadata()?.len();
        let allowance = Rc::new(Cell::new(MOST_ROW.0));
        let file = Bounded { file, allowance: allowance.clone() };
        let reader = ReaderBuilder::new().flexible(true).buffer_capacity(BUFFER).from_reader(file);
        let (header, record) = (Columns::default(), ByteRecord::new());
        let mut rows = Self { reader, allowance, header, length, row: at.row, record };
        rows.read_header(plan)?;
        if at.byte > 0 {
            let mut place = csv::Position::new();
            place.set_byte(at.byte).set_line(at.line).set_record(at.row);
            rows.reader.seek(place).map_err(|error| broken(error, at.row + 1, at.line))?;
        }
        Ok(rows)
    }

    fn read_header(&mut self, plan: &Plan) -> Result<(), SourceError> {
        let header = self.reader.byte_headers().map_err(|error| broken(error, 0, 1))?;
        let header = StringRecord::from_byte_record(header.clone())
            .map_err(|error| SourceError::HeaderText { number: error.utf8_error().field() + 1 })?;
        if header.is_empty() {
            return Err(SourceError::NoHeader);
        }
        for name in &header {
            if !self.header.add(name) && plan.may_read(name) {
                let reason = "is there twice".into();
                return Err(SourceError::Column { column: name.to_owned(), reason });
            }
        }
        let has = |column: &str| self.header.has(column);
        plan.check_columns(has)
            .map_err(|CellError { column, reason }| SourceError::Column { column, reason })
    }

    /// Whether the row that ends the file ends in the middle of a quoted field, which the parser
    /// takes for its end.
    fn is_open(&mut self, begin: u64) -> io::Result<bool> {
        let mut file = self.reader.get_ref().file.try_clone()?;
        file.seek(SeekFrom::Start(begin))?;
        let mut text = Vec::new();
        file.take(MOST_ROW.0 + BUFFER as u64).read_to_end(&mut text)?;
        Ok(ends_quoted(&text))
    }
}

/// Whether a text ends inside a quoted field.
fn ends_quoted(text: &[u8]) -> bool {
    let (mut quoted, mut begins) = (false, true);
    for byte in text {
        match byte {
            // Two quotes in a row leave the field and enter it again.
            b'"' if quoted || begins => {
                quoted = !quoted;
                // After a quote that closes, another opens the field again.
                begins = true;
            }
            b',' | b'\n' | b'\r' if !quoted => begins = true,
            _ => begins = false,
        }
    }
    quoted
}

fn broken(error: csv::Error, row: u64, line: u64) -> SourceError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.to_string() == TOO_LONG => SourceError::Row {
            row,
            line,
            reason: format!("is longer than {MOST_ROW}: is a quote not closed?"),
        },
        csv::ErrorKind::Io(error) => SourceError::Read(error),
        other => SourceError::Read(io::Error::other(format!("{other:?}"))),
    }
}

impl Source for CsvRows {
    fn next(&mut self, take: Taking<'_>) -> Result<bool, SourceError> {
        self.allowance.set(MOST_ROW.0);
        let line = self.reader.position().line();
        let more = self.reader.read_byte_record(&mut self.record);
        if !more.map_err(|error| broken(error, self.row + 1, line))? {
            return Ok(false);
        }
        self.row += 1;
        let (row, end) = (self.row, self.reader.position().clone());
        let (begin, line) =
            self.record.position().map_or((0, line), |begin| (begin.byte(), begin.line()));
        if end.byte() >= self.length && self.is_open(begin)? {
            let reason = "has a quote that is not closed".into();
            return Err(SourceError::Row { row, line, reason });
        }
        let end = Position { row, byte: end.byte(), line: end.line() };
        let place = Place { row, line: Some(line), end };
        match self.record.len() {
            fields if fields != self.header.count() => {
                take(
                    place,
                    Err(format!(
                        "has {fields} fields, where there are {} columns",
                        self.header.count()
                    )),
                );
            }
            _ => take(
                place,
                Ok(&Cells {
                    header: &self.header,
                    record: &self.record,
                    next: Expected::default(),
                }),
            ),
        }
        Ok(true)
    }
}

/// One row.
struct Cells<'r> {
    header: &'r Columns,
    record: &'r ByteRecord,
    next: Expected,
}

impl Cells<'_> {
    fn text(&self, column: &str) -> Option<Result<&str, String>> {
        let place = self.header.place(column, &self.next)?;
        let cell = self.record.get(place)?;
        let text = str::from_utf8(cell);
        Some(text.map_err(|error| format!("is not UTF-8 at byte {}", error.valid_up_to() + 1)))
    }
}

impl Record for Cells<'_> {
    fn get(&self, column: &str) -> Option<Result<Value<'_>, String>> {
        self.text(column).map(|text| text.map(Value::Written))
    }

    fn kept(&self, column: &str) -> Result<Kept, String> {
        self.text(column)
            .map_or(Ok(Kept::Null), |text| text.map(|text| Kept::Text(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_ends_in_quotes_is_told() {
        for (text, open) in [
            ("", false),
            ("a,b\n", false),
            ("\"a\",b", false),
            ("\"a", true),
            ("\"a\"\"", true),
            ("\"a\"\"b\"", false),
            ("a,\"b\nc,d\n", true),
            ("5\" pipe,6", false),
            ("a,\"\"", false),
            ("a,\"\n\"\n", false),
        ] {
            assert_eq!(ends_quoted(text.as_bytes()), open, "{text:?}");
        }
    }
}
