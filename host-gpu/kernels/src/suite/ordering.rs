//! Cases of operators that put elements in order, or count where they lie.

use super::{Host, Tolerance, Trial};
use quern_operators::{Description, Dtype, Histogram, Kernel, Shape, Sort, TopK};

/// Shapes with an axis: short, empty and long lines, alone and side by side.
const SHAPES: [(&[u64], u8); 10] = [
    (&[1], 0),
    (&[9], 0),
    (&[3, 5], 0),
    (&[3, 5], 1),
    (&[2, 7, 3], 1),
    (&[4, 0], 0),
    (&[4, 0], 1),
    (&[0, 4], 0),
    (&[2_500], 0),
    (&[70, 40], 0),
];

pub(super) fn cases(trial: &mut Trial) {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| *dtype != Dtype::Bool) {
        for (dims, axis) in SHAPES {
            let x = special(trial.random(dtype, dims));
            let size = dims[usize::from(axis)];
            for descending in [false, true] {
                let expected = ordered(&x, axis, size, descending);
                let sort = Kernel::Sort(Sort { axis, descending });
                trial.operators(sort, &[&x], &expected, Tolerance::EXACT);
                for count in [0, 1, 17, size / 2, size] {
                    let count = count.min(size);
                    let expected = ordered(&x, axis, count, descending);
                    let top = Kernel::TopK(TopK { axis, count, largest: descending });
                    trial.operators(top, &[&x], &expected, Tolerance::EXACT);
                }
            }
        }
        for dims in [&[][..], &[7], &[3, 4], &[0], &[40, 1_100]] {
            histogram(trial, dtype, dims);
        }
    }
}

/// With elements that are easily put in the wrong place, and some of them several times.
fn special(mut x: Host) -> Host {
    if x.dtype.is_float() {
        let placed = [f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::NAN];
        x.values.iter_mut().skip(1).step_by(2).zip(placed).for_each(|(x, placed)| *x = placed);
    }
    x
}

/// The first elements of each line in order, and where they were.
fn ordered(x: &Host, axis: u8, count: u64, descending: bool) -> [Host; 2] {
    let axis = usize::from(axis);
    let mut dims = x.dims().to_vec();
    let size = std::mem::replace(&mut dims[axis], count) as usize;
    let inner = dims[axis + 1..].iter().product::<u64>() as usize;
    let shape = Shape::new(&dims).expect("no more elements");
    let mut found = vec![(0.0, 0); shape.elements() as usize];
    for line in 0..x.values.len() / size.max(1) {
        let (slab, column) = (line / inner, line % inner);
        let elements = x.values[slab * size * inner + column..].iter().step_by(inner);
        let mut elements: Vec<_> = elements.copied().take(size).zip(0..).collect();
        elements.sort_by(|(left, _), (right, _)| match left.partial_cmp(right) {
            Some(order) if descending => order.reverse(),
            Some(order) => order,
            None => left.is_nan().cmp(&right.is_nan()),
        });
        let begin = slab * count as usize * inner + column;
        let places = found.iter_mut().skip(begin).step_by(inner);
        places.zip(elements).take(count as usize).for_each(|(place, element)| *place = element);
    }
    let places = found.iter().map(|(_, place)| f64::from(*place)).collect();
    [
        Host::new(
            Description::new(x.dtype, shape),
            found.iter().map(|(value, _)| *value).collect(),
        ),
        Host::new(Description::new(Dtype::Int64, shape), places),
    ]
}

/// Bins whose bounds are exact, so that what lies on one is certain.
fn histogram(trial: &mut Trial, dtype: Dtype, dims: &[u64]) {
    let mut x = special(trial.random(dtype, dims));
    // On the bounds, between bins, and beside them all.
    let placed = [0.0, 1.0, 0.25, 0.5, 5.0, -1.0, 2.0];
    x.values.iter_mut().step_by(3).zip(placed).for_each(|(x, placed)| *x = placed);
    let x = Host::new(x.description(), x.values);
    for (bins, min, max) in [(1, 0.0, 1.0), (4, 0.0, 1.0), (10, -0.5, 9.5), (1_000, -8.0, 8.0)] {
        let histogram = Histogram { bins, min, max };
        let mut counts = vec![0.0; bins as usize];
        for x in x.values.iter().filter(|x| **x >= min && **x <= max) {
            let bin = (x - min) * (f64::from(bins) / (max - min));
            counts[(bin as usize).min(bins as usize - 1)] += 1.0;
        }
        let expected = Host::of(Dtype::Int64, &[u64::from(bins)], counts);
        trial.operator(Kernel::Histogram(histogram), &[&x], &expected, Tolerance::EXACT);
    }
}
