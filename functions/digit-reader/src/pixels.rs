//! Brings a picture into the form that the model was trained on: 8×8 pixels, 0 (paper) to 16 (ink).

use std::ops::Range;

use crate::picture::Picture;

/// Pixels along each side of the model's input.
const SIDE: usize = 8;

/// The model's value for full ink.
const INK: f32 = 16.0;

/// The digit in a picture: its longer side fills the 8 pixels, paper fills up the shorter one, and
/// each pixel is the mean of what it covers. A picture with a bright border is dark ink on bright
/// paper; others are taken to be bright ink on dark paper.
pub(crate) fn of_digit(picture: &Picture) -> [f32; SIDE * SIDE] {
    let bright_paper = mean_of_border(picture) > 127.5;
    let columns = Axis::centred(picture.width, picture.height);
    let rows = Axis::centred(picture.height, picture.width);

    let mut ink = [0.0; SIDE * SIDE];
    for row in 0..SIDE {
        for y in rows.under(row) {
            let line = &picture.luminance[y * picture.width..][..picture.width];
            for column in 0..SIDE {
                let covered: f32 = columns
                    .under(column)
                    .map(|x| {
                        let brightness = f32::from(line[x]) / 255.0;
                        let share = if bright_paper { 1.0 - brightness } else { brightness };
                        share * columns.share(column, x)
                    })
                    .sum();
                ink[row * SIDE + column] += covered * rows.share(row, y);
            }
        }
    }
    // Rounding may lead a hair beyond full ink, which the model's range would refuse.
    ink.map(|share| (share * INK).clamp(0.0, INK))
}

/// Mean luminance of the outermost pixels, 0 to 255.
fn mean_of_border(picture: &Picture) -> f64 {
    let (mut sum, mut count) = (0, 0);
    for (y, line) in picture.luminance.chunks(picture.width).enumerate() {
        let whole_line = y == 0 || y == picture.height - 1;
        let step = if whole_line { 1 } else { (picture.width - 1).max(1) };
        for luminance in line.iter().step_by(step) {
            sum += u64::from(*luminance);
            count += 1;
        }
    }
    sum as f64 / f64::from(count)
}

/// One axis of the picture, laid under the 8 pixels of the model's input.
struct Axis {
    /// Pixels of the picture along it.
    length: usize,
    /// Paper before its first pixel, in the picture's pixels.
    margin: f32,
    /// The picture's pixels under one pixel of the input.
    scale: f32,
}

impl Axis {
    fn centred(length: usize, other: usize) -> Self {
        let side = length.max(other) as f32;
        Self { length, margin: (side - length as f32) / 2.0, scale: side / SIDE as f32 }
    }

    /// The picture's pixels that lie under one of the input's, wholly or in part.
    fn under(&self, cell: usize) -> Range<usize> {
        let start = (cell as f32 * self.scale - self.margin).floor().max(0.0) as usize;
        let end = ((cell + 1) as f32 * self.scale - self.margin).ceil().max(0.0) as usize;
        start.min(self.length)..end.min(self.length)
    }

    /// The part of the input's pixel that the picture's covers.
    fn share(&self, cell: usize, pixel: usize) -> f32 {
        let (start, end) = (cell as f32 * self.scale, (cell + 1) as f32 * self.scale);
        let at = pixel as f32 + self.margin;
        ((at + 1.0).min(end) - at.max(start)).max(0.0) / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, ink: impl Fn(usize, usize) -> f32) -> Picture {
        let luminance = (0..width * height)
            .map(|at| (255.0 * ink(at % width, at / width)).round() as u8)
            .collect();
        Picture { width, height, luminance }
    }

    /// An arbitrary pattern that leaves the border dark.
    fn pattern(column: usize, row: usize) -> f32 {
        if (1..7).contains(&column) && (1..7).contains(&row) {
            ((column * 7 + row * 3) % 17) as f32 / 16.0
        } else {
            0.0
        }
    }

    fn assert_close(actual: &[f32], expected: &[f32], case: &str) {
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            assert!((actual - expected).abs() < 0.05, "{case}: {index}: {actual} {expected}");
        }
    }

    #[test]
    fn size_and_polarity_make_no_difference() {
        let expected: Vec<_> = (0..64).map(|at| 16.0 * pattern(at % 8, at / 8)).collect();
        for factor in [1, 2, 3, 16] {
            let size = 8 * factor;
            let bright = picture(size, size, |x, y| pattern(x / factor, y / factor));
            let dark = picture(size, size, |x, y| 1.0 - pattern(x / factor, y / factor));
            assert_close(&of_digit(&bright), &expected, &format!("bright, {factor} times"));
            assert_close(&of_digit(&dark), &expected, &format!("dark, {factor} times"));
        }
    }

    #[test]
    fn ink_is_kept_at_sizes_that_do_not_divide() {
        for (width, height) in [(28, 28), (5, 5), (33, 17), (9, 64)] {
            let inside =
                |x: usize, y: usize| f32::from(x > 0 && x < width - 1 && y > 0 && y < height - 1);
            let shares: f32 = of_digit(&picture(width, height, inside)).iter().sum();
            let expected = ((width - 2) * (height - 2)) as f32 / (width.max(height).pow(2)) as f32;
            let actual = shares / (64.0 * 16.0);
            assert!((actual - expected).abs() < 1e-3, "{width}×{height}: {actual} {expected}");
        }
    }

    #[test]
    fn degenerate_pictures_stay_in_range() {
        for (width, height) in [(1, 1), (1, 3000), (3000, 1), (2, 2)] {
            for brightness in [0.0, 1.0] {
                let pixels = of_digit(&picture(width, height, |_, _| brightness));
                assert!(pixels.iter().all(|pixel| (0.0..=16.0).contains(pixel)));
            }
        }
    }
}
