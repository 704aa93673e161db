//! What windows see of images, as a matrix: a line for each channel and pixel of the window, a
//! column for each place. Only a panel of it exists at a time. The gradient by images is lowered
//! in the same way: there windows go over gradients, between whose pixels strides leave gaps.

use std::ops::Range;

use bytemuck::Pod;

use crate::Operand;

/// Where windows look along one dimension: at `(place × step + tap × spread + shift) / divide`, if
/// that is a pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Pixels.
    size: usize,
    /// Pixels of a window.
    pub(super) taps: usize,
    /// Places of the window.
    pub(super) places: usize,
    step: isize,
    spread: isize,
    shift: isize,
    /// 1 unless `step` is.
    divide: isize,
}

/// How windows slide along one dimension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slide {
    /// Pixels of the images.
    pub(super) pixels: u64,
    /// Pixels of a window.
    pub(super) taps: u64,
    /// Places of the window.
    pub(super) places: u64,
    pub(super) stride: u32,
    pub(super) dilation: u32,
    /// Padding before the first pixel.
    pub(super) before: u64,
}

impl Axis {
    /// Windows over images.
    pub(super) fn forward(slide: Slide) -> Self {
        Self {
            size: slide.pixels as usize,
            taps: slide.taps as usize,
            places: slide.places as usize,
            step: slide.stride as isize,
            spread: slide.dilation as isize,
            shift: -(slide.before as isize),
            divide: 1,
        }
    }

    /// The places from which windows see a pixel, by that pixel.
    pub(super) fn backward(slide: Slide) -> Self {
        Self {
            size: slide.places as usize,
            taps: slide.taps as usize,
            places: slide.pixels as usize,
            step: 1,
            spread: -(slide.dilation as isize),
            shift: slide.before as isize,
            divide: slide.stride as isize,
        }
    }

    /// The pixel that a tap sees from a place.
    fn look(&self, place: usize, tap: usize) -> Option<usize> {
        let at = place as isize * self.step + tap as isize * self.spread + self.shift;
        let pixel = if self.divide == 1 { at } else { at.div_euclid(self.divide) };
        let exact = pixel * self.divide == at;
        usize::try_from(pixel).ok().filter(|pixel| exact && *pixel < self.size)
    }

    /// Those of some places from which a tap sees a pixel.
    fn seen(&self, tap: usize, places: &Range<usize>) -> Seen {
        let base = tap as isize * self.spread + self.shift;
        let none = Seen { first: 0, every: 1, count: 0, pixel: 0, step: 1 };
        let last = (self.size as isize - 1) * self.divide - base;
        if last < 0 {
            return none;
        }
        let from = if base < 0 { (-base + self.step - 1) / self.step } else { 0 };
        let mut from = from.max(places.start as isize);
        if self.divide > 1 {
            from += (-(from + base)).rem_euclid(self.divide);
        }
        let to = (last / self.step + 1).min(places.end as isize);
        if from >= to {
            return none;
        }
        Seen {
            first: from as usize - places.start,
            every: self.divide as usize,
            count: ((to - from - 1) / self.divide + 1) as usize,
            pixel: ((from * self.step + base) / self.divide) as usize,
            step: self.step as usize,
        }
    }
}

/// Of some places the `first` and each `every`-th from there see a pixel, and the next one `step`
/// pixels further.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first: usize,
    every: usize,
    count: usize,
    pixel: usize,
    step: usize,
}

/// Images where they lie.
pub(super) struct Images<'a, T> {
    elements: &'a [T],
    offset: usize,
    strides: [usize; 4],
}

impl<'a, T: Pod> Images<'a, T> {
    pub(super) fn new(bytes: &'a [u8], operand: &Operand) -> Self {
        let strides = operand.layout.strides().iter().map(|stride| *stride as usize);
        let strides: Vec<_> = strides.collect();
        Self {
            elements: bytemuck::cast_slice(bytes),
            offset: operand.layout.offset() as usize,
            strides: strides.try_into().expect("images have four dimensions"),
        }
    }
}

/// Neighbouring places in one row of one image.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) image: usize,
    row: usize,
    columns: Range<usize>,
}

impl Segment {
    /// Its places, counted row by row.
    pub(super) fn places(&self, lowering: &Lowering) -> Range<usize> {
        let begin = self.row * lowering.columns.places;
        begin + self.columns.start..begin + self.columns.end
    }
}

/// How windows see images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lowering {
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    /// Channels that a window sees.
    pub(super) channels: usize,
}

impl Lowering {
    /// Lines of the matrix.
    pub(super) fn depth(&self) -> usize {
        self.channels * self.taps()
    }

    pub(super) fn taps(&self) -> usize {
        self.rows.taps * self.columns.taps
    }

    pub(super) fn places(&self) -> usize {
        self.rows.places * self.columns.places
    }

    /// All places of some images, cut into tiles of at most so many.
    pub(super) fn tiles(&self, images: Range<usize>, width: usize) -> Tiles {
        Tiles { lowering: *self, width, images, row: 0, column: 0 }
    }

