//! One column of a row group, value after value. The parser gives values, and the levels at which
//! they stand; lists are put together from these here.

use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{
        BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray,
        FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
    },
    errors::ParquetError,
};

use crate::{
    cell::{Cell, OpenList, RowWriter},
    kind::Kind,
    schema::Leaf,
};

/// Rows that are read at a time, at first and at most.
const FIRST_ROWS: usize = 16;
const MOST_ROWS: usize = 4_096;
/// Values that shall be read at a time: as many rows as have about these.
const VALUES: usize = 16 << 10;

/// Why the next value can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ColumnError {
    #[error("{0}")]
    Parser(#[from] ParquetError),
    #[error("it has fewer rows than the file says")]
    Short,
    #[error("its levels contradict each other")]
    Levels,
}

/// A column, whatever its values are.
pub(crate) trait Values {
    /// Passes over rows.
    fn skip(&mut self, rows: usize) -> Result<(), ColumnError>;

    /// Adds what the next row has.
    fn next(&mut self, row: &mut RowWriter) -> Result<(), ColumnError>;
}

/// The values of a column.
pub(crate) fn values(leaf: &Leaf, reader: ColumnReader) -> Box<dyn Values> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::Int32ColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::Int64ColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::Int96ColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::FloatColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::DoubleColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::ByteArrayColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => Box::new(Cursor::new(leaf, reader)),
    }
}

/// A physical type, and how a value of it becomes a cell.
trait Stored: DataType {
    fn put(value: &Self::T, kind: Kind, row: &mut RowWriter);
}

impl Stored for BoolType {
    fn put(value: &bool, _: Kind, row: &mut RowWriter) {
        row.put(Cell::Bool(*value));
    }
}

impl Stored for Int32Type {
    fn put(value: &i32, kind: Kind, row: &mut RowWriter) {
        kind.put_integer(i64::from(*value), 32, row);
    }
}

impl Stored for Int64Type {
    fn put(value: &i64, kind: Kind, row: &mut RowWriter) {
        kind.put_integer(*value, 64, row);
    }
}

impl Stored for Int96Type {
    fn put(value: &Int96, kind: Kind, row: &mut RowWriter) {
        kind.put_int96(value, row);
    }
}

impl Stored for FloatType {
    fn put(value: &f32, _: Kind, row: &mut RowWriter) {
        row.put(Cell::Single(*value));
    }
}

impl Stored for DoubleType {
    fn put(value: &f64, _: Kind, row: &mut RowWriter) {
        row.put(Cell::Double(*value));
    }
}

impl Stored for ByteArrayType {
    fn put(value: &ByteArray, kind: Kind, row: &mut RowWriter) {
        kind.put_bytes(value.data(), row);
    }
}

impl Stored for FixedLenByteArrayType {
    fn put(value: &FixedLenByteArray, kind: Kind, row: &mut RowWriter) {
        kind.put_bytes(value.data(), row);
    }
}

/// Where a column is being read.
struct Cursor<T: Stored> {
    reader: ColumnReaderImpl<T>,
    leaf: Leaf,
    /// How many rows are read at a time.
    step: usize,
    /// Of these, the rows that are left; their values, and the levels of each place.
    rows: usize,
    values: Vec<T::T>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// The next of them.
    value: usize,
    level: usize,
    /// Lists that the row is in.
    open: Vec<OpenList>,
}

impl<T: Stored> Cursor<T> {
    fn new(leaf: &Leaf, reader: ColumnReaderImpl<T>) -> Self {
        Self {
            reader,
            leaf: leaf.clone(),
            step: FIRST_ROWS,
            rows: 0,
            values: Vec::new(),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            value: 0,
            level: 0,
            open: Vec::new(),
        }
    }

    /// Reads some rows.
    fn fill(&mut self) -> Result<(), ColumnError> {
        self.values.clear();
        self.definitions.clear();
        self.repetitions.clear();
        (self.value, self.level) = (0, 0);
        let (definitions, repetitions) = (&mut self.definitions, &mut self.repetitions);
        let (rows, _, levels) = self.reader.read_records(
            self.step,
            Some(definitions),
            Some(repetitions),
            &mut self.values,
        )?;
        if rows == 0 {
            return Err(ColumnError::Short);
        }
        self.rows = rows;
        let fitting = rows.saturating_mul(VALUES) / levels.max(1);
        self.step = fitting.clamp(1, MOST_ROWS.min(self.step * 4));
        Ok(())
    }

    /// The definition level of the next place.
    fn definition(&mut self) -> Result<i16, ColumnError> {
        let level = match self.leaf.present {
            // No levels are stored of what is always there.
            0 => 0,
            most => *self
                .definitions
                .get(self.level)
                .filter(|level| **level <= most)
                .ok_or(ColumnError::Levels)?,
        };
        self.level += 1;
        Ok(level)
    }

    /// Adds the value that is there, if one is.
    fn put(&mut self, definition: i16, row: &mut RowWriter) -> Result<(), ColumnError> {
        if definition < self.leaf.present {
            row.put(Cell::Null);
            return Ok(());
        }
        let value = self.values.get(self.value).ok_or(ColumnError::Levels)?;
        self.value += 1;
        T::put(value, self.leaf.kind, row);
        Ok(())
    }

    /// Adds the lists of a row, whose places are up to the next that repeats nothing.
    fn put_lists(&mut self, row: &mut RowWriter) -> Result<(), ColumnError> {
        let mut is_first = true;
        while let Some(repetition) = self.repetitions.get(self.level) {
            let depth = usize::try_from(*repetition).map_err(|_| ColumnError::Levels)?;
            match depth {
                0 if !is_first => break,
                depth if depth > self.open.len() || (depth > 0 && is_first) => {
                    return Err(ColumnError::Levels);
                }
                _ => is_first = false,
            }
            self.close(depth, row);
            self.put_place(depth, row)?;
        }
        if is_first {
            return Err(ColumnError::Levels);
        }
        self.close(0, row);
        Ok(())
    }

    /// Adds one place: what begins there, down to a value, to an empty list or to none.
    fn put_place(&mut self, depth: usize, row: &mut RowWriter) -> Result<(), ColumnError> {
        let definition = self.definition()?;
        // A list that goes on has another element.
        let before = depth.checked_sub(1).and_then(|before| self.leaf.lists.get(before));
        if before.is_some_and(|element| definition < *element) {
            return Err(ColumnError::Levels);
        }
        for place in depth..self.leaf.lists.len() {
            let element = self.leaf.lists[place];
            if definition >= element {
                self.open.push(row.begin_list());
                continue;
            }
            match definition == element - 1 {
                true => {
                    let empty = row.begin_list();
                    row.end_list(empty);
                }
                false => row.put(Cell::Null),
            }
            return Ok(());
        }
        self.put(definition, row)
    }

    /// Ends the lists that are deeper.
    fn close(&mut self, depth: usize, row: &mut RowWriter) {
        while self.open.len() > depth
            && let Some(list) = self.open.pop()
        {
            row.end_list(list);
        }
    }
}

impl<T: Stored> Values for Cursor<T> {
    fn skip(&mut self, rows: usize) -> Result<(), ColumnError> {
        match self.reader.skip_records(rows)? {
            skipped if skipped == rows => Ok(()),
            _ => Err(ColumnError::Short),
        }
    }

    fn next(&mut self, row: &mut RowWriter) -> Result<(), ColumnError> {
        if self.rows == 0 {
            self.fill()?;
        }
        self.rows -= 1;
        if self.leaf.lists.is_empty() {
            let definition = self.definition()?;
            return self.put(definition, row);
        }
        self.put_lists(row)
    }
}
