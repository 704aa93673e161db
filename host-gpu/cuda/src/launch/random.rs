//! Numbers of a random stream.

use quern_kernels::Operand;
use quern_operators::{Distribution, LaneError, Random};

use super::{Launcher, parameters, suffix};
use crate::source::Family;

pub(super) fn random(
    launcher: &mut Launcher,
    random: &Random,
    out: &Operand,
) -> Result<(), LaneError> {
    let count = out.layout().shape().elements();
    let (seed, offset) = (random.seed, random.offset);
    let told = parameters::Random { count, seed, offset, out: launcher.at(out) };
    let function = match random.distribution {
        Distribution::Uniform => "uniform",
        Distribution::Normal => "normal",
    };
    let name = format!("{function}_{}", suffix(random.dtype));
    // SAFETY: the kernel takes this struct, for this element type, and the output has room for as
    // many elements; it begins where the memory of a tensor does, which packs are aligned to.
    unsafe { launcher.run((Family::Random, &name), random.blocks(), &told) }
}
