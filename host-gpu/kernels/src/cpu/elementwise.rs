//! Kernels that make one element of one of each input.

use super::{
    element::Element,
    float::Float,
    launch::{Launch, with_element, with_float},
    number::{CastTo, Number},
    source::Source,
    threads::Threads,
    vector::{self, BLOCK, Function, Function2},
};
use quern_operators::{Binary, Clamp, Comparison, Dtype, Fill, Logical, Unary};

/// Elements of a row that are worth a loop of their own.
const FEWEST: usize = 128;

pub(super) fn fill(launch: &Launch, fill: &Fill, out: &mut [u8]) {
    with_element!(fill.dtype, T => {
        let value: T = T::narrow(<T as Element>::Compute::of(fill.value));
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        launch.threads.chunks(out, 1, |_, chunk| chunk.fill(value));
    });
}

pub(super) fn cast(launch: &Launch, to: Dtype, out: &mut [u8]) {
    with_element!(launch.description(0).dtype, T => {
        let x = launch.source::<T>(0);
        if to == Dtype::Bool {
            return map(launch.threads, &x, out, Truth);
        }
        with_element!(to, U => {
            let out: &mut [U] = bytemuck::cast_slice_mut(out);
            map(launch.threads, &x, out, Cast::<<U as Element>::Compute>::new());
        })
    });
}

pub(super) fn unary(launch: &Launch, function: Unary, out: &mut [u8]) {
    let dtype = launch.description(0).dtype;
    match function {
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Square | Unary::Relu => {
            with_element!(dtype, T => {
                let (x, out) = (launch.source::<T>(0), bytemuck::cast_slice_mut::<u8, T>(out));
                match function {
                    Unary::Neg => map(launch.threads, &x, out, Neg),
                    Unary::Abs => map(launch.threads, &x, out, Abs),
                    Unary::Sign => map(launch.threads, &x, out, Sign),
                    Unary::Square => map(launch.threads, &x, out, Square),
                    _ => map(launch.threads, &x, out, Relu),
                }
            });
        }
        Unary::Not => map(launch.threads, &launch.source::<u8>(0), out, Not),
        _ => with_float!(dtype, T => {
            let (x, out) = (launch.source::<T>(0), bytemuck::cast_slice_mut::<u8, T>(out));
            float(launch.threads, function, &x, out);
        }),
    }
}

fn float<T: Element<Compute: Float>>(
    threads: &Threads,
    function: Unary,
    x: &Source<T>,
    out: &mut [T],
) {
    match function {
        Unary::Exp => map(threads, x, out, Exp),
        Unary::Log => map(threads, x, out, Log),
        Unary::Sqrt => map(threads, x, out, Sqrt),
        Unary::Rsqrt => map(threads, x, out, Rsqrt),
        Unary::Reciprocal => map(threads, x, out, Reciprocal),
        Unary::Sin => map(threads, x, out, Sin),
        Unary::Cos => map(threads, x, out, Cos),
        Unary::Tanh => map(threads, x, out, Tanh),
        Unary::Erf => map(threads, x, out, Erf),
        Unary::Sigmoid => map(threads, x, out, Sigmoid),
        Unary::Silu => map(threads, x, out, Silu),
        Unary::Gelu => map(threads, x, out, Gelu),
        Unary::GeluTanh => map(threads, x, out, GeluTanh),
        Unary::Floor => map(threads, x, out, Floor),
        Unary::Ceil => map(threads, x, out, Ceil),
        Unary::Round => map(threads, x, out, Round),
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Square | Unary::Relu | Unary::Not => {
            unreachable!("not for floats alone")
        }
    }
}

pub(super) fn binary(launch: &Launch, function: Binary, out: &mut [u8]) {
    let (dtype, threads) = (launch.description(0).dtype, launch.threads);
    if function == Binary::Pow {
        return with_float!(dtype, T => map2::<T, T>(launch, bytemuck::cast_slice_mut(out), Pow));
    }
    with_element!(dtype, T => {
        let out = bytemuck::cast_slice_mut::<u8, T>(out);
        let (left, right) = (launch.source::<T>(0), launch.source::<T>(1));
        match function {
            Binary::Add => zip(threads, &left, &right, out, Add),
            Binary::Sub => zip(threads, &left, &right, out, Sub),
            Binary::Mul => zip(threads, &left, &right, out, Mul),
            Binary::Div => zip(threads, &left, &right, out, Div),
            Binary::Min => zip(threads, &left, &right, out, Min),
            Binary::Max => zip(threads, &left, &right, out, Max),
            Binary::Pow => unreachable!("for floats alone"),
        }
    });
}