    /// Fills a panel: some lines, and the columns of a tile.
    pub(super) fn fill<T: Pod>(
        &self,
        images: &Images<T>,
        group: usize,
        lines: Range<usize>,
        tile: &[Segment],
        panel: &mut [T],
    ) {
        let width = tile.iter().map(|segment| segment.columns.len()).sum();
        let whole = 0..self.columns.places;
        for (line, mut out) in lines.zip(panel.chunks_exact_mut(width)) {
            let (channel, tap) = (line / self.taps(), line % self.taps());
            let (row_tap, column_tap) = (tap / self.columns.taps, tap % self.columns.taps);
            let channel = group * self.channels + channel;
            let seen_from_whole = self.columns.seen(column_tap, &whole);
            for segment in tile {
                let (now, later) = out.split_at_mut(segment.columns.len());
                out = later;
                let Some(row) = self.rows.look(segment.row, row_tap) else {
                    now.fill(T::zeroed());
                    continue;
                };
                let seen = match segment.columns == whole {
                    true => seen_from_whole,
                    false => self.columns.seen(column_tap, &segment.columns),
                };
                images.copy([segment.image, channel, row], seen, now);
            }
        }
    }
}

impl<T: Pod> Images<'_, T> {
    /// Pixels of a row to where they are seen, and 0 elsewhere.
    fn copy(&self, [image, channel, row]: [usize; 3], seen: Seen, out: &mut [T]) {
        let [by_image, by_channel, by_row, by_column] = self.strides;
        if seen.count == 0 {
            return out.fill(T::zeroed());
        }
        let begin = self.offset + image * by_image + channel * by_channel + row * by_row;
        let (at, stride) = (begin + seen.pixel * by_column, seen.step * by_column);
        let end = at + (seen.count - 1) * stride + 1;
        if seen.every == 1 {
            let (before, rest) = out.split_at_mut(seen.first);
            let (now, after) = rest.split_at_mut(seen.count);
            before.fill(T::zeroed());
            after.fill(T::zeroed());
            match stride {
                0 => now.fill(self.elements[at]),
                1 => now.copy_from_slice(&self.elements[at..end]),
                _ => {
                    let pixels = self.elements[at..end].iter().step_by(stride);
                    now.iter_mut().zip(pixels).for_each(|(now, pixel)| *now = *pixel);
                }
            }
            return;
        }
        out.fill(T::zeroed());
        let pixels = self.elements[at..end].iter().step_by(stride.max(1));
        let places = out[seen.first..].iter_mut().step_by(seen.every);
        places.zip(pixels.cycle().take(seen.count)).for_each(|(now, pixel)| *now = *pixel);
    }
}

/// Tiles of the places of some images: whole rows, or parts of one.
pub(super) struct Tiles {
    lowering: Lowering,
    width: usize,
    /// Those that are not done yet.
    images: Range<usize>,
    row: usize,
    column: usize,
}

impl Tiles {
    /// The next tile, and how many places it has.
    pub(super) fn next(&mut self, tile: &mut Vec<Segment>) -> Option<usize> {
        let (rows, columns) = (self.lowering.rows.places, self.lowering.columns.places);
        tile.clear();
        let mut width = 0;
        while !self.images.is_empty() {
            let end = columns.min(self.column + self.width);
            if width > 0 && width + end - self.column > self.width {
                break;
            }
            width += end - self.column;
            let (image, row) = (self.images.start, self.row);
            tile.push(Segment { image, row, columns: self.column..end });
            self.column = if end < columns { end } else { 0 };
            self.row += usize::from(self.column == 0);
            if self.row == rows {
                (self.row, self.images.start) = (0, self.images.start + 1);
            }
        }
        (width > 0).then_some(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every axis of small sizes, beside looking at places one by one.
    #[test]
    fn what_is_seen_from_some_places_is_what_each_of_them_sees() {
        let mut tried = 0;
        for (pixels, taps, before) in [(1, 1, 0), (5, 3, 1), (7, 2, 3), (2, 3, 4), (9, 4, 0)] {
            for (stride, dilation) in [(1, 1), (2, 1), (3, 2), (1, 3)] {
                let padded: u64 = pixels + 2 * before;
                let Some(room) = padded.checked_sub((taps - 1) * dilation + 1) else {
                    continue;
                };
                let places = room / stride + 1;
                let (stride, dilation) = (stride as u32, dilation as u32);
                let slide = Slide { pixels, taps, places, stride, dilation, before };
                for axis in [Axis::forward(slide), Axis::backward(slide)] {
                    for (tap, some) in (0..axis.taps).flat_map(|tap| {
                        let places = axis.places;
                        [0..places, 0..places / 2, places / 2..places].map(|some| (tap, some))
                    }) {
                        let seen = axis.seen(tap, &some);
                        let mut expected = vec![None; some.len()];
                        for number in 0..seen.count {
                            let pixel = seen.pixel + number * seen.step;
                            expected[seen.first + number * seen.every] = Some(pixel);
                        }
                        let found: Vec<_> = some.map(|place| axis.look(place, tap)).collect();
                        assert_eq!(found, expected, "{axis:?}, tap {tap}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 100, "{tried}");
    }
}
