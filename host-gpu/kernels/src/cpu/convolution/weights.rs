//! The gradient of a convolution by its weights: what windows see times gradients, summed up over
//! all images, always in the same order. Threads share out the lines of what windows see, so that
//! each pixel is lowered once.

use std::ops::Range;

use super::{
    PANEL_LINES, Panel, SUM_ROWS,
    lowering::{Axis, Images, Lowering},
    sizes, slides,
};
use crate::{
    LaneError,
    cpu::{
        element::Element,
        launch::{Launch, with_float},
        matmul::{Product, multiply},
        number::Number,
        source::Source,
        threads::Threads,
        vector,
    },
};
use quern_operators::Convolution;

/// Lines that a thread takes at a time: as many however many threads there are, since products of
/// few lines are summed up in another order.
const FEWEST_LINES: usize = 24;
const LINES: usize = 128;

pub(in crate::cpu) fn weight_gradient(
    launch: &Launch,
    convolution: &Convolution,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let (x, gradient) = (launch.description(0).shape, launch.description(1).shape);
    let weights = launch.output(0).shape;
    let [rows, columns] = slides(convolution, &x, &weights, &gradient);
    let [made, seen, ..] = sizes(&weights);
    let [images, ..] = sizes(&x);
    let (rows, columns) = (Axis::forward(rows), Axis::forward(columns));
    with_float!(launch.description(0).dtype, T => {
        Sums::<T> {
            x: Images::new(launch.bytes(0), launch.operand(0)),
            gradient: launch.source(1),
            images,
            lowering: Lowering { rows, columns, channels: seen },
            groups: convolution.groups as usize,
            made: made / convolution.groups as usize,
        }
        .compute(launch, bytemuck::cast_slice_mut(out))?;
    });
    Ok(())
}

struct Sums<'a, T> {
    x: Images<'a, T>,
    gradient: Source<'a, T>,
    images: usize,
    lowering: Lowering,
    groups: usize,
    /// Channels that each group makes.
    made: usize,
}

impl<T: Element> Sums<'_, T> {
    fn compute(&self, launch: &Launch, out: &mut [T]) -> Result<(), LaneError> {
        let (threads, depth) = (launch.threads, self.lowering.depth());
        if out.is_empty() {
            return Ok(());
        }
        // A row for each line of what windows see: so threads can share them out.
        let mut sums = launch.workspace::<T::Compute>(out.len())?;
        let few = (self.groups * depth).div_ceil(16).clamp(FEWEST_LINES, LINES);
        let cost = (self.images * self.lowering.places()).div_ceil(16);
        threads.rows(&mut sums[..], few * self.made, cost, |start, chunk| {
            self.lines_into(start * few, chunk);
        });
        self.turn(threads, &sums, out);
        Ok(())
    }

    /// Lines counted over all groups.
    fn lines_into(&self, start: usize, out: &mut [T::Compute]) {
        let depth = self.lowering.depth();
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let (group, first) = (at / depth, at % depth);
            let lines = first..depth.min(first + LINES).min(first + rest.len() / self.made);
            let (now, later) = rest.split_at_mut(lines.len() * self.made);
            self.sum_up(group, lines.clone(), now);
            (at, rest) = (at + lines.len(), later);
        }
    }

    /// Sums of some lines with all gradients of a group.
    fn sum_up(&self, group: usize, lines: Range<usize>, out: &mut [T::Compute]) {
        let (mut tile, mut seen, mut gradients) = (Vec::new(), Panel::new(), Panel::new());
        let mut tiles = self.lowering.tiles(0..self.images, PANEL_LINES);
        out.fill(T::Compute::ZERO);
        while let Some(width) = tiles.next(&mut tile) {
            seen.empty();
            let seen = seen.fill(lines.clone(), width, |lines, panel| {
                self.lowering.fill(&self.x, group, lines, &tile, panel);
            });
            for begin in (0..self.made).step_by(SUM_ROWS) {
                let channels = begin..self.made.min(begin + SUM_ROWS);
                gradients.empty();
                let gradient = gradients.fill(channels.clone(), width, |channels, panel| {
                    let mut columns = panel;
                    for channel in channels {
                        for segment in &tile {
                            let places = segment.places(&self.lowering);
                            let (now, later) = columns.split_at_mut(places.len());
                            let group = segment.image * self.groups + group;
                            let channel = group * self.made + channel;
                            let at = channel * self.lowering.places() + places.start;
                            self.gradient.copy(at, now);
                            columns = later;
                        }
                    }
                });
                let (elements, stride) = (&mut out[begin..], self.made);
                let product = Product { elements, stride, add: true, factor: T::Compute::ONE };
                multiply(&seen, &gradient.turned(), product, gemm::Parallelism::None);
            }
        }
    }

    /// Writes a row for each channel that is made.
    fn turn(&self, threads: &Threads, sums: &[T::Compute], out: &mut [T]) {
        let depth = self.lowering.depth();
        threads.rows(out, depth, 1, |start, chunk| {
            let mut row = Vec::new();
            for (number, out) in chunk.chunks_exact_mut(depth).enumerate() {
                let (group, channel) = ((start + number) / self.made, (start + number) % self.made);
                let first = group * depth * self.made + channel;
                for (block, out) in out.chunks_mut(PANEL_LINES).enumerate() {
                    let begin = first + block * PANEL_LINES * self.made;
                    let column = sums[begin..].iter().step_by(self.made).take(out.len());
                    row.clear();
                    row.extend(column.copied());
                    vector::convert(&row, out);
                }
            }
        });
    }
}
