//! Loops over slices that the compiler makes vectors of, with the widest ones that this processor
//! has. Functions are types whose methods are always inlined: a call inside would end that.

mod fold;
mod map;
mod processor;

use std::sync::LazyLock;

use bytemuck::Zeroable;
use pulp::{Arch, NullaryFnOnce};

pub(super) use fold::{
    ABREAST, Fold, ROWS, Term, accumulate, accumulate_rows, fold, map_fold, replace_fold, sums,
};
pub(super) use map::{Function, Function2, Function3, convert, map, map2, map3, replace};
pub(super) use processor::Processor;
use processor::{Loop, On, Portable};

/// Elements that are computed before the next ones are loaded: few enough to stay in the nearest
/// cache.
pub(super) const BLOCK: usize = 1024;

/// Elements side by side: several vectors, so that none waits for the one before.
pub(super) const CHUNK: usize = 64;

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Runs a loop that is none of the usual ones.
pub(super) fn run<F: NullaryFnOnce>(run: F) -> F::Output {
    ARCH.dispatch(run)
}

/// Runs a loop with what this processor can do.
fn dispatch<L: Loop>(body: L) -> L::Output {
    match *ARCH {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(processor) => processor.vectorize(On { body, processor }),
        _ => ARCH.dispatch(On { body, processor: Portable }),
    }
}

/// A block of elements that nothing is known of yet.
pub(super) fn block<T: Zeroable + Copy>() -> Vec<T> {
    vec![T::zeroed(); BLOCK]
}
