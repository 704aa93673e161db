//! How the columns of a file become the inputs of a call, by the signature of what is called.
//! Reads one row at a time, and never knows the file's format.

use std::sync::Arc;

use quern_dispatcher::Found;
use quern_types::{Signature, TensorSpec, element_count};

use crate::{
    request::{BatchSpec, ColumnNames},
    results,
    source::json,
    value::Value,
};

/// Most elements of a row that can have a column each; more come as a list in one column.
const MOST_COLUMNS: u64 = 65_536;
/// Rows in one call of a function that says that it takes several.
const MOST_ROWS: u32 = 65_536;

/// One row of a file.
pub(crate) trait Record {
    /// The value of a column; none if the row has none of that name.
    fn get(&self, column: &str) -> Option<Result<Value<'_>, String>>;

    /// The value of a column as the results pass it on; the error says why they can't.
    fn kept(&self, column: &str) -> Result<Kept, String>;
}

/// A value that is passed on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kept {
    Null,
    Text(String),
    /// As JSON writes it.
    Json(String),
    /// A number that JSON has no form for.
    NotFinite(f64),
}

/// Everything about a batch but its file.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<InputPlan>,
    pub(crate) keep: Vec<String>,
    pub(crate) layout: Layout,
    /// Most rows in one call.
    pub(crate) call_rows: usize,
    pub(crate) outputs: Vec<TensorSpec>,
}

/// Where the rows of a file are in the tensors of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The first dimension of every tensor counts them.
    Rows,
    /// A call has one row, which is all of its tensors.
    Whole,
}

/// One input.
#[derive(Debug)]
pub(crate) struct InputPlan {
    pub(crate) spec: TensorSpec,
    /// The shape of one row; -1 for a dimension that may differ.
    row_shape: Vec<i64>,
    columns: Columns,
}

#[derive(Debug)]
enum Columns {
    /// One column of this name; where there is none, one for each element.
    Named { name: String, elements: Vec<String> },
    /// One for each element.
    Elements(Vec<String>),
}

impl Columns {
    /// Those that are read of a file which has these.
    fn used(&self, has: impl Fn(&str) -> bool) -> &[String] {
        match self {
            Self::Named { name, .. } if has(name) => std::slice::from_ref(name),
            Self::Named { elements, .. } | Self::Elements(elements) => elements,
        }
    }
}

/// What is wrong with a column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CellError {
    pub(crate) column: String,
    pub(crate) reason: String,
}

/// Why what is asked for does not go together with what is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Columns of no input.
    #[error("columns has {input:?}, which is no input of {model:?}: it has {known}")]
    NoInput {
        /// The model or function.
        model: String,
        /// As asked for.
        input: String,
        /// The inputs that it has.
        known: String,
    },
    /// Another number of columns than elements.
    #[error("columns has {columns} names for input {input:?}, which has {elements} elements a row")]
    Count {
        /// The input.
        input: String,
        /// Names given.
        columns: usize,
        /// Elements of one row.
        elements: u64,
    },
    /// A column for each element, where their number differs or is too large.
    #[error(
        "input {input:?} can't have a column for each element: its rows have the shape {shape:?}; \
         give it one column with a list"
    )]
    NoElements {
        /// The input.
        input: String,
        /// The shape of a row.
        shape: Vec<i64>,
    },
    /// Two columns of the results would have one name.
    #[error(
        "the results would have two columns {column:?}: beside what is kept and the outputs, they \
         have \"row\" and \"error\""
    )]
    Clash {
        /// The name.
        column: String,
    },
    /// Several rows in a call that has no place for them.
    #[error("rows_per_call is {rows}, but a call of {model:?} has one row: {reason}")]
    OneRow {
        /// The model or function.
        model: String,
        /// As asked for.
        rows: u32,
        /// Why it has one.
        reason: String,
    },
}