pub(super) fn compare(launch: &Launch, comparison: Comparison, out: &mut [u8]) {
    with_element!(launch.description(0).dtype, T => match comparison {
        Comparison::Eq => map2::<T, u8>(launch, out, Eq),
        Comparison::Ne => map2::<T, u8>(launch, out, Ne),
        Comparison::Lt => map2::<T, u8>(launch, out, Lt),
        Comparison::Le => map2::<T, u8>(launch, out, Le),
        Comparison::Gt => map2::<T, u8>(launch, out, Gt),
        Comparison::Ge => map2::<T, u8>(launch, out, Ge),
    });
}

pub(super) fn logical(launch: &Launch, function: Logical, out: &mut [u8]) {
    match function {
        Logical::And => map2::<u8, u8>(launch, out, Min),
        Logical::Or => map2::<u8, u8>(launch, out, Max),
        Logical::Xor => map2::<u8, u8>(launch, out, Ne),
    }
}

pub(super) fn clamp(launch: &Launch, clamp: &Clamp, out: &mut [u8]) {
    with_element!(launch.description(0).dtype, T => {
        type C = <T as Element>::Compute;
        let bound = |bound: Option<_>, none| bound.map_or(none, C::of);
        let (min, max) = (bound(clamp.min, C::LOWEST), bound(clamp.max, C::HIGHEST));
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        map(launch.threads, &launch.source::<T>(0), out, Within { min, max });
    });
}

/// Chooses elements as they lie, as nothing is computed with them.
pub(super) fn choose(launch: &Launch, out: &mut [u8]) {
    let condition = launch.source::<u8>(0);
    with_element!(launch.description(1).dtype, T => {
        let (left, right) = (launch.source::<T>(1), launch.source::<T>(2));
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        launch.threads.chunks(out, 1, |start, chunk| {
            let (mut truths, mut others) = (vector::block::<u8>(), vector::block::<T>());
            for (number, block) in chunk.chunks_mut(BLOCK).enumerate() {
                let at = start + number * BLOCK;
                let (truths, others) = (&mut truths[..block.len()], &mut others[..block.len()]);
                condition.copy(at, truths);
                left.copy(at, block);
                right.copy(at, others);
                for ((out, truth), other) in block.iter_mut().zip(truths).zip(others) {
                    *out = if *truth == 0 { *other } else { *out };
                }
            }
        });
    });
}

/// Applies a function to each element of an input.
fn map<T: Element, U: Element>(
    threads: &Threads,
    x: &Source<T>,
    out: &mut [U],
    function: impl Function<T::Compute, Out = U::Compute>,
) {
    threads.chunks(out, 1, |start, chunk| {
        let mut room = Vec::new();
        for (number, block) in chunk.chunks_mut(BLOCK).enumerate() {
            let x = x.elements(start + number * BLOCK, block.len(), &mut room);
            vector::map(x, block, function);
        }
    });
}

/// Applies a function to each pair of the two inputs.
fn map2<T: Element, U: Element>(
    launch: &Launch,
    out: &mut [U],
    function: impl Function2<T::Compute, Out = U::Compute>,
) {
    let (left, right) = (launch.source::<T>(0), launch.source::<T>(1));
    zip(launch.threads, &left, &right, out, function);
}

fn zip<T: Element, U: Element>(
    threads: &Threads,
    left: &Source<T>,
    right: &Source<T>,
    out: &mut [U],
    function: impl Function2<T::Compute, Out = U::Compute>,
) {
    threads.chunks(out, 1, |start, mut chunk| {
        let (mut rooms, mut at) = ((Vec::new(), Vec::new()), start);
        while !chunk.is_empty() {
            // Up to where one of them begins a new row; unless rows are short, which are collected.
            let along = left.along(at).min(right.along(at));
            let is_row = along >= FEWEST;
            let length = if is_row { along.min(BLOCK) } else { BLOCK };
            let (block, later) = chunk.split_at_mut(length.min(chunk.len()));
            let stretched = |source: &Source<T>| source.stretched(at).filter(|_| is_row);
            match (stretched(left), stretched(right)) {
                (None, Some(right)) => {
                    let left = left.elements(at, block.len(), &mut rooms.0);
                    vector::map(left, block, WithRight { function, right: right.widen() });
                }
                (Some(left), None) => {
                    let right = right.elements(at, block.len(), &mut rooms.1);
                    vector::map(right, block, WithLeft { function, left: left.widen() });
                }
                _ => {
                    let left = left.elements(at, block.len(), &mut rooms.0);
                    let right = right.elements(at, block.len(), &mut rooms.1);
                    vector::map2(left, right, block, function);
                }
            }
            at += block.len();
            chunk = later;
        }
    });
}

