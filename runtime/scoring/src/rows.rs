//! Rows on their way from a file to the calls that score them: gathered into chunks, whose good rows
//! are tensors and whose bad rows say what is wrong. No row of a file is ever left out.

use std::fmt;

use quern_types::{Tensor, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{CellError, Kept, Layout, Plan, Record};

/// Bytes of inputs after which a chunk is handed on, whatever its rows.
const CHUNK_BYTES: usize = 4 << 20;
/// Rows after which it is, where none or few of them are good.
const CHUNK_ROWS: usize = 1 << 10;
/// Good rows of a chunk, where a call has fewer.
const FEW_ROWS: usize = 64;

/// A place between two rows of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Rows before it.
    pub(crate) row: u64,
    /// Bytes before it; 0 where the format has no use for them.
    pub(crate) byte: u64,
    /// Lines before it; 0 where the format has none.
    pub(crate) line: u64,
}

/// Why a row can't be scored, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowError {
    /// Its number in the file, from 1.
    pub row: u64,
    /// The line that it begins on, where the format has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column that is at fault, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        match &self.column {
            Some(column) => write!(f, ", column {column:?} {}", self.reason),
            None => write!(f, " {}", self.reason),
        }
    }
}

/// Where a row is in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) row: u64,
    pub(crate) line: Option<u64>,
    /// After it.
    pub(crate) end: Position,
}

impl Place {
    pub(crate) fn error(self, column: Option<String>, reason: String) -> RowError {
        RowError { row: self.row, line: self.line, column, reason }
    }
}

/// One row of a chunk.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) place: Place,
    pub(crate) kept: Vec<Kept>,
    /// Whether it is among the chunk's inputs.
    pub(crate) outcome: Result<(), RowError>,
}

/// Rows that follow each other.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) slots: Vec<Slot>,
    /// The good rows, in order; checked against the signature.
    pub(crate) inputs: Vec<Tensor>,
    /// How many they are.
    pub(crate) good: usize,
}

/// Gathers rows.
pub(crate) struct Gatherer<'p> {
    plan: &'p Plan,
    slots: Vec<Slot>,
    /// Of the rows gathered so far: the data of each input.
    data: Vec<Vec<u8>>,
    /// The shape that a row of each input has; all rows of a chunk have the same.
    shapes: Vec<Vec<u64>>,
    good: usize,
    /// Of the row that is being read.
    row_data: Vec<Vec<u8>>,
}

impl<'p> Gatherer<'p> {
    pub(crate) fn new(plan: &'p Plan) -> Self {
        let inputs = plan.inputs.len();
        Self {
            plan,
            slots: Vec::new(),
            data: vec![Vec::new(); inputs],
            shapes: Vec::new(),
            good: 0,
            row_data: vec![Vec::new(); inputs],
        }
    }

    /// Takes in a row, or what is wrong with it as a whole. A chunk that is full, or that it does
    /// not fit into, is given back.
    pub(crate) fn take(
        &mut self,
        place: Place,
        record: Result<&dyn Record, String>,
    ) -> Option<Chunk> {
        let mut kept = vec![Kept::Null; self.plan.keep.len()];
        let read = match record {
            Ok(record) => self
                .keep(record, &mut kept)
                .and_then(|()| self.read(record))
                .map_err(|CellError { column, reason }| place.error(Some(column), reason)),
            Err(reason) => Err(place.error(None, reason)),
        };
        let (outcome, shapes) = match read {
            Ok(shapes) => (Ok(()), Some(shapes)),
            Err(error) => (Err(error), None),
        };
        let mut full = None;
        if let Some(shapes) = shapes {
            if self.good > 0 && shapes != self.shapes {
                full = self.finish();
            }
            self.shapes = shapes;
            for (data, row) in self.data.iter_mut().zip(&self.row_data) {
                data.extend_from_slice(row);
            }
            self.good += 1;
        }
        self.slots.push(Slot { place, kept, outcome });
        full.or_else(|| self.is_full().then(|| self.finish()).flatten())
    }

