//! The values of a row, as the process writes them and the server reads them. Reading takes any
//! bytes: it allocates nothing, goes down no deeper than it is asked to, and says what is malformed.

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// An integer that may be larger than any [`Cell::Integer`].
    Unsigned(u64),
    /// A binary32.
    Single(f32),
    /// A binary64.
    Double(f64),
    /// A decimal number: digits with at most a sign before and a point among them.
    Decimal(&'a str),
    /// A string, or what has no other form: a date, a time, a UUID.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// Several values.
    List(Cells<'a>),
    /// Something that can't be told, and why: `is …`.
    Unreadable(&'a str),
}

/// Values that follow each other: those of a row, one for each column, or those of a list.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cells<'a> {
    bytes: &'a [u8],
}

/// Bytes that are no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its values are malformed")]
pub struct Malformed;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const UNSIGNED: u8 = 4;
const SINGLE: u8 = 5;
const DOUBLE: u8 = 6;
const DECIMAL: u8 = 7;
const TEXT: u8 = 8;
const BINARY: u8 = 9;
const LIST: u8 = 10;
const UNREADABLE: u8 = 11;

impl<'a> Cells<'a> {
    /// The values that these bytes are, if they are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn read(&mut self) -> Result<Cell<'a>, Malformed> {
        let [kind] = self.array()?;
        Ok(match kind {
            NULL => Cell::Null,
            FALSE => Cell::Bool(false),
            TRUE => Cell::Bool(true),
            INTEGER => Cell::Integer(i64::from_le_bytes(self.array()?)),
            UNSIGNED => Cell::Unsigned(u64::from_le_bytes(self.array()?)),
            SINGLE => Cell::Single(f32::from_le_bytes(self.array()?)),
            DOUBLE => Cell::Double(f64::from_le_bytes(self.array()?)),
            DECIMAL => {
                Cell::Decimal(self.text().ok().filter(|text| is_decimal(text)).ok_or(Malformed)?)
            }
            TEXT => Cell::Text(self.text()?),
            BINARY => Cell::Binary(self.slice()?),
            LIST => Cell::List(Self::new(self.slice()?)),
            UNREADABLE => Cell::Unreadable(self.text()?),
            _ => return Err(Malformed),
        })
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Malformed> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (slice, rest) = self.bytes.split_at_checked(length).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(slice)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        str::from_utf8(self.slice()?).map_err(|_| Malformed)
    }
}

/// Ends after what is malformed.
impl<'a> Iterator for Cells<'a> {
    type Item = Result<Cell<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.bytes = &[];
        }
        Some(read)
    }
}

/// Whether JSON takes the text for a number, too.
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = match text.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (text, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    digits(whole) && (whole == "0" || !whole.starts_with('0')) && part.is_none_or(digits)
}

/// Writes the values of a row.
#[derive(Debug, Default)]
pub struct RowWriter {
    bytes: Vec<u8>,
}

/// A list that is not ended yet.
#[derive(Debug)]
pub struct OpenList {
    begin: usize,
}

impl RowWriter {
    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a value that is no list.
    pub fn put(&mut self, cell: Cell<'_>) {
        match cell {
            Cell::Null => self.bytes.push(NULL),
            Cell::Bool(value) => self.bytes.push(if value { TRUE } else { FALSE }),
            Cell::Integer(value) => self.fixed(INTEGER, &value.to_le_bytes()),
            Cell::Unsigned(value) => self.fixed(UNSIGNED, &value.to_le_bytes()),
            Cell::Single(value) => self.fixed(SINGLE, &value.to_le_bytes()),
            Cell::Double(value) => self.fixed(DOUBLE, &value.to_le_bytes()),
            Cell::Decimal(text) => self.slice(DECIMAL, text.as_bytes()),
            Cell::Text(text) => self.slice(TEXT, text.as_bytes()),
            Cell::Binary(bytes) => self.slice(BINARY, bytes),
            Cell::List(cells) => self.slice(LIST, cells.bytes),
            Cell::Unreadable(reason) => self.slice(UNREADABLE, reason.as_bytes()),
        }
    }

    /// Begins a list, whose values are those that are added before it is ended.
    pub fn begin_list(&mut self) -> OpenList {
        let begin = self.bytes.len();
        self.fixed(LIST, &[0; 4]);
        OpenList { begin }
    }

    /// Ends a list; one that was begun later has to be ended before.
    pub fn end_list(&mut self, list: OpenList) {
        let values = list.begin + 5;
        let length = u32::try_from(self.bytes.len().saturating_sub(values)).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(list.begin + 1..values) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn fixed(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(bytes);
    }

    fn slice(&mut self, kind: u8, bytes: &[u8]) {
        // Whoever reads finds a length that is too short, and says so.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.fixed(kind, &length.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Cell<'_>>, Malformed> {
        Cells::new(bytes).collect()
    }

    #[test]
    fn values_are_read_as_they_were_written() {
        let values = [
            Cell::Null,
            Cell::Bool(true),
            Cell::Bool(false),
            Cell::Integer(i64::MIN),
            Cell::Unsigned(u64::MAX),
            Cell::Single(-0.5),
            Cell::Double(f64::INFINITY),
            Cell::Decimal("-0.10"),
            Cell::Text("é"),
            Cell::Binary(&[0, 255]),
            Cell::Unreadable("is odd"),
        ];
        let mut row = RowWriter::default();
        values.iter().for_each(|value| row.put(*value));
        let outer = row.begin_list();
        let inner = row.begin_list();
        row.put(Cell::Integer(1));
        row.end_list(inner);
        let empty = row.begin_list();
        row.end_list(empty);
        row.end_list(outer);
        let found = read(row.as_bytes()).expect("well-formed");
        assert_eq!(found[..values.len()], values);
        let [Cell::List(outer)] = found[values.len()..] else { panic!("{found:?}") };
        let outer = outer.collect::<Result<Vec<_>, _>>().expect("well-formed");
        let [Cell::List(inner), Cell::List(empty)] = outer[..] else { panic!("{outer:?}") };
        assert_eq!(inner.collect::<Vec<_>>(), [Ok(Cell::Integer(1))]);
        assert_eq!(empty.count(), 0);
    }

    #[test]
    fn what_is_no_value_is_malformed() {
        for bytes in [
            &[12][..],
            &[INTEGER, 1, 2],
            &[TEXT, 1, 0, 0, 0],
            &[TEXT, 1, 0, 0, 0, 0xff],
            &[LIST, 0xff, 0xff, 0xff, 0xff, NULL],
            &[DECIMAL, 1, 0, 0, 0, b'e'],
            &[DECIMAL, 2, 0, 0, 0, b'0', b'1'],
            &[DECIMAL, 2, 0, 0, 0, b'1', b'.'],
            &[DECIMAL, 1, 0, 0, 0, b'-'],
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let mut lists = vec![Cells::new(&bytes)];
            while let Some(list) = lists.pop() {
                lists.extend(list.filter_map(|cell| match cell {
                    Ok(Cell::List(cells)) => Some(cells),
                    _ => None,
                }));
            }
        }
    }
}
