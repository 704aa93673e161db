//! Runs a model before anybody calls it, so that what its engine does once, such as planning and
//! taking memory, is done when the first call comes. Never answers a call with what comes out.

use quern_types::{Batch, BatchAxis, DeviceError, ModelSpec, Replica, Tensor};

use crate::sample;

/// Computes what the model's manifest asks for, on each lane; does nothing where it asks for
/// nothing. Inputs that are made up have one row, and where calls share runs, every other run has
/// as many as fit into one.
pub async fn warm_up(replica: &dyn Replica, spec: &ModelSpec) -> Result<(), DeviceError> {
    let Some(warm_up) = &spec.warm_up else { return Ok(()) };
    let failed = |reason| DeviceError::Run { engine: spec.engine, reason };
    let calls: Vec<Vec<Tensor>> = match warm_up.tensors(&spec.signature).map_err(failed)? {
        Some(given) => vec![given],
        None => {
            let most = match spec.batch {
                BatchAxis::Rows { max } => max,
                BatchAxis::None { .. } => 1,
            };
            let sizes = if most > 1 { vec![1, most] } else { vec![1] };
            let sample = |rows| sample(&spec.signature, u64::from(rows)).map_err(failed);
            sizes.into_iter().map(sample).collect::<Result<_, _>>()?
        }
    };
    for lane in 0..replica.lanes() {
        for call in calls.iter().cycle().take(warm_up.runs as usize) {
            replica.run(lane, Batch { calls: vec![call.clone()] }).await?;
        }
    }
    Ok(())
}
