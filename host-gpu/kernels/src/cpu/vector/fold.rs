//! Loops that make one element of many, in lanes side by side, and those that do so for many
//! lanes at once.

use pulp::NullaryFnOnce;

use super::{
    CHUNK, Function, dispatch,
    processor::{Loop, Processor},
    run,
};
use crate::cpu::{element::Element, number::Number};

/// Rows that are accumulated at once, so that lanes are loaded and stored less often.
pub(in crate::cpu) const ROWS: usize = 4;

/// How many elements become one: in lanes side by side, which are joined at the end.
pub(in crate::cpu) trait Fold<A>: Copy + Send + Sync {
    type Lane: Copy + Send + Sync;
    fn empty(self) -> Self::Lane;
    fn step(self, lane: Self::Lane, x: A) -> Self::Lane;
    fn join(self, left: Self::Lane, right: Self::Lane) -> Self::Lane;
}

/// Joins the lanes of a fold.
#[inline(always)]
fn join<A, F: Fold<A>>(mut lanes: [F::Lane; CHUNK], fold: F) -> F::Lane {
    let mut width = CHUNK;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] = fold.join(lanes[lane], lanes[lane + width]);
        }
    }
    lanes[0]
}

struct Folding<'a, A, F> {
    from: &'a [A],
    fold: F,
}

impl<A: Element, F: Fold<A::Compute>> Loop for Folding<'_, A, F> {
    type Output = F::Lane;

    #[inline(always)]
    fn run(self, processor: impl Processor) -> F::Lane {
        let mut lanes = [self.fold.empty(); CHUNK];
        let (chunks, rest) = self.from.as_chunks();
        for x in chunks {
            let x = A::widen_chunk(processor, x);
            for (lane, x) in lanes.iter_mut().zip(x) {
                *lane = self.fold.step(*lane, x);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane = self.fold.step(*lane, x.widen());
        }
        join::<A::Compute, F>(lanes, self.fold)
    }
}

/// What becomes of all elements.
pub(in crate::cpu) fn fold<A: Element, F: Fold<A::Compute>>(from: &[A], fold: F) -> F::Lane {
    dispatch(Folding { from, fold })
}

struct MapFold<'a, A, C, F, G> {
    from: &'a [A],
    to: &'a mut [C],
    function: F,
    fold: G,
}

impl<A, C, F, G> Loop for MapFold<'_, A, C, F, G>
where
    A: Element<Compute = C>,
    C: Number,
    F: Function<C, Out = C>,
    G: Fold<C>,
{
    type Output = G::Lane;

    #[inline(always)]
    fn run(self, processor: impl Processor) -> G::Lane {
        let Self { from, to, function, fold } = self;
        let mut lanes = [fold.empty(); CHUNK];
        let (chunks, rest) = from.as_chunks::<CHUNK>();
        let (results, results_rest) = to.as_chunks_mut::<CHUNK>();
        for (to, x) in results.iter_mut().zip(chunks) {
            let x: [C; CHUNK] = A::widen_chunk(processor, x);
            for ((lane, to), x) in lanes.iter_mut().zip(to).zip(x) {
                *to = function.apply(x);
                *lane = fold.step(*lane, *to);
            }
        }
        for ((lane, to), x) in lanes.iter_mut().zip(results_rest).zip(rest) {
            *to = function.apply(x.widen());
            *lane = fold.step(*lane, *to);
        }
        join::<C, G>(lanes, fold)
    }
}

/// Applies a function to each element, and gives what becomes of all results.
pub(in crate::cpu) fn map_fold<A: Element, G: Fold<A::Compute>>(
    from: &[A],
    to: &mut [A::Compute],
    function: impl Function<A::Compute, Out = A::Compute>,
    fold: G,
) -> G::Lane {
    dispatch(MapFold { from, to, function, fold })
}

struct ReplaceFold<'a, A, F, G> {
    values: &'a mut [A],
    function: F,
    fold: G,
}

impl<A: Number, F: Function<A, Out = A>, G: Fold<A>> NullaryFnOnce for ReplaceFold<'_, A, F, G> {
    type Output = G::Lane;

    #[inline(always)]
    fn call(self) -> G::Lane {
        let Self { values, function, fold } = self;
        let mut lanes = [fold.empty(); CHUNK];
        let (chunks, rest) = values.as_chunks_mut::<CHUNK>();
        for values in chunks {
            for (lane, value) in lanes.iter_mut().zip(values) {
                *value = function.apply(*value);
                *lane = fold.step(*lane, *value);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *value = function.apply(*value);
            *lane = fold.step(*lane, *value);
        }
        join::<A, G>(lanes, fold)
    }
}

