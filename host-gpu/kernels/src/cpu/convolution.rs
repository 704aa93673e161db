//! Convolutions as products of matrices: weights times what windows see. Images are never lowered
//! as a whole, but in panels that stay in a processor's cache, so that beside its inputs and
//! outputs a convolution needs a few hundred kilobytes for each thread, and the gradient by images
//! a copy of the weights.

mod lowering;
mod weights;

use std::ops::Range;

use super::{
    dense::Dense,
    element::Element,
    launch::{Launch, with_float},
    matmul::{Matrix, Product, multiply},
    number::Number,
    threads::Threads,
    vector,
};
use crate::LaneError;
use lowering::{Axis, Images, Lowering, Segment, Slide};
use quern_operators::{Convolution, Shape};

pub(super) use weights::weight_gradient;

/// Columns and lines of a panel, and rows of a result that are summed up beside it.
const PANEL_COLUMNS: usize = 256;
const PANEL_LINES: usize = 512;
const SUM_ROWS: usize = 256;

/// Channels for which it pays that another thread looks at the same pixels.
const FEWEST_CHANNELS: usize = 8;

pub(super) fn forward(
    launch: &Launch,
    convolution: &Convolution,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let (x, weights) = (launch.description(0).shape, launch.description(1).shape);
    let [rows, columns] = slides(convolution, &x, &weights, &launch.output(0).shape);
    let [made, seen, ..] = sizes(&weights);
    let groups = convolution.groups as usize;
    let (rows, columns) = (Axis::forward(rows), Axis::forward(columns));
    with_float!(launch.description(0).dtype, T => {
        Products::<T> {
            images: Images::new(launch.bytes(0), launch.operand(0)),
            weights: &Dense::new::<T>(launch, 1)?,
            lowering: Lowering { rows, columns, channels: seen },
            groups,
            made: made / groups,
        }
        .compute(launch.threads, bytemuck::cast_slice_mut(out));
    });
    Ok(())
}

pub(super) fn input_gradient(
    launch: &Launch,
    convolution: &Convolution,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let (gradient, weights) = (launch.description(0).shape, launch.description(1).shape);
    let [rows, columns] = slides(convolution, &launch.output(0).shape, &weights, &gradient);
    let [made, seen, ..] = sizes(&weights);
    let groups = convolution.groups as usize;
    let (rows, columns) = (Axis::backward(rows), Axis::backward(columns));
    let lowering = Lowering { rows, columns, channels: made / groups };
    with_float!(launch.description(0).dtype, T => {
        let weights = Dense::new::<T>(launch, 1)?;
        let mut turned = launch.workspace(weights.len())?;
        turn(launch.threads, &weights, &mut turned, [seen, lowering.channels, lowering.taps()]);
        Products::<T> {
            images: Images::new(launch.bytes(0), launch.operand(0)),
            weights: &turned,
            lowering,
            groups,
            made: seen,
        }
        .compute(launch.threads, bytemuck::cast_slice_mut(out));
    });
    Ok(())
}

/// Weights by the channels they see, in each group, instead of those they make.
fn turn<C: Number>(threads: &Threads, weights: &[C], turned: &mut [C], sizes: [usize; 3]) {
    let [seen, made, taps] = sizes;
    if turned.is_empty() {
        return;
    }
    threads.rows(turned, made * taps, 1, |start, chunk| {
        for (number, row) in chunk.chunks_mut(made * taps).enumerate() {
            let (group, channel) = ((start + number) / seen, (start + number) % seen);
            for (maker, out) in row.chunks_mut(taps).enumerate() {
                let at = ((group * made + maker) * seen + channel) * taps;
                out.copy_from_slice(&weights[at..at + taps]);
            }
        }
    });
}

fn sizes(shape: &Shape) -> [usize; 4] {
    let sizes: Vec<_> = shape.dims().iter().map(|dim| *dim as usize).collect();
    sizes.try_into().expect("planned for four dimensions")
}

/// How weights slide over images, along rows and columns.
fn slides(
    convolution: &Convolution,
    images: &Shape,
    weights: &Shape,
    results: &Shape,
) -> [Slide; 2] {
    let sides = convolution.padding.sides();
    [0, 1].map(|axis| Slide {
        pixels: images.dims()[2 + axis],
        taps: weights.dims()[2 + axis],
        places: results.dims()[2 + axis],
        stride: convolution.strides[axis],
        dilation: convolution.dilations[axis],
        before: sides[axis].0,
    })
}

/// For each image, group and channel that is made, products of weights with what windows see.
struct Products<'a, T: Element> {
    images: Images<'a, T>,
    /// Rows for all channels of all groups, each as long as a window.
    weights: &'a [T::Compute],
    lowering: Lowering,
    groups: usize,
    /// Channels that each group makes.
    made: usize,
}

/// Sums for neighbouring places of one channel of one image.
struct Sums<'a, C> {
    image: usize,
    /// Counted in its group.
    channel: usize,
    place: usize,
    sums: &'a [C],
}