impl Plan {
    /// The plan of a batch.
    pub(crate) fn new(spec: &BatchSpec, found: &Found) -> Result<Self, PlanError> {
        let signature = found.signature();
        let model = spec.model.to_string();
        if let Some(input) = spec.columns.keys().find(|name| !has_input(signature, name)) {
            let known = signature.inputs().iter().map(|input| format!("{:?}", input.name));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(PlanError::NoInput { model, input: input.clone(), known });
        }
        let (layout, most) = layout(found);
        let asked = spec.rows_per_call.map(|rows| rows.get());
        let call_rows = match (layout, asked) {
            (Layout::Whole, Some(rows)) if rows > 1 => {
                let reason = "not all of its tensors have a first dimension of -1".into();
                return Err(PlanError::OneRow { model, rows, reason });
            }
            (Layout::Whole, _) => 1,
            (Layout::Rows, asked) => {
                asked.unwrap_or(most.unwrap_or(1)).min(most.unwrap_or(MOST_ROWS))
            }
        };
        let input =
            |input: &TensorSpec| InputPlan::new(input, layout, spec.columns.get(&*input.name));
        let plan = Self {
            inputs: signature.inputs().iter().map(input).collect::<Result<_, _>>()?,
            keep: spec.keep.clone(),
            layout,
            call_rows: call_rows as usize,
            outputs: signature.outputs().to_vec(),
        };
        match results::clash(&plan) {
            Some(column) => Err(PlanError::Clash { column }),
            None => Ok(plan),
        }
    }

    /// Checks that a file with these columns has all that is needed; the error is a column.
    pub(crate) fn check_columns(&self, has: impl Fn(&str) -> bool) -> Result<(), CellError> {
        let missing =
            |column: &str| CellError { column: column.into(), reason: "is missing".into() };
        for input in &self.inputs {
            let elements = match &input.columns {
                Columns::Named { name, .. } if has(name) => continue,
                Columns::Named { name, elements }
                    if elements.first().is_none_or(|first| !has(first)) =>
                {
                    return Err(missing(name));
                }
                Columns::Named { elements, .. } | Columns::Elements(elements) => elements,
            };
            if let Some(absent) = elements.iter().find(|column| !has(column)) {
                return Err(missing(absent));
            }
        }
        match self.keep.iter().find(|column| !has(column)) {
            Some(absent) => Err(missing(absent)),
            None => Ok(()),
        }
    }

    /// The columns that are read of a file which has these.
    pub(crate) fn used_columns(&self, has: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        let of_inputs = self.inputs.iter().flat_map(move |input| input.columns.used(&has));
        of_inputs.chain(&self.keep).map(String::as_str)
    }

    /// Every column that may be read, so that a file which has one of them twice is refused.
    pub(crate) fn may_read(&self, column: &str) -> bool {
        let of_input = |input: &InputPlan| match &input.columns {
            Columns::Named { name, elements } => {
                name == column || elements.iter().any(|one| one == column)
            }
            Columns::Elements(elements) => elements.iter().any(|one| one == column),
        };
        self.keep.iter().any(|kept| kept == column) || self.inputs.iter().any(of_input)
    }
}

/// Where rows are, and how many of them a run takes, if that is known.
fn layout(found: &Found) -> (Layout, Option<u32>) {
    let counts_rows = |spec: &TensorSpec| spec.shape.first() == Some(&-1);
    let signature = found.signature();
    let mut all = signature.inputs().iter().chain(signature.outputs());
    let free = all.all(counts_rows);
    match found {
        Found::Model(..) => match found.max_rows() {
            Some(most) if free => (Layout::Rows, Some(most)),
            _ => (Layout::Whole, None),
        },
        // Nothing says that its rows are independent, but whoever asks for several in one call.
        Found::Function(..) if free => (Layout::Rows, None),
        Found::Function(..) => (Layout::Whole, None),
    }
}

fn has_input(signature: &Signature, name: &str) -> bool {
    signature.inputs().iter().any(|input| &*input.name == name)
}

