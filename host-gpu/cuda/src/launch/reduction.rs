//! Kernels that make one element of many. How a line is cut depends on shapes and strides alone,
//! so that a sum is the same on every device of this kind.

use quern_kernels::Operand;
use quern_operators::{ArgReduce, Extreme, LaneError, Reduce, Reduction};

use super::{Launcher, MAX_THREADS, SCRATCH_BYTES, parameters, space::Space, suffix, threads_for};
use crate::source::Family;

/// Most partial results of a step: each takes 8 bytes at most.
const MAX_PARTIAL: u64 = SCRATCH_BYTES / 8;

/// Lines that are computed side by side.
const COLUMNS: u64 = 32;

/// A tensor as lines, each of which becomes one element.
struct Lines {
    kept: Space<1>,
    gone: Space<1>,
    /// Whether elements lie nearer to those of other lines than to others of their own.
    across: bool,
}

impl Lines {
    fn new(x: &Operand, axes: &[u8]) -> Self {
        let (dims, strides) = (x.layout().shape().dims(), x.layout().strides());
        let goes = |axis: usize| axes.iter().any(|gone| usize::from(*gone) == axis);
        let part = |gone: bool| {
            let axes = (0..dims.len()).filter(move |axis| goes(*axis) == gone);
            axes.map(|axis| (dims[axis], strides[axis])).unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let nearest = |(dims, strides): &(Vec<u64>, Vec<u64>)| {
            let long = dims.iter().zip(strides).filter(|(dim, _)| **dim > 1);
            long.map(|(_, stride)| *stride).min().unwrap_or(u64::MAX)
        };
        let (kept, gone) = (part(false), part(true));
        let across = nearest(&kept) < nearest(&gone);
        let (kept, gone) = (Space::new(&kept.0, [&kept.1]), Space::new(&gone.0, [&gone.1]));
        Self { across: across && kept.count >= COLUMNS, kept, gone }
    }

    fn told(&self, launcher: &Launcher, x: &Operand, out: &Operand) -> parameters::Reduce {
        parameters::Reduce {
            lines: self.kept.count,
            length: self.gone.count,
            pieces: 1,
            piece: self.gone.count,
            kept_rank: self.kept.rank,
            gone_rank: self.gone.rank,
            kept_dims: self.kept.dims,
            kept_strides: self.kept.strides[0],
            gone_dims: self.gone.dims,
            gone_strides: self.gone.strides[0],
            data: launcher.at(x),
            out: launcher.at(out),
            partial: launcher.scratch_at,
        }
    }

    /// In how many pieces of how many elements lines are cut, so that few long ones keep many
    /// threads busy.
    fn pieces(&self) -> (u64, u64) {
        let (jobs, shortest) = if self.across {
            (self.kept.count.div_ceil(COLUMNS), 256)
        } else {
            (self.kept.count, 4096)
        };
        const ENOUGH_JOBS: u64 = 2048;
        let most = (MAX_PARTIAL / self.kept.count.max(1)).min(ENOUGH_JOBS / jobs.max(1));
        let pieces = self.gone.count.div_ceil(shortest).min(most).max(1);
        let piece = self.gone.count.div_ceil(pieces).max(1);
        (self.gone.count.div_ceil(piece).max(1), piece)
    }
}

pub(super) fn reduce(
    launcher: &mut Launcher,
    reduce: &Reduce,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let lines = Lines::new(x, &reduce.axes);
    let function = match reduce.function {
        Reduction::Max => "max_along",
        Reduction::Min => "min_along",
        other => other.name(),
    };
    let name = |part: &str| format!("{function}_{}_{part}", suffix(x.dtype()));
    let (pieces, piece) = lines.pieces();
    let told = parameters::Reduce { pieces, piece, ..lines.told(launcher, x, out) };
    let work = told.lines.saturating_mul(told.length);
    let (part, blocks, threads) = if lines.across {
        ("across", told.lines.div_ceil(COLUMNS) * pieces, MAX_THREADS)
    } else {
        ("along", told.lines * pieces, threads_for(piece))
    };
    // SAFETY: the kernel takes this struct, for these element types; the layout does not lead out
    // of its buffer, the output has an element for each line, and the scratch memory has room for
    // the partial results, which are at most `MAX_PARTIAL`.
    unsafe {
        launcher.run_blocks((Family::Reduction, &name(part)), (blocks, threads), work, &told)?;
    }
    if pieces == 1 {
        return Ok(());
    }
    let shape = (told.lines, threads_for(pieces));
    // SAFETY: as above.
    unsafe { launcher.run_blocks((Family::Reduction, &name("finish")), shape, 0, &told) }
}

pub(super) fn arg_reduce(
    launcher: &mut Launcher,
    reduce: &ArgReduce,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let lines = Lines::new(x, &[reduce.axis]);
    let told = lines.told(launcher, x, out);
    let function = if reduce.extreme == Extreme::Max { "arg_max" } else { "arg_min" };
    let name = format!("{function}_{}", suffix(x.dtype()));
    let work = told.lines.saturating_mul(told.length);
    let shape = (told.lines, threads_for(told.length));
    // SAFETY: as in `reduce`.
    unsafe { launcher.run_blocks((Family::Reduction, &name), shape, work, &told) }
}