    /// What has been gathered; none if that is nothing.
    pub(crate) fn finish(&mut self) -> Option<Chunk> {
        if self.slots.is_empty() {
            return None;
        }
        let slots = std::mem::take(&mut self.slots);
        let good = std::mem::take(&mut self.good);
        let mut chunk = Chunk { slots, inputs: Vec::new(), good };
        if good > 0 {
            let parts = self.plan.inputs.iter().zip(&mut self.data).zip(&self.shapes);
            let tensor =
                |((input, data), shape): ((&crate::plan::InputPlan, &mut Vec<u8>), &Vec<u64>)| {
                    let mut whole = Vec::with_capacity(shape.len() + 1);
                    if self.plan.layout == Layout::Rows {
                        whole.push(good as u64);
                    }
                    whole.extend_from_slice(shape);
                    Tensor::new(input.name().clone(), input.spec.dtype, whole, std::mem::take(data))
                        .expect("each row has given the elements of its shape")
                };
            chunk.inputs = parts.map(tensor).collect();
            chunk.check(self.plan);
        }
        Some(chunk)
    }

    /// Takes what is passed on; what can't be stays null, and makes the row a bad one.
    fn keep(&self, record: &dyn Record, kept: &mut [Kept]) -> Result<(), CellError> {
        let mut outcome = Ok(());
        for (column, kept) in self.plan.keep.iter().zip(kept) {
            match record.kept(column) {
                Ok(value) => *kept = value,
                Err(reason) => outcome = Err(CellError { column: column.clone(), reason }),
            }
        }
        outcome
    }

    fn read(&mut self, record: &dyn Record) -> Result<Vec<Vec<u64>>, CellError> {
        let inputs = self.plan.inputs.iter().zip(&mut self.row_data);
        inputs
            .map(|(input, data)| {
                data.clear();
                input.read(record, data)
            })
            .collect()
    }

    fn is_full(&self) -> bool {
        let rows = match self.plan.layout {
            Layout::Rows => self.plan.call_rows.max(FEW_ROWS),
            Layout::Whole => 1,
        };
        self.good >= rows
            || self.slots.len() >= CHUNK_ROWS.max(self.plan.call_rows)
            || self.data.iter().map(Vec::len).sum::<usize>() >= CHUNK_BYTES
    }
}

impl Chunk {
    /// Checks the inputs as they are checked online; rows that don't fit are taken out.
    fn check(&mut self, plan: &Plan) {
        let fits = |inputs: &[Tensor]| {
            let violation = |(input, tensor): (&crate::plan::InputPlan, &Tensor)| {
                input.spec.check(tensor).err().map(|violation| (input.name().clone(), violation))
            };
            plan.inputs.iter().zip(inputs).find_map(violation)
        };
        if fits(&self.inputs).is_none() {
            return;
        }
        let rows: Vec<Vec<Tensor>> = match plan.layout {
            Layout::Whole => vec![std::mem::take(&mut self.inputs)],
            Layout::Rows => (0..self.good as u64)
                .map(|row| {
                    let cut = |input: &Tensor| input.rows(row..row + 1).expect("has all good rows");
                    self.inputs.iter().map(cut).collect()
                })
                .collect(),
        };
        let mut left = Vec::new();
        let good = self.slots.iter_mut().filter(|slot| slot.outcome.is_ok());
        for (slot, row) in good.zip(rows) {
            match fits(&row) {
                None => left.push(row),
                Some((input, violation)) => {
                    let (column, reason) = explain(plan, &input, &violation);
                    slot.outcome = Err(slot.place.error(Some(column), reason));
                }
            }
        }
        self.good = left.len();
        self.inputs = match left.len() {
            0 => Vec::new(),
            _ => join(&left),
        };
    }
}

/// The rows of all parts, each with its inputs.
fn join(rows: &[Vec<Tensor>]) -> Vec<Tensor> {
    if let [only] = rows {
        return only.clone();
    }
    let inputs = rows.first().map_or(0, Vec::len);
    let input = |index: usize| {
        let parts: Vec<Tensor> = rows.iter().map(|row| row[index].clone()).collect();
        Tensor::join(&parts).expect("rows of one tensor go together")
    };
    (0..inputs).map(input).collect()
}

/// Which column of a row is at fault, and why.
fn explain(plan: &Plan, name: &str, violation: &Violation) -> (String, String) {
    let input = plan.inputs.iter().find(|input| &**input.name() == name);
    match (violation, input) {
        (Violation::Value { index, value, range }, Some(input)) => {
            (input.column_of(*index).to_owned(), format!("is {value}, outside the range {range}"))
        }
        (violation, _) => (name.to_owned(), violation.to_string()),
    }
}
