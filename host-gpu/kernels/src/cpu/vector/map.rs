//! Loops that make one element of one, two or three: widened, computed and narrowed in one go, so
//! that nothing in between is ever stored.

use super::{
    CHUNK, dispatch,
    processor::{Loop, Processor},
};
use crate::cpu::{element::Element, number::Number};

/// A function of one element.
pub(in crate::cpu) trait Function<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, x: A) -> Self::Out;
}

/// A function of two elements.
pub(in crate::cpu) trait Function2<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, left: A, right: A) -> Self::Out;
}

/// A function of three elements.
pub(in crate::cpu) trait Function3<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, first: A, second: A, third: A) -> Self::Out;
}

/// Narrows what a function makes of each place of a chunk.
#[inline(always)]
fn chunk<U: Element>(
    processor: impl Processor,
    function: impl Fn(usize) -> U::Compute,
) -> [U; CHUNK] {
    let mut results = [U::Compute::ZERO; CHUNK];
    results.iter_mut().enumerate().for_each(|(place, result)| *result = function(place));
    U::narrow_chunk(processor, &results)
}

struct Map<'a, A, U, F> {
    from: &'a [A],
    to: &'a mut [U],
    function: F,
}

impl<A: Element, U: Element, F: Function<A::Compute, Out = U::Compute>> Loop for Map<'_, A, U, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        let Self { mut from, mut to, function } = self;
        if A::IN_CHUNKS || U::IN_CHUNKS {
            let (chunks, rest) = from.as_chunks();
            let (results, results_rest) = to.as_chunks_mut();
            for (result, x) in results.iter_mut().zip(chunks) {
                let x = A::widen_chunk(processor, x);
                *result = chunk(processor, |place| function.apply(x[place]));
            }
            (from, to) = (rest, results_rest);
        }
        for (to, x) in to.iter_mut().zip(from) {
            *to = U::narrow(function.apply(x.widen()));
        }
    }
}

/// Applies a function to each element.
pub(in crate::cpu) fn map<A: Element, U: Element>(
    from: &[A],
    to: &mut [U],
    function: impl Function<A::Compute, Out = U::Compute>,
) {
    dispatch(Map { from, to, function });
}

#[derive(Clone, Copy)]
struct Identity;

impl<A> Function<A> for Identity {
    type Out = A;

    #[inline(always)]
    fn apply(self, x: A) -> A {
        x
    }
}

/// Widens or narrows each element; both slices have one length.
pub(in crate::cpu) fn convert<A: Element, U: Element<Compute = A::Compute>>(
    from: &[A],
    to: &mut [U],
) {
    map(from, to, Identity);
}

struct Replace<'a, A, F> {
    values: &'a mut [A],
    function: F,
}

impl<A: Number, F: Function<A, Out = A>> Loop for Replace<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: impl Processor) {
        for value in self.values {
            *value = self.function.apply(*value);
        }
    }
}

/// Applies a function to each element where it is.
pub(in crate::cpu) fn replace<A: Number>(values: &mut [A], function: impl Function<A, Out = A>) {
    dispatch(Replace { values, function });
}

struct Map2<'a, A, B, U, F> {
    left: &'a [A],
    right: &'a [B],
    to: &'a mut [U],
    function: F,
}

impl<A, B, U, F> Loop for Map2<'_, A, B, U, F>
where
    A: Element,
    B: Element<Compute = A::Compute>,
    U: Element,
    F: Function2<A::Compute, Out = U::Compute>,
{
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        let Self { mut left, mut right, mut to, function } = self;
        if A::IN_CHUNKS || B::IN_CHUNKS || U::IN_CHUNKS {
            let ((lefts, left_rest), (rights, right_rest)) = (left.as_chunks(), right.as_chunks());
            let (results, results_rest) = to.as_chunks_mut();
            for ((result, left), right) in results.iter_mut().zip(lefts).zip(rights) {
                let left = A::widen_chunk(processor, left);
                let right = B::widen_chunk(processor, right);
                *result = chunk(processor, |place| function.apply(left[place], right[place]));
            }
            (left, right, to) = (left_rest, right_rest, results_rest);
        }
        for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
            *to = U::narrow(function.apply(left.widen(), right.widen()));
        }
    }
}

/// Applies a function to each pair.
pub(in crate::cpu) fn map2<A: Element, B: Element<Compute = A::Compute>, U: Element>(
    left: &[A],
    right: &[B],
    to: &mut [U],
    function: impl Function2<A::Compute, Out = U::Compute>,
) {
    dispatch(Map2 { left, right, to, function });
}

struct Map3<'a, A, B, U, F> {
    first: &'a [A],
    others: [&'a [B]; 2],
    to: &'a mut [U],
    function: F,
}

impl<A, B, U, F> Loop for Map3<'_, A, B, U, F>
where
    A: Element,
    B: Element<Compute = A::Compute>,
    U: Element,
    F: Function3<A::Compute, Out = U::Compute>,
{
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        let Self { mut first, others: [mut second, mut third], mut to, function } = self;
        if A::IN_CHUNKS || B::IN_CHUNKS || U::IN_CHUNKS {
            let (firsts, first_rest) = first.as_chunks();
            let ((seconds, second_rest), (thirds, third_rest)) =
                (second.as_chunks(), third.as_chunks());
            let (results, results_rest) = to.as_chunks_mut();
            let others = seconds.iter().zip(thirds);
            for ((result, first), (second, third)) in results.iter_mut().zip(firsts).zip(others) {
                let first = A::widen_chunk(processor, first);
                let [second, third] = [second, third].map(|x| B::widen_chunk(processor, x));
                *result = chunk(processor, |place| {
                    function.apply(first[place], second[place], third[place])
                });
            }
            (first, second, third, to) = (first_rest, second_rest, third_rest, results_rest);
        }
        for (((to, first), second), third) in to.iter_mut().zip(first).zip(second).zip(third) {
            *to = U::narrow(function.apply(first.widen(), second.widen(), third.widen()));
        }
    }
}

/// Applies a function to each three elements.
pub(in crate::cpu) fn map3<A: Element, B: Element<Compute = A::Compute>, U: Element>(
    first: &[A],
    others: [&[B]; 2],
    to: &mut [U],
    function: impl Function3<A::Compute, Out = U::Compute>,
) {
    dispatch(Map3 { first, others, to, function });
}
