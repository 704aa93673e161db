//! Counts of elements by where they lie between bounds.

use quern_kernels::Operand;
use quern_operators::{Histogram, LaneError};

use super::{
    Launcher,
    parameters::{self, Elementwise},
    suffix,
};
use crate::{driver, source::Family};

pub(super) fn histogram(
    launcher: &mut Launcher,
    histogram: &Histogram,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let counts = launcher.at(out);
    // SAFETY: the output is as long, and nothing else uses it yet.
    let cleared = unsafe { driver::clear(launcher.stream, counts, out.description().bytes()) };
    launcher.core.check("clearing counts", cleared)?;
    let told = parameters::Histogram {
        each: Elementwise { out: counts, ..launcher.elementwise([x], out) },
        min: histogram.min,
        max: histogram.max,
        density: histogram.density(),
        bins: histogram.bins,
        unused: 0,
    };
    let name = format!("histogram_{}", suffix(x.dtype()));
    // SAFETY: the kernel takes this struct, for this element type; the layout does not lead out of
    // its buffer, and the output has a count for each bin.
    unsafe { launcher.run((Family::Histogram, &name), told.each.count, &told) }
}
