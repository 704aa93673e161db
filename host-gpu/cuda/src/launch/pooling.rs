//! Windows of images that become one pixel each, and their gradients.

use std::ops::Range;

use quern_kernels::Operand;
use quern_operators::{LaneError, Pool};

use super::{Launcher, SCRATCH_BYTES, blocks_for, parameters::Pooling, suffix, threads_for};
use crate::{driver, source::Family};

/// Pixels of a window from which on a block computes it, not a thread.
const LARGE: u64 = 64;

/// Pixels that are looked at for one of a gradient, by all windows that cover it, from which on the
/// largest pixels are found first.
const MANY: u64 = 1024;

/// Windows of which the largest pixels are known at a time: a number of 8 bytes for each.
const LOCATED: u64 = 4096;
const _: () = assert!(8 * LOCATED <= SCRATCH_BYTES);

/// What kernels are told of images, and of windows over them.
fn told(pool: &Pool, images: &Operand, windows: &Operand) -> Pooling {
    let size = |operand: &Operand| -> [u64; 4] {
        operand.layout().shape().dims().try_into().expect("planned for four dimensions")
    };
    let ([count, channels, rows, columns], [.., down, across]) = (size(images), size(windows));
    Pooling {
        channels,
        image: [rows, columns],
        places: [down, across],
        window: pool.window.map(u64::from),
        strides: pool.strides.map(u64::from),
        before: pool.padding.sides().map(|(before, _)| before),
        count: count * channels * rows * columns,
        window_count: count * channels * down * across,
        ..Pooling::default()
    }
}

fn strides(operand: &Operand) -> [u64; 4] {
    operand.layout().strides().try_into().expect("planned for four dimensions")
}

/// `function` is `max_pool` or `average_pool`.
pub(super) fn pool(
    launcher: &mut Launcher,
    function: &str,
    pool: &Pool,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let mut told = told(pool, x, out);
    told.count = told.window_count;
    (told.x, told.x_strides) = (launcher.at(x), strides(x));
    told.out = launcher.at(out);
    let (pixels, work) = (told.window[0] * told.window[1], looked_at(&told));
    let (size, shape) = match pixels < LARGE {
        true => ("small", blocks_for(told.count)),
        false => ("large", (told.count, threads_for(pixels))),
    };
    let name = format!("{function}_{}_{size}", suffix(x.dtype()));
    // SAFETY: the kernel takes this struct, for this element type; windows are cut to the images,
    // whose layout does not lead out of its buffer, and the output has a pixel for each.
    unsafe { launcher.run_blocks((Family::Pooling, &name), shape, work, &told) }
}

/// Pixels of all windows.
fn looked_at(told: &Pooling) -> u64 {
    told.window_count.saturating_mul(told.window[0] * told.window[1])
}

pub(super) fn average_gradient(
    launcher: &mut Launcher,
    pool: &Pool,
    gradient: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let mut told = told(pool, out, gradient);
    (told.gradient, told.gradient_strides) = (launcher.at(gradient), strides(gradient));
    told.out = launcher.at(out);
    let name = format!("average_pool_gradient_{}", suffix(out.dtype()));
    let (shape, work) = (blocks_for(told.count), looked_at(&told).saturating_add(told.count));
    // SAFETY: the kernel takes this struct, for this element type; the gradient has an element for
    // each place of the windows, its layout does not lead out of its buffer, and the output has a
    // pixel for each of the images.
    unsafe { launcher.run_blocks((Family::Pooling, &name), shape, work, &told) }
}

pub(super) fn max_gradient(
    launcher: &mut Launcher,
    pool: &Pool,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, gradient] = inputs else { unreachable!("planned for two inputs") };
    let mut told = told(pool, x, gradient);
    (told.x, told.x_strides) = (launcher.at(x), strides(x));
    (told.gradient, told.gradient_strides) = (launcher.at(gradient), strides(gradient));
    (told.out, told.located) = (launcher.at(out), launcher.scratch_at);
    let covering = |axis: usize| told.window[axis].div_ceil(told.strides[axis]);
    let each = (covering(0) * covering(1)).saturating_mul(told.window[0] * told.window[1]);
    if each > MANY {
        return spread_largest(launcher, told, out);
    }
    let name = format!("max_pool_gradient_{}", suffix(x.dtype()));
    let (shape, work) = (blocks_for(told.count), told.count.saturating_mul(each));
    // SAFETY: as in `pool` and `average_gradient`.
    unsafe { launcher.run_blocks((Family::Pooling, &name), shape, work, &told) }
}

/// Of large windows that overlap, some at a time: finds their largest pixels, and adds the
/// gradients to these.
fn spread_largest(
    launcher: &mut Launcher,
    mut told: Pooling,
    out: &Operand,
) -> Result<(), LaneError> {
    let bytes = out.description().bytes();
    if bytes == 0 {
        return Ok(());
    }
    // SAFETY: the output is as long, and nothing else uses it yet.
    let cleared = unsafe { driver::clear(launcher.stream, told.out, bytes) };
    launcher.core.check("clearing a gradient", cleared)?;
    let name = |part: &str| format!("max_pool_{part}_{}", suffix(out.dtype()));
    let (locate, spread) = (name("locate"), name("spread"));
    let (windows, pixels) = (told.window_count, told.window[0] * told.window[1]);
    for first in (0..windows).step_by(LOCATED as usize) {
        let some = LOCATED.min(windows - first);
        let seen = seen_by(&told, first..first + some);
        (told.window_first, told.window_count) = (first, some);
        (told.first, told.count) = (seen.start, seen.end - seen.start);
        let (shape, work) = ((some, threads_for(pixels)), some.saturating_mul(pixels));
        // SAFETY: both kernels take this struct, for this element type; the scratch memory has room
        // for as many windows, and the pixels are some of the output's.
        unsafe {
            launcher.run_blocks((Family::Pooling, &locate), shape, work, &told)?;
            let work = told.count.saturating_add(work);
            launcher.run_blocks((Family::Pooling, &spread), blocks_for(told.count), work, &told)?;
        }
    }
    Ok(())
}

/// From the first to beyond the last pixel that some windows can see, of all images.
fn seen_by(told: &Pooling, windows: Range<u64>) -> Range<u64> {
    let plane = |window: u64| window / (told.places[0] * told.places[1]);
    let row = |window: u64| window / told.places[1] % told.places[0] * told.strides[0];
    let last = windows.end - 1;
    let first_row = row(windows.start).saturating_sub(told.before[0]);
    let end_row = (row(last) + told.window[0] - told.before[0]).min(told.image[0]);
    let pixel = |plane: u64, row: u64| (plane * told.image[0] + row) * told.image[1];
    pixel(plane(windows.start), first_row)..pixel(plane(last), end_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_see_the_rows_from_the_first_to_the_last_of_their_pixels() {
        let told = Pooling {
            image: [5, 4],
            places: [3, 2],
            window: [3, 3],
            strides: [2, 2],
            before: [1, 1],
            ..Pooling::default()
        };
        let table = [(0..1, 0..8), (1..2, 0..8), (2..4, 4..16), (5..6, 12..20), (5..7, 12..28)];
        for (windows, pixels) in table {
            assert_eq!(seen_by(&told, windows.clone()), pixels, "{windows:?}");
        }
    }
}
