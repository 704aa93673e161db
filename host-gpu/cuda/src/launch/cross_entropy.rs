//! The loss of a classification with its gradient: a block for each row of logits.

use quern_kernels::Operand;
use quern_operators::{CrossEntropy, LaneError};

use super::{
    Launcher,
    fault::Indexed,
    parameters::{self, PACK_BYTES},
    space::Space,
    suffix, threads_for,
};
use crate::source::Family;

pub(super) fn cross_entropy(
    launcher: &mut Launcher,
    loss: &CrossEntropy,
    inputs: &[Operand],
    outputs: &[Operand],
) -> Result<(), LaneError> {
    let ([logits, labels], [losses, gradient]) = (inputs, outputs) else {
        unreachable!("planned for two inputs and two outputs")
    };
    let (dims, strides) = (logits.layout().shape().dims(), logits.layout().strides());
    let ((&length, dims), (&stride, strides)) =
        dims.split_last().zip(strides.split_last()).expect("planned for rows");
    let space = Space::new(dims, [strides, labels.layout().strides()]);
    let together = PACK_BYTES / logits.dtype().size();
    let in_packs = |size: &u64| size.is_multiple_of(together);
    let vector = stride == 1
        && launcher.at(logits).is_multiple_of(PACK_BYTES)
        && in_packs(&length)
        && space.strides[0].iter().all(in_packs);
    let told = parameters::CrossEntropy {
        rows: space.count,
        length,
        rank: space.rank,
        vector: vector.into(),
        dims: space.dims,
        strides: space.strides[0],
        label_strides: space.strides[1],
        stride,
        logits: launcher.at(logits),
        labels: launcher.at(labels),
        loss: launcher.at(losses),
        gradient: launcher.at(gradient),
        ignored: loss.ignored.unwrap_or_default(),
        ignores: loss.ignored.is_some().into(),
        share: 1.0 - loss.smoothing,
        spread: loss.smoothing / length as f64,
        checked: launcher.checked(Indexed::CrossEntropy, length),
    };
    launcher.unsure = true;
    let name = format!("cross_entropy_{}_{}", suffix(logits.dtype()), suffix(labels.dtype()));
    let threads = threads_for(if vector { length / together } else { length });
    let work = told.rows.saturating_mul(length);
    // SAFETY: the kernel takes this struct, for these element types; the layouts don't lead out of
    // their buffers, labels are held against the row's length, there is a loss for each row, and
    // the gradient is as the logits.
    unsafe { launcher.run_blocks((Family::CrossEntropy, &name), (told.rows, threads), work, &told) }
}
