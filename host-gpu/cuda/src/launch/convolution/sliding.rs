//! How weights slide over images along one dimension, and which pixels see which places backwards.

use quern_operators::Convolution;

/// Kernels count the rows and columns of padded images up to here.
const MOST_PIXELS: u64 = 1 << 30;

/// How weights slide over images, along rows or columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slide {
    /// Pixels of the images.
    pub(super) pixels: u64,
    /// Pixels of a window.
    pub(super) taps: u64,
    pub(super) stride: u64,
    pub(super) dilation: u64,
    /// Padding before the first pixel.
    pub(super) before: u64,
}

impl Slide {
    /// Of rows and of columns, if kernels can count that far.
    pub(super) fn both(
        convolution: &Convolution,
        images: [u64; 4],
        weights: [u64; 4],
    ) -> Option<[Self; 2]> {
        let sides = convolution.padding.sides();
        let slide = |axis: usize| Self {
            pixels: images[2 + axis],
            taps: weights[2 + axis],
            stride: convolution.strides[axis].into(),
            dilation: convolution.dilations[axis].into(),
            before: sides[axis].0,
        };
        let padded = |axis: usize| images[2 + axis] + sides[axis].0 + sides[axis].1;
        (padded(0).max(padded(1)) < MOST_PIXELS).then(|| [0, 1].map(slide))
    }
}

/// Pixels that the same pixels of windows see: of those a stride apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    /// The first of the images' pixels, and how many there are.
    pub(super) pixel: u64,
    pub(super) count: u64,
    /// The first of the windows' pixels, how many there are, and how far they are apart.
    pub(super) tap: u64,
    pub(super) taps: u64,
    pub(super) apart: u64,
    /// The place of the window by which the first of those sees the first of these, and how much
    /// earlier it is for the next of those. There may be no such place.
    pub(super) place: i64,
    pub(super) earlier: u64,
}

impl Phase {
    /// All that have pixels of both.
    pub(super) fn all(slide: Slide) -> impl Iterator<Item = Self> {
        let Slide { pixels, taps, stride, dilation, before } = slide;
        // After so many pixels of a window the same pixels of images are seen again.
        let apart = stride / greatest_divisor(stride, dilation);
        (0..apart.min(taps)).filter_map(move |tap| {
            let phase = tap * dilation % stride;
            // Pixel p is seen from place (p + before - tap × dilation) / stride.
            let begin = before.saturating_sub(phase).div_ceil(stride);
            let pixel = stride * begin + phase - before;
            (pixel < pixels).then(|| Self {
                pixel,
                count: (pixels - 1 - pixel) / stride + 1,
                tap,
                taps: (taps - 1 - tap) / apart + 1,
                apart,
                place: begin as i64 - ((tap * dilation - phase) / stride) as i64,
                earlier: apart * dilation / stride,
            })
        })
    }
}

fn greatest_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_every_pixel_and_what_sees_it_once() {
        let table = [
            (7, 3, 1, 1, 1),
            (7, 3, 2, 1, 1),
            (8, 3, 2, 2, 0),
            (9, 5, 3, 2, 4),
            (4, 2, 5, 1, 3),
            (6, 4, 4, 6, 2),
            (1, 1, 1, 1, 0),
        ];
        for (pixels, taps, stride, dilation, before) in table {
            let slide = Slide { pixels, taps, stride, dilation, before };
            let mut found = Vec::new();
            for phase in Phase::all(slide) {
                for (number, tap) in
                    (0..phase.count).flat_map(|n| (0..phase.taps).map(move |t| (n, t)))
                {
                    let place = phase.place + number as i64 - (tap * phase.earlier) as i64;
                    let pixel = phase.pixel + number * stride;
                    found.push((pixel, phase.tap + tap * phase.apart, place));
                }
            }
            found.sort_unstable();
            let mut expected = Vec::new();
            for (pixel, tap) in (0..pixels).flat_map(|p| (0..taps).map(move |t| (p, t))) {
                let at = (pixel + before) as i64 - (tap * dilation) as i64;
                if at.rem_euclid(stride as i64) == 0 {
                    expected.push((pixel, tap, at.div_euclid(stride as i64)));
                }
            }
            assert_eq!(found, expected, "{slide:?}");
        }
    }
}
