//! Rows of Parquet, from the process that reads it. A row is all the columns that the plan uses; what
//! is no tensor, such as a date, is a text.

use std::{borrow::Cow, collections::HashMap, fs::File};

use quern_parquet::{Cell, Cells, Reached, ReadError, Reader, Row};

use super::{
    MOST_ROW, Opening, Source, SourceError, Taking,
    columns::{Columns, Expected},
};
use crate::{
    plan::{CellError, Kept, Record},
    rows::{Place, Position},
    value::Value,
};

/// Deepest nesting of lists, as in JSON.
const DEEPEST: usize = 16;
/// Most values of a row, which take more room here than in the file.
const MOST_VALUES: usize = 2 << 20;

/// The rows of a file.
pub(super) struct ParquetRows {
    reader: Reader,
    /// The columns that are used, and their places in the file until they have been asked for.
    columns: Columns,
    places: Option<Vec<u32>>,
    /// Bytes of the file, and the rows that it claims to have.
    length: u64,
    rows: u64,
    row: u64,
}

impl ParquetRows {
    pub(super) fn open(file: &File, opening: &Opening<'_>) -> Result<Self, SourceError> {
        let Opening { plan, at, reader, stop, .. } = *opening;
        let length = file.metadata()?.len();
        let reader = Reader::open(file, reader.clone(), stop.clone())?;
        // Of names that are there twice, none is known to be meant.
        let mut places: HashMap<&str, Option<usize>> = HashMap::new();
        for (place, column) in reader.columns().iter().enumerate() {
            places.entry(&column.name).and_modify(|known| *known = None).or_insert(Some(place));
        }
        let has = |column: &str| places.contains_key(column);
        let refused =
            |column: &str, reason: String| SourceError::Column { column: column.into(), reason };
        plan.check_columns(has).map_err(|CellError { column, reason }| refused(&column, reason))?;
        let (mut columns, mut used) = (Columns::default(), Vec::new());
        for name in plan.used_columns(has) {
            if columns.has(name) {
                continue;
            }
            columns.add(name);
            let Some(place) = places.get(name).copied().flatten() else {
                return Err(refused(name, "is there twice".into()));
            };
            if let Some(reason) = &reader.columns()[place].refusal {
                return Err(refused(name, reason.clone()));
            }
            used.push(u32::try_from(place).map_err(std::io::Error::other)?);
        }
        let rows = reader.rows();
        Ok(Self { reader, columns, places: Some(used), length, rows, row: at.row })
    }

    /// Where a row ends in the file, as far as that can be told: its columns lie apart.
    fn end(&self, row: u64) -> Position {
        let share = u128::from(self.length) * u128::from(row) / u128::from(self.rows.max(1));
        let byte = u64::try_from(share).unwrap_or(u64::MAX).min(self.length);
        Position { row, byte, line: 0 }
    }
}

impl Source for ParquetRows {
    fn next(&mut self, take: Taking<'_>) -> Result<bool, SourceError> {
        if let Some(places) = self.places.take() {
            self.reader.ask(places, self.row)?;
        }
        let (row, end) = (self.row + 1, self.end(self.row + 1));
        let Some(found) = self.reader.next_row()? else { return Ok(false) };
        self.row = row;
        let place = Place { row, line: None, end };
        let cells = match found {
            Row::Cells(cells) => cells.collect::<Result<Vec<_>, _>>(),
            Row::TooLong => {
                take(place, Err(format!("is longer than {MOST_ROW}")));
                return Ok(true);
            }
        };
        match cells {
            Ok(cells) if cells.len() == self.columns.count() => {
                let next = Expected::default();
                take(place, Ok(&Values { columns: &self.columns, cells, next }));
                Ok(true)
            }
            _ => {
                let reason = "a row without its values".into();
                Err(ReadError::Nonsense { reached: Reached::Rows(row - 1), reason }.into())
            }
        }
    }
}

/// One row.
struct Values<'r> {
    columns: &'r Columns,
    cells: Vec<Cell<'r>>,
    next: Expected,
}

