//! Convolutions and their gradients, as products of what windows see with weights or gradients. How
//! sums are cut depends on shapes alone, so that they are the same on every device of this kind.

mod sliding;

use quern_kernels::Operand;
use quern_operators::{Convolution, Dtype, LaneError};

use super::{
    Launcher, MAX_THREADS, SCRATCH_BYTES, blocks_for,
    parameters::{self, Side},
    suffix, threads_for,
};
use crate::{driver, source::Family};
use sliding::{Phase, Slide};

/// Rows and columns that a block computes, and steps of a sum that it takes at once.
const ROWS: u64 = 64;
const COLUMNS: u64 = 128;
const DEPTH: u64 = 16;

/// Rows up to which a thread computes elements one after another, and how many rows it takes.
const FEW: u64 = 8;
const FEW_AT_ONCE: u64 = 4;

/// Elements of a group up to which each has a block of its own, where sums are long.
const ALONE: u64 = 256;

/// Tiles from which on sums are not cut into pieces, and the shortest piece.
const ENOUGH_TILES: u64 = 256;
const SHORTEST: u64 = 256;

/// What the columns are of the matrix of what windows see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Images and places of windows.
    Places,
    /// Channels and pixels of windows.
    Windows,
}

fn sizes(operand: &Operand) -> [u64; 4] {
    operand.layout().shape().dims().try_into().expect("planned for four dimensions")
}

fn strides(operand: &Operand) -> [i64; 4] {
    let strides = operand.layout().strides().iter().map(|stride| *stride as i64);
    strides.collect::<Vec<_>>().try_into().expect("planned for four dimensions")
}

/// Places of windows, or with a gradient what sees them: images, rows and columns.
fn places(slides: [Slide; 2], sizes: [u64; 4], outer: i64, other: [i64; 3]) -> Side {
    let [count, _, down, across] = sizes;
    Side {
        count: count * down * across,
        dims: [down, across],
        outer,
        steps: slides.map(|slide| slide.stride as i64),
        shifts: slides.map(|slide| -(slide.before as i64)),
        other,
    }
}

/// Channels, and pixels of a window.
fn windows(slides: [Slide; 2], channels: u64, outer: i64, other: [i64; 3]) -> Side {
    let dims = slides.map(|slide| slide.taps);
    Side {
        count: channels * dims[0] * dims[1],
        dims,
        outer,
        steps: slides.map(|slide| slide.dilation as i64),
        shifts: [0; 2],
        other,
    }
}

pub(super) fn forward(
    launcher: &mut Launcher,
    convolution: &Convolution,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, weights] = inputs else { unreachable!("planned for two inputs") };
    let (of_x, of_weights) = (strides(x), strides(weights));
    let [made, seen, ..] = sizes(weights);
    let slides = Slide::both(convolution, sizes(x), sizes(weights));
    let slides = slides.ok_or(LaneError::Unsupported { operator: "convolution" })?;
    let [_, _, down, across] = sizes(out);
    let (groups, results) = (u64::from(convolution.groups), down * across);
    let rows = made / groups;
    let to = [(made * results) as i64, across as i64, 1];
    let told = parameters::Convolution {
        groups,
        rows,
        columns: places(slides, sizes(out), of_x[0], to),
        depth: windows(slides, seen, of_x[1], [of_weights[1], of_weights[2], of_weights[3]]),
        size: slides.map(|slide| slide.pixels),
        strides: [of_x[2], of_x[3]],
        row: of_weights[0] as u64,
        out_row: results,
        group: rows * of_weights[0] as u64,
        seen_group: seen * of_x[1] as u64,
        out_group: rows * results,
        pieces: 1,
        piece: 0,
        factor: launcher.at(weights),
        seen: launcher.at(x),
        out: launcher.at(out),
        partial: launcher.scratch_at,
    };
    multiply(launcher, out.dtype(), By::Places, told)
}