impl InputPlan {
    fn new(
        spec: &TensorSpec,
        layout: Layout,
        asked: Option<&ColumnNames>,
    ) -> Result<Self, PlanError> {
        let row_shape = match layout {
            Layout::Rows => spec.shape[1..].to_vec(),
            Layout::Whole => spec.shape.clone(),
        };
        let input = || spec.name.to_string();
        // A call of one row has one of what its first dimension counts, where that is free.
        let columns_of = match (layout, row_shape.split_first()) {
            (Layout::Whole, Some((-1, rest))) => rest,
            _ => &row_shape,
        };
        let elements = fixed_count(columns_of);
        let count = elements.filter(|count| *count <= MOST_COLUMNS);
        let numbered = |make: &dyn Fn(u64) -> String| (0..count.unwrap_or(0)).map(make).collect();
        let columns = match asked {
            Some(ColumnNames::Many(names)) => match elements {
                Some(elements) if elements == names.len() as u64 => {
                    Columns::Elements(names.clone())
                }
                Some(elements) => {
                    return Err(PlanError::Count {
                        input: input(),
                        columns: names.len(),
                        elements,
                    });
                }
                None => return Err(PlanError::NoElements { input: input(), shape: row_shape }),
            },
            Some(ColumnNames::One(pattern)) if pattern.contains("{}") => {
                if count.is_none() {
                    return Err(PlanError::NoElements { input: input(), shape: row_shape });
                }
                Columns::Elements(numbered(&|number| pattern.replace("{}", &number.to_string())))
            }
            named => {
                let name = match named {
                    Some(ColumnNames::One(name)) => name.clone(),
                    _ => input(),
                };
                let elements = numbered(&|number| format!("{name}.{number}"));
                Columns::Named { name, elements }
            }
        };
        Ok(Self { spec: spec.clone(), row_shape, columns })
    }

    /// Adds a row's elements to `data`; gives the shape that they have.
    pub(crate) fn read(
        &self,
        record: &dyn Record,
        data: &mut Vec<u8>,
    ) -> Result<Vec<u64>, CellError> {
        let wrong = |column: &str| {
            let column = column.to_owned();
            move |reason| CellError { column, reason }
        };
        let elements = match &self.columns {
            Columns::Named { name, elements } => match record.get(name) {
                Some(value) => return self.whole(value, data).map_err(wrong(name)),
                None if elements.first().is_none_or(|first| record.get(first).is_none()) => {
                    return Err(wrong(name)("is missing".into()));
                }
                None => elements,
            },
            Columns::Elements(elements) => elements,
        };
        for column in elements {
            let value = record.get(column).unwrap_or_else(|| Err("is missing".into()));
            let appended = value.and_then(|value| value.append(self.spec.dtype, data));
            appended.map_err(wrong(column))?;
        }
        Ok(fit(&[elements.len() as u64], &self.row_shape).expect("as many as the shape asks for"))
    }

    /// All elements of a row from the value of one column.
    fn whole(
        &self,
        value: Result<Value<'_>, String>,
        data: &mut Vec<u8>,
    ) -> Result<Vec<u64>, String> {
        let dtype = self.spec.dtype;
        let nested = match value? {
            Value::Written(text) if text.trim_start().starts_with('[') && !self.is_one_text() => {
                let Value::List(values) = json::parse(text)? else {
                    return Err("is no list".into());
                };
                flatten(&values, dtype, data)?
            }
            Value::List(values) => flatten(&values, dtype, data)?,
            scalar => {
                scalar.append(dtype, data)?;
                return fit(&[1], &self.row_shape);
            }
        };
        fit(&nested, &self.row_shape)
    }

    /// Whether a row is one text, which may well begin with a bracket.
    fn is_one_text(&self) -> bool {
        self.spec.dtype == quern_types::DataType::Bytes && fixed_count(&self.row_shape) == Some(1)
    }

    /// The column that an element of a row comes from.
    pub(crate) fn column_of(&self, element: usize) -> &str {
        match &self.columns {
            Columns::Elements(elements) => elements.get(element).map_or("", String::as_str),
            Columns::Named { name, .. } => name,
        }
    }

    /// The input's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.spec.name
    }
}

/// How many elements a shape has, if no dimension differs.
pub(crate) fn fixed_count(shape: &[i64]) -> Option<u64> {
    let dims = shape.iter().map(|dim| u64::try_from(*dim).ok()).collect::<Option<Vec<_>>>()?;
    element_count(&dims)
}