impl Values<'_> {
    fn cell(&self, column: &str) -> Option<Cell<'_>> {
        self.cells.get(self.columns.place(column, &self.next)?).copied()
    }
}

impl Record for Values<'_> {
    fn get(&self, column: &str) -> Option<Result<Value<'_>, String>> {
        self.cell(column).map(|cell| value(cell, 0, &mut MOST_VALUES.clone()))
    }

    fn kept(&self, column: &str) -> Result<Kept, String> {
        match self.cell(column) {
            None | Some(Cell::Null) => Ok(Kept::Null),
            Some(Cell::Text(text)) => Ok(Kept::Text(text.to_owned())),
            Some(Cell::Binary(bytes)) => text_of(bytes).map(|text| Kept::Text(text.to_owned())),
            Some(Cell::Single(number)) if !number.is_finite() => Ok(Kept::NotFinite(number.into())),
            Some(Cell::Double(number)) if !number.is_finite() => Ok(Kept::NotFinite(number)),
            Some(other) => {
                let mut text = String::new();
                write_json(other, 0, &mut text).map(|()| Kept::Json(text))
            }
        }
    }
}

/// What becomes a tensor of a cell; `left` counts the values that a row may still have.
fn value<'r>(cell: Cell<'r>, depth: usize, left: &mut usize) -> Result<Value<'r>, String> {
    let fewer = left.checked_sub(1);
    *left = fewer.ok_or_else(|| format!("has more than {MOST_VALUES} values"))?;
    Ok(match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => Value::Bool(value),
        Cell::Integer(value) => Value::Integer(value.into()),
        Cell::Unsigned(value) => Value::Integer(value.into()),
        Cell::Single(value) => Value::Single(value),
        Cell::Double(value) => Value::Double(value),
        Cell::Decimal(text) => Value::Number(text),
        Cell::Text(text) => Value::Text(Cow::Borrowed(text)),
        Cell::Binary(bytes) => Value::Bytes(bytes),
        Cell::List(cells) => {
            let cells = elements(cells, depth)?;
            let values = cells.map(|cell| value(cell?, depth + 1, left));
            Value::List(values.collect::<Result<_, _>>()?)
        }
        Cell::Unreadable(reason) => return Err(reason.to_owned()),
    })
}

/// The elements of a list at this depth.
fn elements(
    cells: Cells<'_>,
    depth: usize,
) -> Result<impl Iterator<Item = Result<Cell<'_>, String>>, String> {
    match depth < DEEPEST {
        true => Ok(cells.map(|cell| cell.map_err(|error| error.to_string()))),
        false => Err(format!("is nested deeper than {DEEPEST}")),
    }
}

/// Writes a cell as JSON does.
fn write_json(cell: Cell<'_>, depth: usize, text: &mut String) -> Result<(), String> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    match cell {
        Cell::Null => text.push_str("null"),
        Cell::Bool(value) => text.push_str(if value { "true" } else { "false" }),
        Cell::Integer(value) => text.push_str(&value.to_string()),
        Cell::Unsigned(value) => text.push_str(&value.to_string()),
        Cell::Single(value) if value.is_finite() => {
            text.push_str(&serde_json::to_string(&value).unwrap_or_default());
        }
        Cell::Double(value) if value.is_finite() => {
            text.push_str(&serde_json::to_string(&value).unwrap_or_default());
        }
        Cell::Single(_) | Cell::Double(_) => {
            return Err("has an infinity or not a number, which a list can't keep".into());
        }
        Cell::Decimal(value) => text.push_str(value),
        Cell::Text(value) => text.push_str(&quoted(value)),
        Cell::Binary(bytes) => text.push_str(&quoted(text_of(bytes)?)),
        Cell::List(cells) => {
            text.push('[');
            for (index, cell) in elements(cells, depth)?.enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_json(cell?, depth + 1, text)?;
            }
            text.push(']');
        }
        Cell::Unreadable(reason) => return Err(reason.to_owned()),
    }
    Ok(())
}

/// Bytes that results can keep: those that are a text.
fn text_of(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "is bytes that are not UTF-8, which can't be kept".into())
}

