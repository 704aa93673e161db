//! A whole file: its columns, and its rows from any on. All that it does depends on what the file
//! claims, so that it belongs into a process that may end.

use std::io;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::{
    cell::RowWriter,
    column::{self, ColumnError, Values},
    frame::{MOST_COLUMNS, SKIPPED_ROWS},
    schema::{Column, Leaf, columns},
    source::OpenFile,
};

/// A file whose columns are known.
pub(crate) struct Table {
    reader: SerializedFileReader<OpenFile>,
    columns: Vec<Column>,
}

/// A column of a row group, and its name.
struct Reading<'t> {
    values: Box<dyn Values>,
    name: &'t str,
}

/// What reading comes to.
pub(crate) enum Event<'e> {
    /// A row.
    Row(&'e [u8]),
    /// Some rows of a column were passed over, which may take long.
    Skipped,
}

/// Why rows can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// The file contradicts itself, or has what the parser can't read.
    #[error("{0}")]
    File(String),
    /// Nobody takes the rows.
    #[error("{0}")]
    Taken(#[from] io::Error),
}

impl Table {
    /// Reads what the file says of itself.
    pub(crate) fn open(file: OpenFile) -> Result<Self, TableError> {
        let reader = SerializedFileReader::new(file);
        let reader = reader.map_err(|error| TableError::File(error.to_string()))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let found = schema.num_columns().max(schema.root_schema().get_fields().len());
        if found > MOST_COLUMNS {
            let reason =
                format!("it has {found} columns, and no more than {MOST_COLUMNS} are read");
            return Err(TableError::File(reason));
        }
        let columns = columns(schema);
        Ok(Self { reader, columns })
    }

    /// Its columns, in order.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows it claims to have.
    pub(crate) fn rows(&self) -> u64 {
        let groups = self.reader.metadata().row_groups().iter();
        let rows = groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
        rows.fold(0, u64::saturating_add)
    }

    /// Hands on the rows after the first `skip`, each with the values of these columns.
    pub(crate) fn read(
        &self,
        wanted: &[u32],
        mut skip: u64,
        take: &mut dyn FnMut(Event<'_>) -> io::Result<()>,
    ) -> Result<(), TableError> {
        let wanted = self.wanted(wanted)?;
        let mut row = RowWriter::default();
        for group in 0..self.reader.num_row_groups() {
            let rows = self.reader.metadata().row_group(group).num_rows();
            let rows = u64::try_from(rows)
                .map_err(|_| TableError::File(format!("row group {group} has {rows} rows")))?;
            let skipped = skip.min(rows);
            skip -= skipped;
            if skipped == rows {
                continue;
            }
            let mut columns = self.group(group, &wanted, skipped, take)?;
            for _ in skipped..rows {
                row.clear();
                for Reading { values, name } in &mut columns {
                    values.next(&mut row).map_err(|error| broken(name, &error))?;
                }
                take(Event::Row(row.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// The columns of a row group, behind its first rows.
    fn group<'t>(
        &self,
        group: usize,
        wanted: &[(&'t Leaf, &'t str)],
        skip: u64,
        take: &mut dyn FnMut(Event<'_>) -> io::Result<()>,
    ) -> Result<Vec<Reading<'t>>, TableError> {
        let reader = self.reader.get_row_group(group);
        let reader = reader.map_err(|error| TableError::File(error.to_string()))?;
        let mut columns = Vec::with_capacity(wanted.len());
        for (leaf, name) in wanted {
            let column = reader.get_column_reader(leaf.place);
            let column = column.map_err(|error| broken(name, &error.into()))?;
            let mut values = column::values(leaf, column);
            let mut left = skip;
            while left > 0 {
                let rows = left.min(SKIPPED_ROWS);
                values.skip(rows as usize).map_err(|error| broken(name, &error))?;
                left -= rows;
                take(Event::Skipped)?;
            }
            columns.push(Reading { values, name });
        }
        Ok(columns)
    }

    /// The columns that stand at these places; at least one, for of none there are any number of
    /// rows.
    fn wanted(&self, places: &[u32]) -> Result<Vec<(&Leaf, &str)>, TableError> {
        let column = |place: &u32| {
            let column = self.columns.get(*place as usize);
            let column = column.ok_or_else(|| TableError::File("it has no such column".into()))?;
            match &column.leaf {
                Ok(leaf) => Ok((leaf, &*column.name)),
                Err(reason) => Err(TableError::File(format!("column {:?} {reason}", column.name))),
            }
        };
        match places {
            [] => Err(TableError::File("no column is asked for".into())),
            places => places.iter().map(column).collect(),
        }
    }
}

fn broken(column: &str, error: &ColumnError) -> TableError {
    TableError::File(format!("column {column:?}: {error}"))
}