/// Applies a function to each element where it is, and gives what becomes of all results.
pub(in crate::cpu) fn replace_fold<A: Number, G: Fold<A>>(
    values: &mut [A],
    function: impl Function<A, Out = A>,
    fold: G,
) -> G::Lane {
    run(ReplaceFold { values, function, fold })
}

struct Accumulate<'a, A, L, F> {
    lanes: &'a mut [L],
    from: &'a [A],
    fold: F,
}

impl<A: Element, F: Fold<A::Compute>> Loop for Accumulate<'_, A, F::Lane, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        let Self { mut lanes, mut from, fold } = self;
        if A::IN_CHUNKS {
            let ((chunks, rest), (some, lanes_rest)) = (from.as_chunks(), lanes.as_chunks_mut());
            for (lanes, x) in some.iter_mut().zip(chunks) {
                let x = A::widen_chunk(processor, x);
                add(lanes, x, fold);
            }
            (from, lanes) = (rest, lanes_rest);
        }
        for (lane, x) in lanes.iter_mut().zip(from) {
            *lane = fold.step(*lane, x.widen());
        }
    }
}

/// Adds each element of a chunk to a lane of its own.
#[inline(always)]
fn add<C, F: Fold<C>>(lanes: &mut [F::Lane; CHUNK], x: [C; CHUNK], fold: F) {
    for (lane, x) in lanes.iter_mut().zip(x) {
        *lane = fold.step(*lane, x);
    }
}

/// Adds each element to a lane of its own.
pub(in crate::cpu) fn accumulate<A: Element, F: Fold<A::Compute>>(
    lanes: &mut [F::Lane],
    from: &[A],
    fold: F,
) {
    dispatch(Accumulate { lanes, from, fold });
}

struct AccumulateRows<'a, A, L, F> {
    lanes: &'a mut [L],
    from: [&'a [A]; ROWS],
    fold: F,
}

impl<A: Element, F: Fold<A::Compute>> Loop for AccumulateRows<'_, A, F::Lane, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, processor: impl Processor) {
        let Self { mut lanes, mut from, fold } = self;
        if A::IN_CHUNKS {
            let chunks = from.map(|row| row.as_chunks::<CHUNK>().0);
            let (some, rest) = lanes.as_chunks_mut();
            from = from.map(|row| row.as_chunks::<CHUNK>().1);
            for (place, lanes) in some.iter_mut().enumerate() {
                for row in chunks {
                    add(lanes, A::widen_chunk(processor, &row[place]), fold);
                }
            }
            lanes = rest;
        }
        let [first, second, third, fourth] = from;
        let rows = first.iter().zip(second).zip(third).zip(fourth);
        for (lane, (((first, second), third), fourth)) in lanes.iter_mut().zip(rows) {
            let both = fold.step(fold.step(*lane, first.widen()), second.widen());
            *lane = fold.step(fold.step(both, third.widen()), fourth.widen());
        }
    }
}

/// Adds each element of several rows, which are as long as there are lanes, to a lane of its own.
pub(in crate::cpu) fn accumulate_rows<A: Element, F: Fold<A::Compute>>(
    lanes: &mut [F::Lane],
    from: [&[A]; ROWS],
    fold: F,
) {
    dispatch(AccumulateRows { lanes, from, fold });
}

/// What is added to a sum for a pair of elements.
pub(in crate::cpu) trait Term<A>: Copy + Send + Sync {
    fn add_to(self, sum: A, left: A, right: A) -> A;
}

/// Rows that are summed up at once, so that what they meet is loaded once for all of them.
pub(in crate::cpu) const ABREAST: usize = 4;

struct Sums<'a, A, F, const SIDE: usize> {
    left: [&'a [A]; ABREAST],
    right: &'a [[A; SIDE]],
    term: F,
}

impl<A: Number, F: Term<A>, const SIDE: usize> NullaryFnOnce for Sums<'_, A, F, SIDE> {
    type Output = [[A; SIDE]; ABREAST];

    #[inline(always)]
    fn call(self) -> [[A; SIDE]; ABREAST] {
        let mut sums = [[A::ZERO; SIDE]; ABREAST];
        let left = self.left.map(|left| &left[..self.right.len()]);
        for (place, right) in self.right.iter().enumerate() {
            for (sums, left) in sums.iter_mut().zip(left) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = self.term.add_to(*sum, left[place], *right);
                }
            }
        }
        sums
    }
}

/// What terms of some slices' elements and those of others, side by side, add up to.
pub(in crate::cpu) fn sums<A: Number, F: Term<A>, const SIDE: usize>(
    left: [&[A]; ABREAST],
    right: &[[A; SIDE]],
    term: F,
) -> [[A; SIDE]; ABREAST] {
    run(Sums { left, right, term })
}