pub(super) fn weight_gradient(
    launcher: &mut Launcher,
    convolution: &Convolution,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, gradient] = inputs else { unreachable!("planned for two inputs") };
    let (of_x, of_gradient) = (strides(x), strides(gradient));
    let [made, seen, height, width] = sizes(out);
    let slides = Slide::both(convolution, sizes(x), sizes(out));
    let slides =
        slides.ok_or(LaneError::Unsupported { operator: "convolution-weight-gradient" })?;
    let groups = u64::from(convolution.groups);
    let (rows, window) = (made / groups, height * width);
    let from = [of_gradient[0], of_gradient[2], of_gradient[3]];
    let columns = windows(slides, seen, of_x[1], [window as i64, width as i64, 1]);
    let told = parameters::Convolution {
        groups,
        rows,
        columns,
        depth: places(slides, sizes(gradient), of_x[0], from),
        size: slides.map(|slide| slide.pixels),
        strides: [of_x[2], of_x[3]],
        row: of_gradient[1] as u64,
        out_row: columns.count,
        group: rows * of_gradient[1] as u64,
        seen_group: seen * of_x[1] as u64,
        out_group: rows * columns.count,
        pieces: 1,
        piece: 0,
        factor: launcher.at(gradient),
        seen: launcher.at(x),
        out: launcher.at(out),
        partial: launcher.scratch_at,
    };
    multiply(launcher, out.dtype(), By::Windows, told)
}

/// Windows over gradients, which pixels of the images see. With strides not all pixels are seen by
/// the same pixels of windows: those that are have a product of their own.
pub(super) fn input_gradient(
    launcher: &mut Launcher,
    convolution: &Convolution,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [gradient, weights] = inputs else { unreachable!("planned for two inputs") };
    let slides = Slide::both(convolution, sizes(out), sizes(weights));
    let slides = slides.ok_or(LaneError::Unsupported { operator: "convolution-input-gradient" })?;
    let bytes = out.description().bytes();
    if bytes == 0 {
        return Ok(());
    }
    if slides.iter().any(|slide| (Phase::all(*slide).count() as u64) < slide.stride) {
        // Some pixels may not be seen at all.
        // SAFETY: the output is as long, and nothing else uses it yet.
        let cleared = unsafe { driver::clear(launcher.stream, launcher.at(out), bytes) };
        launcher.core.check("clearing a gradient", cleared)?;
    }
    for row in Phase::all(slides[0]) {
        for column in Phase::all(slides[1]) {
            let phases = [row, column];
            let told = phase_of(launcher, (slides, phases), convolution, (gradient, weights), out);
            multiply(launcher, out.dtype(), By::Places, told)?;
        }
    }
    Ok(())
}

/// What kernels are told of some pixels of the images.
fn phase_of(
    launcher: &Launcher,
    (slides, phases): ([Slide; 2], [Phase; 2]),
    convolution: &Convolution,
    (gradient, weights): (&Operand, &Operand),
    out: &Operand,
) -> parameters::Convolution {
    let (of_gradient, of_weights) = (strides(gradient), strides(weights));
    let ([made, seen, ..], [images, _, down, across]) = (sizes(weights), sizes(gradient));
    let groups = u64::from(convolution.groups);
    let (makers, [_, channels, rows, columns]) = (made / groups, sizes(out));
    let [counts, taps] = [phases.map(|phase| phase.count), phases.map(|phase| phase.taps)];
    let apart = phases.map(|phase| phase.apart as i64);
    let size = out.dtype().size();
    let first_tap = phases[0].tap * of_weights[2] as u64 + phases[1].tap * of_weights[3] as u64;
    let first_pixel = phases[0].pixel * columns + phases[1].pixel;
    parameters::Convolution {
        groups,
        rows: seen,
        columns: Side {
            count: images * counts[0] * counts[1],
            dims: counts,
            outer: of_gradient[0],
            steps: [1; 2],
            shifts: phases.map(|phase| phase.place),
            other: [
                (channels * rows * columns) as i64,
                (slides[0].stride * columns) as i64,
                slides[1].stride as i64,
            ],
        },
        depth: Side {
            count: makers * taps[0] * taps[1],
            dims: taps,
            outer: of_gradient[1],
            steps: phases.map(|phase| -(phase.earlier as i64)),
            shifts: [0; 2],
            other: [of_weights[0], apart[0] * of_weights[2], apart[1] * of_weights[3]],
        },
        size: [down, across],
        strides: [of_gradient[2], of_gradient[3]],
        row: of_weights[1] as u64,
        out_row: rows * columns,
        group: makers * of_weights[0] as u64,
        seen_group: makers * of_gradient[1] as u64,
        out_group: seen * rows * columns,
        pieces: 1,
        piece: 0,
        factor: launcher.at(weights) + first_tap * size,
        seen: launcher.at(gradient),
        out: launcher.at(out) + first_pixel * size,
        partial: launcher.scratch_at,
    }
}

