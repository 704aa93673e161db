//! Distances between rows of matrices, from differences rather than products, so that rows that
//! are close to each other lose no precision: some rows beside many others, which are turned so
//! that a vector holds one element of each.

use super::{
    element::Element,
    float::Float,
    launch::{Launch, with_float},
    number::{CastTo, Number},
    source::{Scratch, Source},
    threads::Threads,
    vector::{self, ABREAST, Fold, Term},
};
use quern_operators::Metric;

/// Rows of the left matrix at a time.
const ROWS: usize = 32;

/// Rows of the right matrix side by side.
const SIDE: usize = 64;

/// Elements of rows before what they add up to is added to a total.
const DEPTH: usize = 256;

pub(super) fn distances(launch: &Launch, metric: Metric, out: &mut [u8]) {
    with_float!(launch.description(0).dtype, T => {
        let rows = Rows::<T>::new(launch, metric);
        rows.compare(launch.threads, bytemuck::cast_slice_mut(out));
    });
}

/// The rows of both matrices, of one pair of matrices after the other.
struct Rows<'a, T> {
    left: Source<'a, T>,
    right: Source<'a, T>,
    rows: usize,
    columns: usize,
    width: usize,
    metric: Metric,
}

/// What one thread computes with.
struct Room<T: Element> {
    /// An element of each row of a side, then the next one of each.
    panel: Vec<[T::Compute; SIDE]>,
    totals: Vec<[f64; SIDE]>,
    left: [Scratch<T>; ABREAST],
    right: Scratch<T>,
}

impl<'a, T: Element<Compute: Float + CastTo<f64>>> Rows<'a, T>
where
    f64: CastTo<T::Compute>,
{
    fn new(launch: &Launch<'a>, metric: Metric) -> Self {
        let dims = |input| {
            let shape = launch.description(input).shape;
            let [rows, width] = shape.dims().last_chunk().expect("a matrix has two dimensions");
            (*rows as usize, *width as usize)
        };
        let ((rows, width), (columns, _)) = (dims(0), dims(1));
        Self { left: launch.source(0), right: launch.source(1), rows, columns, width, metric }
    }

    /// Writes the distances of each row of the left matrix.
    fn compare(&self, threads: &Threads, out: &mut [T]) {
        if out.is_empty() {
            return;
        }
        threads.rows(out, ROWS * self.columns, self.width / 4, |first, mut chunk| {
            let mut room = Room {
                panel: vec![[T::Compute::ZERO; SIDE]; DEPTH],
                totals: vec![[0.0; SIDE]; ROWS],
                left: std::array::from_fn(|_| Scratch::new()),
                right: Scratch::new(),
            };
            let mut row = first * ROWS;
            while !chunk.is_empty() {
                let left = ROWS.min(self.rows - row % self.rows).min(chunk.len() / self.columns);
                let (now, later) = chunk.split_at_mut(left * self.columns);
                for begin in (0..self.columns).step_by(SIDE) {
                    self.compare_side(row, begin, now, &mut room);
                }
                chunk = later;
                row += left;
            }
        });
    }

    /// Some rows of the left matrix with some of the right one, from `column` on.
    fn compare_side(&self, row: usize, column: usize, out: &mut [T], room: &mut Room<T>) {
        let first = row / self.rows * self.columns + column;
        let side = (self.columns - column).min(SIDE);
        let rows = out.len() / self.columns;
        room.totals.fill([0.0; SIDE]);
        let (mut left_squares, mut right_squares) = ([0.0; ROWS], [0.0; SIDE]);
        for begin in (0..self.width).step_by(DEPTH) {
            let depth = (self.width - begin).min(DEPTH);
            for lane in 0..side {
                let at = (first + lane) * self.width + begin;
                let x = self.right.load(at, depth, &mut room.right);
                room.panel.iter_mut().zip(x).for_each(|(place, x)| place[lane] = *x);
                if self.metric == Metric::Cosine {
                    right_squares[lane] += vector::fold(x, SumOfSquares).cast();
                }
            }
            let panel = &room.panel[..depth];
            for (group, totals) in room.totals[..rows].chunks_mut(ABREAST).enumerate() {
                let mut number = group * ABREAST;
                let x = room.left.each_mut().map(|scratch| {
                    // Where there are fewer rows, the last one is there again.
                    let at = (row + number.min(rows - 1)) * self.width + begin;
                    number += 1;
                    self.left.load(at, depth, scratch)
                });
                for (totals, sums) in totals.iter_mut().zip(self.sums(x, panel)) {
                    totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.cast());
                }
                if self.metric == Metric::Cosine {
                    let squares = left_squares[group * ABREAST..rows].iter_mut();
                    squares
                        .zip(x)
                        .for_each(|(square, x)| *square += vector::fold(x, SumOfSquares).cast());
                }
            }
        }
        for (number, out) in out.chunks_mut(self.columns).enumerate() {
            let totals = room.totals[number].iter().zip(right_squares);
            for (out, (total, right)) in out[column..column + side].iter_mut().zip(totals) {
                let distance = self.distance(*total, [left_squares[number], right]);
                *out = T::narrow(distance.cast());
            }
        }
    }

    /// What the elements of some rows and those of a panel add up to.
    fn sums(
        &self,
        left: [&[T::Compute]; ABREAST],
        panel: &[[T::Compute; SIDE]],
    ) -> [[T::Compute; SIDE]; ABREAST] {
        match self.metric {
            Metric::Euclidean | Metric::SquaredEuclidean => {
                vector::sums(left, panel, SquaredDifference)
            }
            Metric::Manhattan => vector::sums(left, panel, Difference),
            Metric::Cosine => vector::sums(left, panel, Product),
        }
    }

    /// The distance of two rows by what they add up to, and by their squares.
    fn distance(&self, total: f64, squares: [f64; 2]) -> f64 {
        match self.metric {
            Metric::Euclidean => total.sqrt(),
            Metric::SquaredEuclidean | Metric::Manhattan => total,
            Metric::Cosine if squares.contains(&0.0) => 1.0,
            Metric::Cosine => 1.0 - total / (squares[0].sqrt() * squares[1].sqrt()),
        }
    }
}

/// What a pair of elements adds to a distance.
macro_rules! terms {
    ($($name:ident($sum:ident, $left:ident, $right:ident) = $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;

        impl<C: Number> Term<C> for $name {
            #[inline(always)]
            fn add_to(self, $sum: C, $left: C, $right: C) -> C {
                $body
            }
        }
    )*};
}

terms! {
    Difference(sum, left, right) = sum.add(left.sub(right).abs());
    SquaredDifference(sum, left, right) = left.sub(right).mul_add(left.sub(right), sum);
    Product(sum, left, right) = left.mul_add(right, sum);
}

#[derive(Clone, Copy)]
struct SumOfSquares;

impl<C: Number> Fold<C> for SumOfSquares {
    type Lane = C;

    fn empty(self) -> C {
        C::ZERO
    }

    #[inline(always)]
    fn step(self, sum: C, x: C) -> C {
        sum.add(x.mul(x))
    }

    #[inline(always)]
    fn join(self, left: C, right: C) -> C {
        left.add(right)
    }
}
