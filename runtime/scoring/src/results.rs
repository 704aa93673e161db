//! Rows of results, whatever their format: the number of the row, what was kept of it, and its
//! outputs or what was wrong with it. Each row of the file has one, in the file's order.

mod csv;
mod ndjson;
mod outputs;

use quern_types::TensorSpec;

use crate::{
    calls::{Piece, ScoredChunk},
    plan::{Kept, Layout, Plan, fixed_count},
    request::ResultFormat,
    rows::{Place, RowError},
};
use outputs::{Outputs, RowOutput};

/// The columns that all results have beside what is kept and the outputs.
const ROW: &str = "row";
const ERROR: &str = "error";
/// Most columns that the elements of an output have in CSV; of more, or of an unknown number, one
/// column has a list.
const MOST_COLUMNS: u64 = 4_096;

/// Writes rows of results.
pub(crate) struct Encoder<'p> {
    plan: &'p Plan,
    format: ResultFormat,
}

/// A row of results.
#[derive(Debug)]
pub(crate) struct ResultRow {
    pub(crate) place: Place,
    /// What was wrong with the row; its line says so, too.
    pub(crate) error: Option<RowError>,
    /// Where its line ends in the text.
    pub(crate) end: usize,
}

impl<'p> Encoder<'p> {
    pub(crate) fn new(plan: &'p Plan, format: ResultFormat) -> Self {
        Self { plan, format }
    }

    /// What a file of results begins with.
    pub(crate) fn header(&self) -> Vec<u8> {
        match self.format {
            ResultFormat::Csv => csv::header(self.plan),
            ResultFormat::Ndjson => Vec::new(),
        }
    }

    /// Adds the rows of a chunk to a text.
    pub(crate) fn encode(&self, scored: ScoredChunk, text: &mut Vec<u8>) -> Vec<ResultRow> {
        let ScoredChunk { chunk, pieces } = scored;
        let mut pieces = pieces.into_iter();
        let mut piece: Option<(usize, Outputs)> = None;
        let mut rows = Vec::with_capacity(chunk.slots.len());
        for slot in chunk.slots {
            let mut outputs = None;
            let mut error = slot.outcome.err();
            if error.is_none() {
                while piece.as_ref().is_none_or(|(left, _)| *left == 0) {
                    match pieces.next() {
                        Some(Piece::Computed(count, tensors)) => {
                            piece = Some((count, Outputs::new(tensors, self.plan.layout)));
                        }
                        Some(Piece::Failed(reason)) => {
                            error = Some(slot.place.error(None, reason));
                            break;
                        }
                        None => {
                            error = Some(slot.place.error(None, "was lost in the host".into()));
                            break;
                        }
                    }
                }
                if error.is_none()
                    && let Some((left, of_piece)) = &mut piece
                {
                    *left -= 1;
                    outputs = Some(of_piece.next_row());
                }
            }
            let begin = text.len();
            let row = Line { place: slot.place, kept: &slot.kept, plan: self.plan };
            let written = match (&outputs, &error) {
                (Some(outputs), None) => self.write(&row, Ok(outputs.as_slice()), text),
                (_, Some(error)) => self.write(&row, Err(error), text),
                (None, None) => Err("has no outputs".into()),
            };
            if let Err(reason) = written {
                text.truncate(begin);
                let refused = slot.place.error(None, reason);
                // What says that a row is bad can always be written.
                let _ = self.write(&row, Err(&refused), text);
                error = Some(refused);
            }
            rows.push(ResultRow { place: slot.place, error, end: text.len() });
        }
        rows
    }

    fn write(
        &self,
        line: &Line<'_>,
        outcome: Result<&[RowOutput<'_>], &RowError>,
        text: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self.format {
            ResultFormat::Csv => csv::write(line, outcome, text),
            ResultFormat::Ndjson => ndjson::write(line, outcome, text),
        }
    }
}

/// What a line of results is made of, beside the outcome.
struct Line<'r> {
    place: Place,
    kept: &'r [Kept],
    plan: &'r Plan,
}

/// The shape of one row of an output; -1 for a dimension that may differ.
fn row_shape(plan: &Plan, output: &TensorSpec) -> Vec<i64> {
    match plan.layout {
        Layout::Rows => output.shape[1..].to_vec(),
        Layout::Whole => output.shape.clone(),
    }
}

/// How many columns an output has in CSV, one for each element; none: one with a list.
fn spread(plan: &Plan, output: &TensorSpec) -> Option<u64> {
    fixed_count(&row_shape(plan, output)).filter(|count| (1..=MOST_COLUMNS).contains(count))
}

/// The names of an output's columns in CSV.
fn columns(plan: &Plan, output: &TensorSpec) -> Vec<String> {
    let name = &output.name;
    match spread(plan, output) {
        Some(count) if count > 1 => (0..count).map(|number| format!("{name}.{number}")).collect(),
        _ => vec![name.to_string()],
    }
}

/// A name that two columns of the results would have.
pub(crate) fn clash(plan: &Plan) -> Option<String> {
    let mut seen = std::collections::HashSet::from([ROW.to_owned(), ERROR.to_owned()]);
    let outputs = plan.outputs.iter().flat_map(|output| {
        let mut names = columns(plan, output);
        if names.len() > 1 {
            names.push(output.name.to_string());
        }
        names
    });
    plan.keep.iter().cloned().chain(outputs).find(|name| !seen.insert(name.clone()))
}
