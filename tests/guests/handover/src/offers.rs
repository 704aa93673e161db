//! Tensors handed from one session to another, in one request and from function to function.

use std::time::Duration;

use quern_sdk::gpu::{Session, Tensor};
use serde_json::json;

use crate::Outcome;

const SOON: Duration = Duration::from_secs(60);

fn counted(session: &Session, count: u64) -> Result<Tensor, quern_sdk::gpu::Error> {
    let elements: Vec<f32> = (0..count).map(|place| place as f32).collect();
    session.tensor([count], &elements)
}

/// Offers a tensor of so many elements for so long, and ends its session.
pub(crate) fn offer(count: u64, milliseconds: u64) -> Outcome {
    let tensor = counted(&Session::open()?, count)?;
    Ok(json!(tensor.offer(Duration::from_millis(milliseconds))?))
}

/// Takes what waits into a session of so much memory.
pub(crate) fn accept(ticket: &str, bytes: u64) -> Outcome {
    let session = Session::with_memory(bytes)?;
    let tensor = session.accept(ticket)?;
    let sum = tensor.sum_all()?.item::<f32>()?;
    Ok(json!({ "tensor": format!("{tensor:?}"), "sum": sum, "bytes": session.usage().bytes }))
}

/// Offers one tensor so many times.
pub(crate) fn repeat(count: u64) -> Outcome {
    let session = Session::with_memory(4_096)?;
    let tensor = counted(&session, 1)?;
    for _ in 0..count {
        tensor.offer(SOON)?;
    }
    Ok(json!(count))
}

/// Hands tensors from session to session: a whole one, a part of one, one that is turned, an empty
/// one. What comes out of each, whether they were there a second time, and what both sessions have.
pub(crate) fn exchange() -> Outcome {
    let (from, to) = (Session::with_memory(8_192)?, Session::with_memory(8_192)?);
    let whole = counted(&from, 512)?.reshape([2, 256])?;
    let part = whole.narrow(0, 1..2)?;
    let turned = whole.narrow(1, 0..2)?.transpose()?;
    let empty = whole.narrow(0, 0..0)?;
    let mut tickets = Vec::new();
    for tensor in [&whole, &part, &turned, &empty] {
        tickets.push(tensor.offer(SOON)?);
    }
    let before = from.usage().bytes;
    drop((whole, part, turned, empty));
    let after = from.usage().bytes;
    drop(from);
    let mut taken = Vec::new();
    let mut again = Vec::new();
    for ticket in &tickets {
        taken.push(to.accept(ticket)?);
        again.push(to.accept(ticket).is_ok());
    }
    let sums = taken.iter().map(|tensor| tensor.sum_all()?.item::<f32>());
    let sums = sums.collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<_> = taken.iter().map(|tensor| format!("{tensor:?}")).collect();
    let usage = to.usage();
    Ok(json!({
        "sums": sums, "shapes": shapes, "again": again, "before": before, "after": after,
        "bytes": usage.bytes, "tensors": usage.tensors,
    }))
}