/// Has a block computed: in its place, if it is kept as it is computed.
pub(super) fn compute<T: Element>(
    block: &mut [T],
    results: &mut Vec<T::Compute>,
    run: impl FnOnce(&mut [T::Compute]),
) {
    if T::DIRECT {
        return run(bytemuck::cast_slice_mut(block));
    }
    results.resize(BLOCK, T::Compute::ZERO);
    let results = &mut results[..block.len()];
    run(results);
    vector::convert(results, block);
}

/// A function of two elements, one of which is always the same.
#[derive(Clone, Copy)]
struct WithLeft<F, C> {
    function: F,
    left: C,
}

impl<C: Number, F: Function2<C>> Function<C> for WithLeft<F, C> {
    type Out = F::Out;

    #[inline(always)]
    fn apply(self, right: C) -> F::Out {
        self.function.apply(self.left, right)
    }
}

#[derive(Clone, Copy)]
struct WithRight<F, C> {
    function: F,
    right: C,
}

impl<C: Number, F: Function2<C>> Function<C> for WithRight<F, C> {
    type Out = F::Out;

    #[inline(always)]
    fn apply(self, left: C) -> F::Out {
        self.function.apply(left, self.right)
    }
}

macro_rules! functions {
    ($($name:ident<$bound:ident>($x:ident) = $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;

        impl<C: $bound> Function<C> for $name {
            type Out = C;

            #[inline(always)]
            fn apply(self, $x: C) -> C {
                $body
            }
        }
    )*};
}

functions! {
    Neg<Number>(x) = x.neg();
    Abs<Number>(x) = x.abs();
    Sign<Number>(x) = x.sign();
    Square<Number>(x) = x.mul(x);
    Relu<Number>(x) = if x < C::ZERO { C::ZERO } else { x };
    Exp<Float>(x) = x.exp();
    Log<Float>(x) = x.ln();
    Sqrt<Float>(x) = x.sqrt();
    Rsqrt<Float>(x) = x.sqrt().reciprocal();
    Reciprocal<Float>(x) = x.reciprocal();
    Sin<Float>(x) = x.sin();
    Cos<Float>(x) = x.cos();
    Tanh<Float>(x) = x.tanh();
    Erf<Float>(x) = x.erf();
    Sigmoid<Float>(x) = x.sigmoid();
    Silu<Float>(x) = x.mul(x.sigmoid());
    Gelu<Float>(x) = x.gelu();
    GeluTanh<Float>(x) = x.gelu_tanh();
    Floor<Float>(x) = x.floor();
    Ceil<Float>(x) = x.ceil();
    Round<Float>(x) = x.round_ties_even();
}

macro_rules! pairs {
    ($($name:ident<$bound:ident>($left:ident, $right:ident) -> $out:ty = $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;

        impl<C: $bound> Function2<C> for $name {
            type Out = $out;

            #[inline(always)]
            fn apply(self, $left: C, $right: C) -> $out {
                $body
            }
        }
    )*};
}

pairs! {
    Add<Number>(left, right) -> C = left.add(right);
    Sub<Number>(left, right) -> C = left.sub(right);
    Mul<Number>(left, right) -> C = left.mul(right);
    Div<Number>(left, right) -> C = left.div(right);
    Min<Number>(left, right) -> C = left.smaller(right);
    Max<Number>(left, right) -> C = left.larger(right);
    Pow<Float>(left, right) -> C = left.powf(right);
    Eq<Number>(left, right) -> u8 = u8::from(left == right);
    Ne<Number>(left, right) -> u8 = u8::from(left != right);
    Lt<Number>(left, right) -> u8 = u8::from(left < right);
    Le<Number>(left, right) -> u8 = u8::from(left <= right);
    Gt<Number>(left, right) -> u8 = u8::from(left > right);
    Ge<Number>(left, right) -> u8 = u8::from(left >= right);
}

#[derive(Clone, Copy)]
struct Not;

impl Function<u8> for Not {
    type Out = u8;

    #[inline(always)]
    fn apply(self, x: u8) -> u8 {
        x ^ 1
    }
}

#[derive(Clone, Copy)]
struct Truth;

impl<C: Number> Function<C> for Truth {
    type Out = u8;

    #[inline(always)]
    fn apply(self, x: C) -> u8 {
        u8::from(x != C::ZERO)
    }
}

#[derive(Clone, Copy)]
struct Cast<U>(std::marker::PhantomData<U>);

impl<U> Cast<U> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<C: CastTo<U>, U: Number> Function<C> for Cast<U> {
    type Out = U;

    #[inline(always)]
    fn apply(self, x: C) -> U {
        x.cast()
    }
}

#[derive(Clone, Copy)]
struct Within<C> {
    min: C,
    max: C,
}

impl<C: Number> Function<C> for Within<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        let x = if x < self.min { self.min } else { x };
        if x > self.max { self.max } else { x }
    }
}