/// Adds the elements of nested lists; gives the lengths of each depth.
fn flatten(
    values: &[Value<'_>],
    dtype: quern_types::DataType,
    data: &mut Vec<u8>,
) -> Result<Vec<u64>, String> {
    let mut lengths = vec![values.len() as u64];
    let mut inner: Option<Vec<u64>> = None;
    for (index, value) in values.iter().enumerate() {
        let own = match value {
            Value::List(values) => {
                flatten(values, dtype, data).map_err(|reason| format!("[{index}] {reason}"))?
            }
            scalar => {
                scalar.append(dtype, data).map_err(|reason| format!("[{index}] {reason}"))?;
                Vec::new()
            }
        };
        match &inner {
            Some(first) if *first != own => return Err("has lists of different lengths".into()),
            _ => inner = Some(own),
        }
    }
    lengths.extend(inner.unwrap_or_default());
    Ok(lengths)
}

/// The shape of a row by how its values are nested; flat values take the shape that is expected.
fn fit(nested: &[u64], expected: &[i64]) -> Result<Vec<u64>, String> {
    let agrees = |(given, dim): (&u64, &i64)| *dim == -1 || u64::try_from(*dim) == Ok(*given);
    if nested.len() == expected.len() && nested.iter().zip(expected).all(agrees) {
        return Ok(nested.to_vec());
    }
    let refused = || {
        let given = nested.iter().map(u64::to_string).collect::<Vec<_>>().join("×");
        Err(format!("has {given} values, where a row has the shape {expected:?}"))
    };
    let [count] = nested[..] else { return refused() };
    let known = expected.iter().filter_map(|dim| u64::try_from(*dim).ok());
    let known = known.fold(1u64, u64::saturating_mul);
    let free = expected.iter().filter(|dim| **dim < 0).count();
    let fits = match free {
        0 => known == count,
        1 => known > 0 && count.is_multiple_of(known),
        _ => false,
    };
    if !fits {
        return refused();
    }
    let dim = |dim: &i64| u64::try_from(*dim).unwrap_or(count / known.max(1));
    Ok(expected.iter().map(dim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_shape_of_a_row() {
        for (nested, expected, shape) in [
            (&[1][..], &[][..], Ok(vec![])),
            (&[3], &[3], Ok(vec![3])),
            (&[3], &[-1], Ok(vec![3])),
            (&[6], &[2, 3], Ok(vec![2, 3])),
            (&[6], &[-1, 3], Ok(vec![2, 3])),
            (&[2, 3], &[-1, -1], Ok(vec![2, 3])),
            (&[1], &[1, 1], Ok(vec![1, 1])),
            (&[2], &[], Err("has 2 values, where a row has the shape []")),
            (&[2, 3], &[3, 2], Err("has 2×3 values, where a row has the shape [3, 2]")),
            (&[5], &[-1, 3], Err("has 5 values, where a row has the shape [-1, 3]")),
            (&[4], &[-1, -1], Err("has 4 values, where a row has the shape [-1, -1]")),
            (&[4], &[-1, 0], Err("has 4 values, where a row has the shape [-1, 0]")),
        ] {
            let found = fit(nested, expected);
            assert_eq!(found.as_deref().map_err(String::as_str), shape.as_deref().map_err(|e| *e));
        }
    }

    #[test]
    fn lists_have_one_length_at_each_depth() {
        let number = Value::Number;
        let list =
            |numbers: &[&'static str]| Value::List(numbers.iter().copied().map(number).collect());
        let dtype = quern_types::DataType::Uint8;
        let mut data = Vec::new();
        let nested = [list(&["1", "2"]), list(&["3", "4"])];
        assert_eq!(flatten(&nested, dtype, &mut data), Ok(vec![2, 2]));
        assert_eq!(data, [1, 2, 3, 4]);
        let uneven = [list(&["1"]), list(&["2", "3"])];
        assert!(flatten(&uneven, dtype, &mut data).is_err());
        assert!(flatten(&[number("1"), list(&["2"])], dtype, &mut data).is_err());
        let deep = flatten(&[list(&["1"]), list(&["x"])], dtype, &mut data);
        assert_eq!(deep, Err("[1] [0] is x, where UINT8 takes an integer".into()));
    }
}
