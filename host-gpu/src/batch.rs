//! Calls into a run and back: their rows go in end to end, and each call gets its own rows of
//! what comes out, held against the signature.

use quern_types::{BatchAxis, ModelSpec, Tensor, TensorSpec};

use crate::engine::{Input, Output};

/// What a run takes, and how to give its outputs back.
pub(crate) struct Gathered {
    pub(crate) inputs: Vec<Input>,
    /// Rows of each call; none where there is one call and no batch axis.
    rows: Option<Vec<usize>>,
}

/// Puts the calls' inputs together, without copying them yet.
pub(crate) fn gather(spec: &ModelSpec, calls: &[Vec<Tensor>]) -> Result<Gathered, String> {
    let signature = &spec.signature;
    for call in calls {
        if call.len() != signature.inputs().len() {
            return Err(format!(
                "a call has {} inputs, the model {}",
                call.len(),
                signature.inputs().len()
            ));
        }
    }
    let rows = match (&spec.batch, calls) {
        (_, []) => return Err("a run of no calls".into()),
        (BatchAxis::None { .. }, [_]) => None,
        (BatchAxis::None { reason }, _) => {
            return Err(format!("{} calls can't share a run: {reason}", calls.len()));
        }
        (BatchAxis::Rows { .. }, _) => {
            Some(calls.iter().map(|call| rows_of(call)).collect::<Result<Vec<_>, _>>()?)
        }
    };
    let total = rows.as_ref().map(|rows| rows.iter().sum());
    let inputs = signature
        .inputs()
        .iter()
        .enumerate()
        .map(|(index, spec)| join(spec, total, calls.iter().map(|call| &call[index])))
        .collect::<Result<_, _>>()?;
    Ok(Gathered { inputs, rows })
}

/// The rows of a call, in which its inputs must agree.
fn rows_of(call: &[Tensor]) -> Result<usize, String> {
    let mut rows = call.iter().map(|tensor| (tensor.name(), tensor.shape().first().copied()));
    let Some((first, Some(count))) = rows.next() else {
        return Err("a call has no rows".into());
    };
    match rows.find(|(_, other)| *other != Some(count)) {
        None => usize::try_from(count).map_err(|_| format!("input {first:?} has {count} rows")),
        Some((name, _)) => {
            Err(format!("inputs {first:?} and {name:?} have different numbers of rows"))
        }
    }
}

fn join<'a>(
    spec: &TensorSpec,
    total: Option<usize>,
    tensors: impl Iterator<Item = &'a Tensor>,
) -> Result<Input, String> {
    let name = &spec.name;
    let mut parts = vec![];
    let mut shape: Option<&[u64]> = None;
    for tensor in tensors {
        if tensor.dtype() != spec.dtype {
            return Err(format!(
                "input {name:?} has datatype {}, not {}",
                tensor.dtype(),
                spec.dtype
            ));
        }
        // A first dimension that counts rows may differ; nothing else may.
        let skip = usize::from(total.is_some());
        let first = *shape.get_or_insert(tensor.shape());
        if first.get(skip..) != tensor.shape().get(skip..) {
            return Err(format!(
                "input {name:?} has shapes {first:?} and {:?} in one run",
                tensor.shape()
            ));
        }
        parts.push(tensor.data().clone());
    }
    let dims = shape.unwrap_or_default().iter().map(|&dim| usize::try_from(dim));
    let mut shape: Vec<usize> =
        dims.collect::<Result<_, _>>().map_err(|_| format!("input {name:?} is too large"))?;
    if let (Some(total), Some(first)) = (total, shape.first_mut()) {
        *first = total;
    }
    Ok(Input { name: name.clone(), dtype: spec.dtype, shape, parts })
}

impl Gathered {
    /// For each call its outputs, which share the run's buffers.
    pub(crate) fn split(
        &self,
        spec: &ModelSpec,
        outputs: Vec<Output>,
    ) -> Result<Vec<Vec<Tensor>>, String> {
        let specs = spec.signature.outputs();
        if outputs.len() != specs.len() {
            return Err(format!(
                "it gave {} outputs, the signature has {}",
                outputs.len(),
                specs.len()
            ));
        }
        let calls = self.rows.as_ref().map_or(1, Vec::len);
        let mut replies: Vec<Vec<Tensor>> =
            (0..calls).map(|_| Vec::with_capacity(specs.len())).collect();
        for (spec, output) in specs.iter().zip(outputs) {
            match &self.rows {
                None => replies[0].push(tensor(spec, output)?),
                Some(rows) => scatter(spec, output, rows, &mut replies)?,
            }
        }
        Ok(replies)
    }
}

/// Gives each call its rows of one output.
fn scatter(
    spec: &TensorSpec,
    output: Output,
    rows: &[usize],
    replies: &mut [Vec<Tensor>],
) -> Result<(), String> {
    if let ([_], [reply]) = (rows, &mut *replies)
        && output.shape.first() == Some(&(rows[0] as u64))
    {
        reply.push(tensor(spec, output)?);
        return Ok(());
    }
    let total: usize = rows.iter().sum();
    if output.shape.first() != Some(&(total as u64)) {
        return Err(format!(
            "output {:?} has shape {:?} after a run of {total} rows",
            spec.name, output.shape
        ));
    }
    let mut rest = tensor(spec, output)?;
    for (rows, reply) in rows.iter().map(|&rows| rows as u64).zip(replies) {
        let all = rest.shape()[0];
        let (part, others) = (rest.rows(0..rows), rest.rows(rows..all));
        let (Some(part), Some(others)) = (part, others) else {
            return Err(format!("output {:?} has too few rows", spec.name));
        };
        reply.push(part);
        rest = others;
    }
    Ok(())
}

/// An output as a tensor, if it fits the signature.
fn tensor(spec: &TensorSpec, output: Output) -> Result<Tensor, String> {
    let tensor = Tensor::new(spec.name.clone(), output.dtype, output.shape, output.data)
        .map_err(|error| format!("output {error}"))?;
    match spec.check(&tensor) {
        Ok(()) => Ok(tensor),
        Err(violation) => Err(format!("output {:?} {violation}", spec.name)),
    }
}
