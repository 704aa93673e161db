//! Where the extreme element of each line is.

use super::{
    Lines,
    folds::{Largest, Reducer, Smallest},
};
use crate::cpu::{
    element::Element,
    launch::{Launch, with_element},
    number::Number,
    source::{Scratch, Source},
    vector::{self, BLOCK},
};
use quern_operators::{ArgReduce, Extreme};

pub(in crate::cpu) fn arg_reduce(launch: &Launch, reduce: &ArgReduce, out: &mut [u8]) {
    let lines = Lines::new(launch.operand(0), &[reduce.axis]);
    let out: &mut [i64] = bytemuck::cast_slice_mut(out);
    with_element!(launch.description(0).dtype, T => match reduce.extreme {
        Extreme::Max => find::<T, _>(launch, &lines, out, Largest),
        Extreme::Min => find::<T, _>(launch, &lines, out, Smallest),
    });
}

fn find<T, R>(launch: &Launch, lines: &Lines, out: &mut [i64], reducer: R)
where
    T: Element,
    R: Reducer<T::Compute, Lane = T::Compute>,
{
    let source = Source::<T>::new(launch.bytes(0), &lines.layout);
    launch.threads.chunks(out, lines.length, |start, chunk| {
        let mut scratch = Scratch::new();
        for (line, out) in chunk.iter_mut().enumerate() {
            *out =
                first(&source, (start + line) * lines.length, lines.length, reducer, &mut scratch);
        }
    });
}

/// The place of the first extreme element of a line. Only a block whose own extreme is better
/// than what was found before is searched.
fn first<T, R>(
    source: &Source<T>,
    begin: usize,
    length: usize,
    reducer: R,
    scratch: &mut Scratch<T>,
) -> i64
where
    T: Element,
    R: Reducer<T::Compute, Lane = T::Compute>,
{
    let mut best: Option<(T::Compute, usize)> = None;
    for at in (0..length).step_by(BLOCK) {
        let x = source.load(begin + at, (length - at).min(BLOCK), scratch);
        let extreme = vector::fold(x, reducer);
        let better = best.is_none_or(|(found, _)| {
            !found.is_nan() && (extreme.is_nan() || reducer.join(found, extreme) != found)
        });
        if better {
            let same = |x: &T::Compute| *x == extreme || x.is_nan() && extreme.is_nan();
            let place = x.iter().position(same).expect("the extreme element is one of them");
            best = Some((extreme, at + place));
        }
    }
    best.map_or(0, |(_, place)| place as i64)
}
