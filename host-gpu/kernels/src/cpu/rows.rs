//! Kernels of whole rows: a row is gone through several times, block by block, so that its length
//! has no limit and its intermediate results need no memory. Those of short ones are kept, though.

use super::{
    attention::{ExpFrom, Scaled},
    dense::Dense,
    element::Element,
    float::Float,
    launch::{Launch, with_float},
    number::{CastTo, Number},
    reduction::{AddUp, Largest},
    source::Source,
    vector::{self, BLOCK, Fold, Function, Function2, Function3},
};
use crate::LaneError;
use quern_operators::Norm;

/// Elements of a row whose exponentials are kept, for as long as that takes.
const KEPT: usize = 1 << 14;

/// Shares of the exponentials of each row, or their logarithms.
pub(super) fn softmax(launch: &Launch, log: bool, out: &mut [u8]) {
    with_float!(launch.description(0).dtype, T => {
        each_row::<T>(launch, bytemuck::cast_slice_mut(out), |row, out| {
            let max = row.fold(Largest, |left, right| left.larger(right));
            match log {
                false => row.write_shares(out, max),
                true => row.write_logs(out, max),
            }
        });
    });
}

/// Mean 0 and variance 1 in each row, then a scale and a bias.
pub(super) fn layer_norm(launch: &Launch, norm: &Norm, out: &mut [u8]) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        let (scale, bias) = (Dense::new::<T>(launch, 1)?, Dense::new::<T>(launch, 2)?);
        each_row::<T>(launch, bytemuck::cast_slice_mut(out), |row, out| {
            let mean = row.total(AddUp).div(Number::of_count(row.length)).cast();
            let variance = row.total(SquareFrom { mean }).div(Number::of_count(row.length));
            let factor = (variance + norm.epsilon).sqrt().recip().cast();
            row.write_weighted(out, [&scale, &bias], Centre { mean, factor });
        });
    });
    Ok(())
}

/// Root mean square 1 in each row, then a scale.
pub(super) fn rms_norm(launch: &Launch, norm: &Norm, out: &mut [u8]) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        let scale = Dense::new::<T>(launch, 1)?;
        each_row::<T>(launch, bytemuck::cast_slice_mut(out), |row, out| {
            let mean = Number::ZERO;
            let square = row.total(SquareFrom { mean }).div(Number::of_count(row.length));
            let factor = (square + norm.epsilon).sqrt().recip().cast();
            row.write_scaled(out, &scale, Centre { mean, factor });
        });
    });
    Ok(())
}

/// Runs on each row of the first input with its place in `out`.
fn each_row<T: Element>(
    launch: &Launch,
    out: &mut [T],
    run: impl Fn(&mut Row<T>, &mut [T]) + Sync,
) {
    let length = *launch.description(0).shape.dims().last().expect("rows have a length") as usize;
    if out.is_empty() {
        return;
    }
    let source = launch.source::<T>(0);
    launch.threads.rows(out, length, 4, |start, chunk| {
        let mut row = Row::new(&source, length);
        for (number, out) in chunk.chunks_mut(length).enumerate() {
            row.turn_to(start + number);
            run(&mut row, out);
        }
    });
}

/// One row, and room to compute with it.
pub(super) struct Row<'a, T: Element> {
    source: &'a Source<'a, T>,
    begin: usize,
    length: usize,
    room: Vec<T>,
    wide: Vec<T::Compute>,
}

impl<'a, T: Element> Row<'a, T> {
    /// A row of a source, none yet.
    pub(super) fn new(source: &'a Source<'a, T>, length: usize) -> Self {
        Self { source, begin: 0, length, room: Vec::new(), wide: Vec::new() }
    }

    /// Turns to another row.
    pub(super) fn turn_to(&mut self, number: usize) {
        self.begin = number * self.length;
    }

    /// Its elements from a place on, a block at most.
    fn block(&mut self, at: usize) -> &[T] {
        let length = (self.length - at).min(BLOCK);
        self.source.elements(self.begin + at, length, &mut self.room)
    }

    /// What becomes of all its elements.
    pub(super) fn fold<F: Fold<T::Compute>>(
        &mut self,
        fold: F,
        join: impl Fn(F::Lane, F::Lane) -> F::Lane,
    ) -> F::Lane {
        let mut all = fold.empty();
        for at in (0..self.length).step_by(BLOCK) {
            all = join(all, vector::fold(self.block(at), fold));
        }
        all
    }

    /// The sum of something of its elements, precise however many they are.
    pub(super) fn total<F: Fold<T::Compute, Lane = T::Compute>>(&mut self, fold: F) -> f64
    where
        T::Compute: CastTo<f64>,
    {
        let mut total = 0.0;
        for at in (0..self.length).step_by(BLOCK) {
            total += vector::fold(self.block(at), fold).cast();
        }
        total
    }

    /// One of its elements.
    pub(super) fn get(&mut self, place: usize) -> T::Compute {
        self.source.get(self.begin + place).widen()
    }

