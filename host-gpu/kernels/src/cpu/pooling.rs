//! Windows of images that become one pixel each, and their gradients. Threads share out images by
//! their channels, each of which is a plane.

use std::ops::Range;

use super::{
    dense::{self, Dense},
    element::Element,
    launch::{Launch, with_float},
    number::{CastTo, Number},
    vector::{self, BLOCK},
};
use crate::LaneError;
use quern_operators::{Pool, Shape};

/// Planes and how a window goes over them.
struct Windows<'a> {
    pool: &'a Pool,
    /// Rows and columns of a plane.
    image: [usize; 2],
    /// Places of the window.
    places: [usize; 2],
}

impl<'a> Windows<'a> {
    fn new(pool: &'a Pool, images: &Shape, results: &Shape) -> Self {
        let innermost = |shape: &Shape| {
            let [rows, columns] = shape.dims().last_chunk().expect("planned for four dimensions");
            [*rows as usize, *columns as usize]
        };
        Self { pool, image: innermost(images), places: innermost(results) }
    }

    /// Elements of a plane of images.
    fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Elements of a plane of results.
    fn results(&self) -> usize {
        self.places[0] * self.places[1]
    }

    /// Elements that are looked at for a result.
    fn cost(&self) -> usize {
        self.pool.window.iter().fold(1, |cost: usize, size| cost.saturating_mul(*size as usize))
    }

    /// Those pixels along a dimension that a window at a place covers; there is at least one.
    fn covered(&self, axis: usize, place: usize) -> Range<usize> {
        let before = self.pool.padding.sides()[axis].0 as usize;
        let begin = place * self.pool.strides[axis] as usize;
        let end = begin + self.pool.window[axis] as usize;
        begin.saturating_sub(before)..(end - before).min(self.image[axis])
    }

    /// Visits the windows of a plane, each with its place, its rows and its columns.
    fn each(&self, mut visit: impl FnMut(usize, Range<usize>, Range<usize>)) {
        for row in 0..self.places[0] {
            let rows = self.covered(0, row);
            for column in 0..self.places[1] {
                visit(row * self.places[1] + column, rows.clone(), self.covered(1, column));
            }
        }
    }

    /// Makes a pixel of each window of a plane.
    fn reduce<T: Element>(
        &self,
        plane: &[T::Compute],
        out: &mut [T],
        reduce: impl Fn(Covered<T::Compute>) -> T::Compute,
    ) {
        let (mut results, mut done) = (Vec::with_capacity(BLOCK.min(out.len())), 0);
        self.each(|_, rows, columns| {
            results.push(reduce(Covered { plane, width: self.image[1], rows, columns }));
            if results.len() == BLOCK || done + results.len() == out.len() {
                vector::convert(&results, &mut out[done..done + results.len()]);
                done += results.len();
                results.clear();
            }
        });
    }
}

/// The pixels of a plane that a window covers.
struct Covered<'a, C> {
    plane: &'a [C],
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<C: Number> Covered<'_, C> {
    fn rows(&self) -> impl Iterator<Item = &[C]> {
        let row = |row| &self.plane[row * self.width..][self.columns.clone()];
        self.rows.clone().map(row)
    }

    fn largest(&self) -> C {
        let pixels = self.rows().flatten();
        pixels.fold(C::LOWEST, |largest, pixel| largest.larger(*pixel))
    }

    /// The place of the first pixel that is the largest, or of the first NaN.
    fn place_of_largest(&self) -> usize {
        let mut best = (self.rows.start * self.width + self.columns.start, None);
        for row in self.rows.clone() {
            let begin = row * self.width;
            for place in begin + self.columns.start..begin + self.columns.end {
                let pixel = self.plane[place];
                let better = |found: C| !found.is_nan() && (pixel > found || pixel.is_nan());
                if best.1.is_none_or(better) {
                    best = (place, Some(pixel));
                }
            }
        }
        best.0
    }

    fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

pub(super) fn max(launch: &Launch, pool: &Pool, out: &mut [u8]) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        each_result::<T>(launch, pool, bytemuck::cast_slice_mut(out), |covered| covered.largest())?;
    });
    Ok(())
}

pub(super) fn average(launch: &Launch, pool: &Pool, out: &mut [u8]) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        each_result::<T>(launch, pool, bytemuck::cast_slice_mut(out), |covered| {
            let sum: f64 = covered.rows().flatten().map(|pixel| CastTo::<f64>::cast(*pixel)).sum();
            (sum / covered.count() as f64).cast()
        })?;
    });
    Ok(())
}

fn each_result<T: Element>(
    launch: &Launch,
    pool: &Pool,
    out: &mut [T],
    reduce: impl Fn(Covered<T::Compute>) -> T::Compute + Sync,
) -> Result<(), LaneError> {
    let windows = Windows::new(pool, &launch.description(0).shape, &launch.output(0).shape);
    let x = Dense::new::<T>(launch, 0)?;
    let (pixels, results) = (windows.pixels(), windows.results());
    launch.threads.rows(out, results, windows.cost(), |start, chunk| {
        for (number, out) in chunk.chunks_exact_mut(results).enumerate() {
            let plane = &x[(start + number) * pixels..][..pixels];
            windows.reduce(plane, out, &reduce);
        }
    });
    Ok(())
}

pub(super) fn max_gradient(launch: &Launch, pool: &Pool, out: &mut [u8]) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        let x = Dense::new::<T>(launch, 0)?;
        spread::<T>(launch, 1, pool, bytemuck::cast_slice_mut(out), |number, windows, of, out| {
            let plane = &x[number * out.len()..][..out.len()];
            windows.each(|place, rows, columns| {
                let covered = Covered { plane, width: windows.image[1], rows, columns };
                let out = &mut out[covered.place_of_largest()];
                *out = out.add(of[place]);
            });
        })?;
    });
    Ok(())
}

pub(super) fn average_gradient(
    launch: &Launch,
    pool: &Pool,
    out: &mut [u8],
) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        spread::<T>(launch, 0, pool, bytemuck::cast_slice_mut(out), |_, windows, of, out| {
            windows.each(|place, rows, columns| {
                let share = of[place].div(Number::of_count(rows.len() * columns.len()));
                for row in rows {
                    let begin = row * windows.image[1];
                    let out = &mut out[begin + columns.start..begin + columns.end];
                    out.iter_mut().for_each(|out| *out = out.add(share));
                }
            });
        })?;
    });
    Ok(())
}

/// Adds to the pixels of each plane, which begin as 0, what `add` makes of the plane of gradients;
/// it is also told the number of the plane.
fn spread<T: Element>(
    launch: &Launch,
    gradient: usize,
    pool: &Pool,
    out: &mut [T],
    add: impl Fn(usize, &Windows, &[T::Compute], &mut [T::Compute]) + Sync,
) -> Result<(), LaneError> {
    let results = launch.description(gradient).shape;
    let windows = Windows::new(pool, &launch.output(0).shape, &results);
    let of = Dense::new::<T>(launch, gradient)?;
    let (pixels, results) = (windows.pixels(), windows.results());
    let cost = windows.cost().saturating_mul(results).div_ceil(pixels);
    dense::compute(launch, out, |sums| {
        launch.threads.rows(sums, pixels, cost, |start, chunk| {
            chunk.fill(T::Compute::ZERO);
            for (number, sums) in chunk.chunks_exact_mut(pixels).enumerate() {
                let number = start + number;
                add(number, &windows, &of[number * results..][..results], sums);
            }
        });
    })
}