/// Has the product computed by what suits its size.
fn multiply(
    launcher: &mut Launcher,
    dtype: Dtype,
    by: By,
    mut told: parameters::Convolution,
) -> Result<(), LaneError> {
    let (rows, columns, depth) = (told.rows, told.columns.count, told.depth.count);
    let elements = told.groups * rows * columns;
    if elements == 0 {
        return Ok(());
    }
    let work = elements.saturating_mul(depth);
    let name = |part: &str| format!("convolution_{}_{part}", suffix(dtype));
    // SAFETY, of all launches below: the kernels take this struct, for this element type. Side by
    // side, indices lead to each element of both inputs, whose layouts don't lead out of their
    // buffers, and beyond the images nothing is looked up; what comes out has room for each row and
    // column of each group, and the scratch memory for the pieces.
    if by == By::Places && rows <= FEW {
        let jobs = told.groups * rows.div_ceil(FEW_AT_ONCE) * columns;
        // SAFETY: as said.
        return unsafe {
            let shape = blocks_for(jobs);
            launcher.run_blocks((Family::Convolution, &name("few")), shape, work, &told)
        };
    }
    if by == By::Windows && rows.saturating_mul(columns) <= ALONE {
        let shape = (elements, threads_for(depth));
        // SAFETY: as said.
        return unsafe {
            launcher.run_blocks((Family::Convolution, &name("deep")), shape, work, &told)
        };
    }
    let tiles = told.groups * rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS);
    (told.pieces, told.piece) = pieces(tiles, depth, elements * computed_bytes(dtype));
    let part = if by == By::Places { "by_places" } else { "by_windows" };
    let shape = (tiles * told.pieces, MAX_THREADS);
    // SAFETY: as said.
    unsafe { launcher.run_blocks((Family::Convolution, &name(part)), shape, work, &told) }?;
    if told.pieces == 1 {
        return Ok(());
    }
    // SAFETY: as said.
    unsafe { launcher.run((Family::Convolution, &name("finish")), elements, &told) }
}

/// Bytes of an element as it is computed.
fn computed_bytes(dtype: Dtype) -> u64 {
    if dtype == Dtype::Fp64 { 8 } else { 4 }
}

/// In how many pieces of how many steps sums are cut, so that few tiles keep a device busy; one
/// piece of all results takes so many bytes.
fn pieces(tiles: u64, depth: u64, bytes: u64) -> (u64, u64) {
    let most = (ENOUGH_TILES / tiles).min(SCRATCH_BYTES / bytes).min(depth / SHORTEST).max(1);
    let piece = depth.div_ceil(most).next_multiple_of(DEPTH).max(DEPTH);
    (depth.div_ceil(piece).max(1), piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_cut_where_tiles_are_few_and_there_is_room() {
        let table = [
            ((1, 100, 400), (1, 112)),
            ((1, 1024, 400), (4, 256)),
            ((1, 1 << 20, 400), (256, 4096)),
            ((100, 1 << 20, 400), (2, 1 << 19)),
            ((300, 1 << 20, 400), (1, 1 << 20)),
            ((1, 1 << 20, SCRATCH_BYTES / 2), (2, 1 << 19)),
            ((1, 0, 400), (1, 16)),
        ];
        for ((tiles, depth, bytes), expected) in table {
            assert_eq!(pieces(tiles, depth, bytes), expected, "{tiles} {depth} {bytes}");
        }
    }
}