#[cfg(test)]
mod tests {
    use quern_parquet::RowWriter;

    use super::*;

    /// A row of one column with what is written.
    fn row(write: impl FnOnce(&mut RowWriter)) -> RowWriter {
        let mut row = RowWriter::default();
        write(&mut row);
        row
    }

    fn with_values<T>(row: &RowWriter, look: impl FnOnce(&Values<'_>) -> T) -> T {
        let mut columns = Columns::default();
        columns.add("x");
        let cells = Cells::new(row.as_bytes()).collect::<Result<Vec<_>, _>>().expect("well-formed");
        look(&Values { columns: &columns, cells, next: Expected::default() })
    }

    fn nested(depth: usize, inner: Cell<'_>) -> RowWriter {
        row(|row| {
            let lists: Vec<_> = (0..depth).map(|_| row.begin_list()).collect();
            row.put(inner);
            lists.into_iter().rev().for_each(|list| row.end_list(list));
        })
    }

    #[test]
    fn cells_become_values_and_are_kept() {
        let kept = |text: &str| Ok(Kept::Text(text.into()));
        let json = |text: &str| Ok(Kept::Json(text.into()));
        let refused = |reason: &str| Err(reason.to_owned());
        let cases = [
            (Cell::Null, Ok(Value::Null), Ok(Kept::Null)),
            (Cell::Bool(true), Ok(Value::Bool(true)), json("true")),
            (Cell::Integer(-1), Ok(Value::Integer(-1)), json("-1")),
            (
                Cell::Unsigned(u64::MAX),
                Ok(Value::Integer(u64::MAX.into())),
                json("18446744073709551615"),
            ),
            (Cell::Single(0.1), Ok(Value::Single(0.1)), json("0.1")),
            (Cell::Double(1e300), Ok(Value::Double(1e300)), json("1e+300")),
            (
                Cell::Double(f64::INFINITY),
                Ok(Value::Double(f64::INFINITY)),
                Ok(Kept::NotFinite(f64::INFINITY)),
            ),
            (Cell::Decimal("1.50"), Ok(Value::Number("1.50")), json("1.50")),
            (Cell::Text("é"), Ok(Value::Text("é".into())), kept("é")),
            (Cell::Binary(b"a"), Ok(Value::Bytes(b"a")), kept("a")),
            (
                Cell::Binary(b"\xff"),
                Ok(Value::Bytes(b"\xff")),
                refused("is bytes that are not UTF-8, which can't be kept"),
            ),
            (Cell::Unreadable("is odd"), Err("is odd".into()), refused("is odd")),
        ];
        for (cell, expected, kept) in cases {
            let row = row(|row| row.put(cell));
            with_values(&row, |values| {
                assert_eq!(values.get("x"), Some(expected), "{cell:?}");
                assert_eq!(values.kept("x"), kept, "{cell:?}");
                assert_eq!(values.get("y"), None);
            });
        }
    }

    #[test]
    fn lists_are_nested_only_so_deep_and_hold_only_so_much() {
        with_values(&nested(2, Cell::Text("a\"")), |values| {
            let inner = Value::List(vec![Value::Text("a\"".into())]);
            assert_eq!(values.get("x"), Some(Ok(Value::List(vec![inner]))));
            assert_eq!(values.kept("x"), Ok(Kept::Json(r#"[["a\""]]"#.into())));
        });
        with_values(&nested(1 << 16, Cell::Null), |values| {
            assert_eq!(values.get("x"), Some(Err("is nested deeper than 16".into())));
            assert_eq!(values.kept("x"), Err("is nested deeper than 16".into()));
        });
        let many = row(|row| {
            let list = row.begin_list();
            (0..MOST_VALUES).for_each(|_| row.put(Cell::Null));
            row.end_list(list);
        });
        let refused = format!("has more than {MOST_VALUES} values");
        with_values(&many, |values| assert_eq!(values.get("x"), Some(Err(refused))));
        with_values(&nested(1, Cell::Single(f32::NAN)), |values| {
            assert!(values.kept("x").is_err());
        });
    }
}
