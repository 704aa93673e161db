//! What becomes of many elements, one reduction each: in lanes as wide as elements are computed
//! in, and in totals that many of them fit.

use crate::cpu::{
    number::{CastTo, Number},
    vector::Fold,
};

/// A reduction of elements that are computed in `C`.
pub(super) trait Reducer<C>: Fold<C> {
    type Total: Copy + Send + Sync;
    type Out: Number;
    fn total(self, lane: Self::Lane) -> Self::Total;
    fn combine(self, left: Self::Total, right: Self::Total) -> Self::Total;
    fn finish(self, total: Self::Total, count: usize) -> Self::Out;
}

/// `$step` of lanes, which is also how lanes and totals are joined.
macro_rules! wide {
    ($name:ident, $empty:ident, $operation:ident, $finish:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl<C: Number> Fold<C> for $name {
            type Lane = C::Lane;

            fn empty(self) -> C::Lane {
                C::Lane::$empty
            }

            #[inline(always)]
            fn step(self, lane: C::Lane, x: C) -> C::Lane {
                lane.$operation(x.lane())
            }

            #[inline(always)]
            fn join(self, left: C::Lane, right: C::Lane) -> C::Lane {
                left.$operation(right)
            }
        }

        impl<C: Number> Reducer<C> for $name {
            type Total = C::Total;
            type Out = C::Lane;

            fn total(self, lane: C::Lane) -> C::Total {
                lane.into()
            }

            fn combine(self, left: C::Total, right: C::Total) -> C::Total {
                left.$operation(right)
            }

            fn finish(self, total: C::Total, count: usize) -> C::Lane {
                let finish: fn(C::Total, usize) -> C::Total = $finish;
                finish(total, count).cast()
            }
        }
    };
}

wide!(Sum, ZERO, add, |total, _| total);
wide!(Product, ONE, mul, |total, _| total);
wide!(Mean, ZERO, add, |total, count| total.div(Number::of_count(count)));

/// `$step` of elements as they are.
macro_rules! narrow {
    ($name:ident, $empty:ident, $operation:ident) => {
        #[derive(Clone, Copy)]
        pub(in crate::cpu) struct $name;

        impl<C: Number> Fold<C> for $name {
            type Lane = C;

            fn empty(self) -> C {
                C::$empty
            }

            #[inline(always)]
            fn step(self, lane: C, x: C) -> C {
                lane.$operation(x)
            }

            #[inline(always)]
            fn join(self, left: C, right: C) -> C {
                left.$operation(right)
            }
        }

        impl<C: Number> Reducer<C> for $name {
            type Total = C;
            type Out = C;

            fn total(self, lane: C) -> C {
                lane
            }

            fn combine(self, left: C, right: C) -> C {
                left.$operation(right)
            }

            fn finish(self, total: C, _: usize) -> C {
                total
            }
        }
    };
}

narrow!(AddUp, ZERO, add);
narrow!(Largest, LOWEST, larger);
narrow!(Smallest, HIGHEST, smaller);
// Of truths, which are 0 or 1.
narrow!(Any, ZERO, larger);
narrow!(Every, ONE, smaller);
