//! Loops over slices that the compiler makes vectors of, with the widest ones that this processor
//! has. Functions are types whose methods are always inlined: a call inside would end that.

use std::sync::LazyLock;

use bytemuck::Zeroable;
use pulp::{Arch, NullaryFnOnce};

use super::number::Number;

/// Elements that are computed before the next ones are loaded: few enough to stay in the nearest
/// cache.
pub(super) const BLOCK: usize = 1024;

/// Rows that are accumulated at once, so that lanes are loaded and stored less often.
pub(super) const ROWS: usize = 4;

/// Partial results side by side, so that none waits for the one before.
const LANES: usize = 32;

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Runs loops with the widest vectors.
pub(super) fn dispatch<R>(run: impl NullaryFnOnce<Output = R>) -> R {
    ARCH.dispatch(run)
}

/// A function of one element.
pub(super) trait Function<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, x: A) -> Self::Out;
}

/// A function of two elements.
pub(super) trait Function2<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, left: A, right: A) -> Self::Out;
}

/// A function of three elements.
pub(super) trait Function3<A>: Copy + Send + Sync {
    type Out;
    fn apply(self, first: A, second: A, third: A) -> Self::Out;
}

/// How many elements become one: in lanes side by side, which are joined at the end.
pub(super) trait Fold<A>: Copy + Send + Sync {
    type Lane: Copy + Send + Sync;
    fn empty(self) -> Self::Lane;
    fn step(self, lane: Self::Lane, x: A) -> Self::Lane;
    fn join(self, left: Self::Lane, right: Self::Lane) -> Self::Lane;
}

/// Runs a loop that is none of the usual ones.
pub(super) fn run<F: NullaryFnOnce>(run: F) -> F::Output {
    ARCH.dispatch(run)
}

struct Map<'a, A, F: Function<A>> {
    from: &'a [A],
    to: &'a mut [F::Out],
    function: F,
}

impl<A: Copy, F: Function<A>> NullaryFnOnce for Map<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = self.function.apply(*from);
        }
    }
}

/// Applies a function to each element.
pub(super) fn map<A: Copy, F: Function<A>>(from: &[A], to: &mut [F::Out], function: F) {
    ARCH.dispatch(Map { from, to, function });
}

struct Replace<'a, A, F> {
    values: &'a mut [A],
    function: F,
}

impl<A: Copy, F: Function<A, Out = A>> NullaryFnOnce for Replace<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for value in self.values {
            *value = self.function.apply(*value);
        }
    }
}

/// Applies a function to each element where it is.
pub(super) fn replace<A: Copy, F: Function<A, Out = A>>(values: &mut [A], function: F) {
    ARCH.dispatch(Replace { values, function });
}

struct Map2<'a, A, F: Function2<A>> {
    left: &'a [A],
    right: &'a [A],
    to: &'a mut [F::Out],
    function: F,
}

impl<A: Copy, F: Function2<A>> NullaryFnOnce for Map2<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((to, left), right) in self.to.iter_mut().zip(self.left).zip(self.right) {
            *to = self.function.apply(*left, *right);
        }
    }
}

/// Applies a function to each pair.
pub(super) fn map2<A: Copy, F: Function2<A>>(
    left: &[A],
    right: &[A],
    to: &mut [F::Out],
    function: F,
) {
    ARCH.dispatch(Map2 { left, right, to, function });
}

struct Map3<'a, A, F: Function3<A>> {
    from: [&'a [A]; 3],
    to: &'a mut [F::Out],
    function: F,
}

impl<A: Copy, F: Function3<A>> NullaryFnOnce for Map3<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [first, second, third] = self.from;
        for (((to, first), second), third) in self.to.iter_mut().zip(first).zip(second).zip(third) {
            *to = self.function.apply(*first, *second, *third);
        }
    }
}

/// Applies a function to each three elements.
pub(super) fn map3<A: Copy, F: Function3<A>>(from: [&[A]; 3], to: &mut [F::Out], function: F) {
    ARCH.dispatch(Map3 { from, to, function });
}

struct Folding<'a, A, F> {
    from: &'a [A],
    fold: F,
}

impl<A: Copy, F: Fold<A>> NullaryFnOnce for Folding<'_, A, F> {
    type Output = F::Lane;

    #[inline(always)]
    fn call(self) -> F::Lane {
        let mut lanes = [self.fold.empty(); LANES];
        let mut chunks = self.from.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = self.fold.step(*lane, *x);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = self.fold.step(*lane, *x);
        }
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                lanes[lane] = self.fold.join(lanes[lane], lanes[lane + width]);
            }
        }
        lanes[0]
    }
}

/// What becomes of all elements.
pub(super) fn fold<A: Copy, F: Fold<A>>(from: &[A], fold: F) -> F::Lane {
    ARCH.dispatch(Folding { from, fold })
}

struct Sums<'a, A, F, const SIDE: usize> {
    left: &'a [A],
    right: &'a [[A; SIDE]],
    function: F,
}

impl<A: Number, F: Function2<A, Out = A>, const SIDE: usize> NullaryFnOnce
    for Sums<'_, A, F, SIDE>
{
    type Output = [A; SIDE];

    #[inline(always)]
    fn call(self) -> [A; SIDE] {
        let mut sums = [A::ZERO; SIDE];
        for (left, right) in self.left.iter().zip(self.right) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = sum.add(self.function.apply(*left, *right));
            }
        }
        sums
    }
}

/// What a function of one slice's elements and those of several others, side by side, adds up to.
pub(super) fn sums<A: Number, F: Function2<A, Out = A>, const SIDE: usize>(
    left: &[A],
    right: &[[A; SIDE]],
    function: F,
) -> [A; SIDE] {
    ARCH.dispatch(Sums { left, right, function })
}

struct Accumulate<'a, A, F: Fold<A>> {
    lanes: &'a mut [F::Lane],
    from: &'a [A],
    fold: F,
}

impl<A: Copy, F: Fold<A>> NullaryFnOnce for Accumulate<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (lane, x) in self.lanes.iter_mut().zip(self.from) {
            *lane = self.fold.step(*lane, *x);
        }
    }
}

/// Adds each element to a lane of its own.
pub(super) fn accumulate<A: Copy, F: Fold<A>>(lanes: &mut [F::Lane], from: &[A], fold: F) {
    ARCH.dispatch(Accumulate { lanes, from, fold });
}

struct AccumulateRows<'a, A, F: Fold<A>> {
    lanes: &'a mut [F::Lane],
    from: [&'a [A]; ROWS],
    fold: F,
}

impl<A: Copy, F: Fold<A>> NullaryFnOnce for AccumulateRows<'_, A, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let [first, second, third, fourth] = self.from;
        let rows = first.iter().zip(second).zip(third).zip(fourth);
        for (lane, (((first, second), third), fourth)) in self.lanes.iter_mut().zip(rows) {
            let both = self.fold.step(self.fold.step(*lane, *first), *second);
            *lane = self.fold.step(self.fold.step(both, *third), *fourth);
        }
    }
}

/// Adds each element of several rows to a lane of its own.
pub(super) fn accumulate_rows<A: Copy, F: Fold<A>>(
    lanes: &mut [F::Lane],
    from: [&[A]; ROWS],
    fold: F,
) {
    ARCH.dispatch(AccumulateRows { lanes, from, fold });
}

/// A block of elements that nothing is known of yet.
pub(super) fn block<T: Zeroable + Copy>() -> Vec<T> {
    vec![T::zeroed(); BLOCK]
}