    /// Writes what is made of each block and where it begins.
    fn write_blocks(&mut self, out: &mut [T], make: impl Fn(usize, &[T], &mut [T])) {
        for (number, out) in out.chunks_mut(BLOCK).enumerate() {
            make(number * BLOCK, self.block(number * BLOCK), out);
        }
    }

    /// Writes a function of each element.
    pub(super) fn write(
        &mut self,
        out: &mut [T],
        function: impl Function<T::Compute, Out = T::Compute>,
    ) {
        self.write_blocks(out, |_, x, out| vector::map(x, out, function));
    }

    /// Writes a function of each element and the scale of its place.
    fn write_scaled(
        &mut self,
        out: &mut [T],
        scale: &[T::Compute],
        function: impl Function2<T::Compute, Out = T::Compute>,
    ) {
        self.write_blocks(out, |at, x, out| {
            vector::map2(x, &scale[at..at + out.len()], out, function);
        });
    }

    /// Writes a function of each element and both weights of its place.
    fn write_weighted(
        &mut self,
        out: &mut [T],
        [scale, bias]: [&[T::Compute]; 2],
        function: impl Function3<T::Compute, Out = T::Compute>,
    ) {
        self.write_blocks(out, |at, x, out| {
            let weights = [scale, bias].map(|weights| &weights[at..at + out.len()]);
            vector::map3(x, weights, out, function);
        });
    }
}

impl<T: Element<Compute: Float + CastTo<f64>>> Row<'_, T>
where
    f64: CastTo<T::Compute>,
{
    /// Writes the logarithm of the share of each element's exponential.
    fn write_logs(&mut self, out: &mut [T], max: T::Compute) {
        let sum: T::Compute = self.total(SumOfExp { max }).cast();
        self.write(out, LogShare { max, log: sum.ln() });
    }

    /// Writes the share of each element's exponential. Where there is room for them,
    /// exponentials are computed once.
    fn write_shares(&mut self, out: &mut [T], max: T::Compute) {
        if T::DIRECT {
            let out = bytemuck::cast_slice_mut(out);
            let scale = self.write_exponentials(out, max);
            vector::replace(out, Scaled(scale));
        } else if self.length <= KEPT {
            let mut wide = std::mem::take(&mut self.wide);
            wide.resize(self.length, T::Compute::ZERO);
            let scale = self.write_exponentials(&mut wide, max);
            vector::map(&wide, out, Scaled(scale));
            self.wide = wide;
        } else {
            let scale = self.total(SumOfExp { max }).recip().cast();
            self.write(out, Share { max, scale });
        }
    }

    /// Writes the exponential of each element, and gives what makes shares of them.
    fn write_exponentials(&mut self, out: &mut [T::Compute], max: T::Compute) -> T::Compute {
        let mut total = 0.0;
        for (number, out) in out.chunks_mut(BLOCK).enumerate() {
            let x = self.block(number * BLOCK);
            total += vector::map_fold(x, out, ExpFrom { max }, AddUp).cast();
        }
        total.recip().cast()
    }
}

/// Folds that sum up something of each element.
macro_rules! sums {
    ($($name:ident<$bound:ident>($self:ident, $x:ident) = $body:expr;)*) => {$(
        impl<C: $bound> Fold<C> for $name<C> {
            type Lane = C;

            fn empty(self) -> C {
                C::ZERO
            }

            #[inline(always)]
            fn step($self, sum: C, $x: C) -> C {
                sum.add($body)
            }

            #[inline(always)]
            fn join(self, left: C, right: C) -> C {
                left.add(right)
            }
        }
    )*};
}

#[derive(Clone, Copy)]
pub(super) struct SumOfExp<C> {
    pub(super) max: C,
}

#[derive(Clone, Copy)]
struct SquareFrom<C> {
    mean: C,
}

sums! {
    SumOfExp<Float>(self, x) = x.sub(self.max).exp();
    SquareFrom<Number>(self, x) = x.sub(self.mean).mul(x.sub(self.mean));
}

#[derive(Clone, Copy)]
struct Share<C> {
    max: C,
    scale: C,
}

impl<C: Float> Function<C> for Share<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        x.sub(self.max).exp().mul(self.scale)
    }
}

#[derive(Clone, Copy)]
struct LogShare<C> {
    max: C,
    log: C,
}

impl<C: Float> Function<C> for LogShare<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        x.sub(self.max).sub(self.log)
    }
}

#[derive(Clone, Copy)]
struct Centre<C> {
    mean: C,
    factor: C,
}

impl<C: Number> Function2<C> for Centre<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C, scale: C) -> C {
        x.sub(self.mean).mul(self.factor).mul(scale)
    }
}

impl<C: Number> Function3<C> for Centre<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C, scale: C, bias: C) -> C {
        x.sub(self.mean).mul(self.factor).mul(scale).add(bias)
    }
}