impl<T: Element> Products<'_, T> {
    /// Threads share out images, or channels where images are few.
    fn compute(&self, threads: &Threads, out: &mut [T]) {
        let (places, depth) = (self.lowering.places(), self.lowering.depth());
        let image = self.groups * self.made * places;
        if out.is_empty() {
            return;
        }
        if depth == 0 {
            return out.fill(T::zeroed());
        }
        let (count, cost) = (out.len() / image, depth / 16);
        if count >= threads.count() {
            let few = PANEL_COLUMNS.div_ceil(places);
            return threads.rows(out, few * image, cost, |start, chunk| {
                for (number, out) in chunk.chunks_mut(few * image).enumerate() {
                    let first = (start + number) * few;
                    self.images_into(first..first + out.len() / image, out);
                }
            });
        }
        let parts = threads.count().div_ceil(count * self.groups);
        let parts = parts.min(self.made / FEWEST_CHANNELS).max(1);
        let few = self.made.div_ceil(parts);
        threads.rows(out, few * places, cost, |start, chunk| {
            self.channels_into(start * few, chunk);
        });
    }

    fn images_into(&self, images: Range<usize>, out: &mut [T]) {
        let places = self.lowering.places();
        for group in 0..self.groups {
            self.each(images.clone(), group, 0..self.made, |part| {
                let image = (part.image - images.start) * self.groups + group;
                let at = (image * self.made + part.channel) * places + part.place;
                vector::convert(part.sums, &mut out[at..at + part.sums.len()]);
            });
        }
    }

    /// Channels counted over all groups of all images.
    fn channels_into(&self, start: usize, out: &mut [T]) {
        let places = self.lowering.places();
        let (mut at, end) = (start, start + out.len() / places);
        while at < end {
            let (group, first) = (at / self.made, at % self.made);
            let channels = first..self.made.min(first + end - at);
            let image = group / self.groups;
            self.each(image..image + 1, group % self.groups, channels.clone(), |part| {
                let at = (at - start + part.channel - first) * places + part.place;
                vector::convert(part.sums, &mut out[at..at + part.sums.len()]);
            });
            at += channels.len();
        }
    }

    /// Computes some channels of some images, tile by tile.
    fn each(
        &self,
        images: Range<usize>,
        group: usize,
        channels: Range<usize>,
        mut write: impl FnMut(Sums<T::Compute>),
    ) {
        let (mut tile, mut panel, mut sums) = (Vec::new(), Panel::new(), Vec::new());
        let mut tiles = self.lowering.tiles(images, PANEL_COLUMNS);
        while let Some(width) = tiles.next(&mut tile) {
            panel.empty();
            for begin in channels.clone().step_by(SUM_ROWS) {
                let rows = begin..channels.end.min(begin + SUM_ROWS);
                sums.resize(rows.len() * width, T::Compute::ZERO);
                self.sum_up(group, rows.clone(), (&tile, width), &mut panel, &mut sums);
                for (channel, sums) in rows.zip(sums.chunks_exact(width)) {
                    self.cut(&tile, channel, sums, &mut write);
                }
            }
        }
    }

    /// Sums for some channels and the places of a tile.
    fn sum_up(
        &self,
        group: usize,
        rows: Range<usize>,
        (tile, width): (&[Segment], usize),
        panel: &mut Panel<T>,
        sums: &mut [T::Compute],
    ) {
        let depth = self.lowering.depth();
        for begin in (0..depth).step_by(PANEL_LINES) {
            let lines = begin..depth.min(begin + PANEL_LINES);
            let first = (group * self.made + rows.start) * depth + begin;
            let dims = [rows.len(), lines.len()];
            let weights = Matrix::new(&self.weights[first..], dims, [depth, 1]);
            let seen = panel.fill(lines, width, |lines, panel| {
                self.lowering.fill(&self.images, group, lines, tile, panel);
            });
            let (add, factor) = (begin > 0, T::Compute::ONE);
            let product = Product { elements: sums, stride: width, add, factor };
            multiply(&weights, &seen, product, gemm::Parallelism::None);
        }
    }

    /// Hands on the sums of a tile, image by image.
    fn cut(
        &self,
        tile: &[Segment],
        channel: usize,
        sums: &[T::Compute],
        write: &mut impl FnMut(Sums<T::Compute>),
    ) {
        let mut at = 0;
        for segments in tile.chunk_by(|left, right| left.image == right.image) {
            let place = segments[0].places(&self.lowering).start;
            let length: usize = segments.iter().map(|part| part.places(&self.lowering).len()).sum();
            let sums = &sums[at..at + length];
            write(Sums { image: segments[0].image, channel, place, sums });
            at += length;
        }
    }
}

/// A part of what windows see, to compute with.
struct Panel<T: Element> {
    raw: Vec<T>,
    wide: Vec<T::Compute>,
    /// The lines that are in it.
    lines: Range<usize>,
}

impl<T: Element> Panel<T> {
    fn new() -> Self {
        Self { raw: Vec::new(), wide: Vec::new(), lines: 0..0 }
    }

    /// What is in it belongs to another tile from now on.
    fn empty(&mut self) {
        self.lines = 0..0;
    }

    /// The lines, filled in unless they are there.
    fn fill(
        &mut self,
        lines: Range<usize>,
        width: usize,
        fill: impl FnOnce(Range<usize>, &mut [T]),
    ) -> Matrix<'_, T::Compute> {
        let (count, size) = (lines.len(), lines.len() * width);
        if self.lines != lines {
            self.lines = lines.clone();
            self.raw.resize(size, T::zeroed());
            fill(lines, &mut self.raw);
            if !T::DIRECT {
                self.wide.resize(size, T::Compute::ZERO);
                vector::convert(&self.raw, &mut self.wide);
            }
        }
        let seen = if T::DIRECT { bytemuck::cast_slice(&self.raw) } else { &self.wide[..] };
        Matrix::new(seen, [count, width], [width, 1])
    }
}
