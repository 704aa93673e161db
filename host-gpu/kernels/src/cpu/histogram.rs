//! Counts of elements by where they lie between bounds: each thread counts a part of them for
//! itself.

use super::{
    element::Element,
    launch::{Launch, with_element},
    number::{CastTo, Number},
    source::{Scratch, Source},
    vector::{self, BLOCK, Function},
};
use crate::LaneError;
use quern_operators::Histogram;

pub(super) fn histogram(
    launch: &Launch,
    histogram: &Histogram,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let out: &mut [i64] = bytemuck::cast_slice_mut(out);
    let elements = launch.description(0).shape.elements() as usize;
    let bins = out.len();
    // One more for what lies nowhere.
    let width = bins + 1;
    let parts = launch.threads.count();
    let mut counts = launch.workspace::<i64>(parts * width)?;
    let share = elements.div_ceil(parts).next_multiple_of(BLOCK);
    with_element!(launch.description(0).dtype, T => {
        let source = launch.source::<T>(0);
        let place = Place::new(histogram);
        launch.threads.rows(&mut counts, width, 1 + share / width, |first, chunk| {
            for (part, counts) in chunk.chunks_mut(width).enumerate() {
                let begin = ((first + part) * share).min(elements);
                let end = (begin + share).min(elements);
                count(&source, begin..end, place, counts);
            }
        });
    });
    out.fill(0);
    for counts in counts.chunks(width) {
        out.iter_mut().zip(counts).for_each(|(out, count)| *out += count);
    }
    Ok(())
}

fn count<T: Element<Compute: CastTo<f64>>>(
    source: &Source<T>,
    range: std::ops::Range<usize>,
    place: Place,
    counts: &mut [i64],
) {
    let (mut scratch, mut places) = (Scratch::new(), vector::block::<i32>());
    counts.fill(0);
    for at in range.clone().step_by(BLOCK) {
        let x = source.load(at, (range.end - at).min(BLOCK), &mut scratch);
        let places = &mut places[..x.len()];
        vector::map(x, places, place);
        places.iter().for_each(|place| counts[*place as usize] += 1);
    }
}

/// The bin of an element; one more than the last where it has none.
#[derive(Clone, Copy)]
struct Place {
    min: f64,
    max: f64,
    density: f64,
    bins: i32,
}

impl Place {
    fn new(histogram: &Histogram) -> Self {
        let &Histogram { bins, min, max } = histogram;
        // There are few enough of them.
        Self { min, max, density: histogram.density(), bins: bins as i32 }
    }
}

impl<C: Number + CastTo<f64>> Function<C> for Place {
    type Out = i32;

    #[inline(always)]
    fn apply(self, x: C) -> i32 {
        let x: f64 = x.cast();
        // Towards zero is down here, and what is too large or NaN is decided on below.
        let bin = (((x - self.min) * self.density) as i32).min(self.bins - 1);
        if x >= self.min && x <= self.max { bin } else { self.bins }
    }
}
