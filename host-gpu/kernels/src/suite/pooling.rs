//! Cases of windows that become one pixel each, and of their gradients.

use super::{Host, Tolerance, Trial};
use quern_operators::{AveragePoolGradient, Dtype, Kernel, Padding, Pool, Shape};

fn table() -> Vec<([u64; 4], Pool)> {
    let pool = |window, strides, padding| Pool { window, strides, padding };
    let none = Padding::default();
    let uneven = Padding { top: 1, bottom: 0, left: 2, right: 1 };
    vec![
        ([1, 1, 1, 1], Pool::squares(1)),
        ([2, 3, 4, 6], Pool::squares(2)),
        ([1, 2, 7, 5], pool([3, 2], [2, 1], none)),
        ([2, 1, 5, 6], pool([3, 3], [1, 2], Padding::even(1))),
        ([1, 1, 4, 4], pool([2, 4], [3, 2], uneven)),
        ([2, 2, 6, 7], pool([6, 7], [1, 1], none)),
        ([0, 2, 4, 4], Pool::squares(2)),
        ([2, 0, 4, 4], Pool::squares(2)),
        ([1, 2, 3, 2_100], pool([2, 2], [1, 1], none)),
        ([5, 7, 24, 22], Pool::squares(2)),
        ([2, 1, 19, 16], pool([9, 8], [2, 1], Padding::even(3))),
    ]
}

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for (dims, pool) in table() {
            pooling(trial, dtype, dims, pool);
        }
        special(trial, dtype);
    }
    // More large windows than a device looks at in one go.
    let dense = Pool { window: [8, 8], strides: [1, 1], padding: Padding::default() };
    pooling(trial, Dtype::Fp32, [2, 1, 61, 50], dense);
}

/// Places of a window along an axis, each with the pixels it covers.
fn covered(dims: &[u64], pool: &Pool, axis: usize) -> Vec<std::ops::Range<u64>> {
    let (before, after) = pool.padding.sides()[axis];
    let (size, stride) = (u64::from(pool.window[axis]), u64::from(pool.strides[axis]));
    let pixels = dims[2 + axis];
    let places = (pixels + before + after - size) / stride + 1;
    let cover = |place: u64| {
        let begin = place * stride;
        begin.saturating_sub(before)..(begin + size - before).min(pixels)
    };
    (0..places).map(cover).collect()
}

fn pooling(trial: &mut Trial, dtype: Dtype, dims: [u64; 4], pool: Pool) {
    let x = trial.random(dtype, &dims);
    let (rows, columns) = (covered(&dims, &pool, 0), covered(&dims, &pool, 1));
    let results = [dims[0], dims[1], rows.len() as u64, columns.len() as u64];
    let shape = Shape::new(&results).expect("shapes of the suite are small");
    let gradient = trial.random(dtype, &results);
    let (mut to_largest, mut to_all) = (vec![0.0; x.values.len()], vec![0.0; x.values.len()]);
    let (mut largest, mut means) = (Vec::new(), Vec::new());
    super::host::each_index(shape.dims(), |index| {
        let (row, column) = (index[2] as usize, index[3] as usize);
        let plane = (index[0] * dims[1] + index[1]) * dims[2];
        let pixels: Vec<_> = rows[row]
            .clone()
            .flat_map(|row| columns[column].clone().map(move |column| (row, column)))
            .map(|(row, column)| ((plane + row) * dims[3] + column) as usize)
            .collect();
        let greater = |best: usize, pixel: &usize| {
            if x.values[*pixel] > x.values[best] { *pixel } else { best }
        };
        let best = pixels.iter().fold(pixels[0], greater);
        let sum: f64 = pixels.iter().map(|pixel| x.values[*pixel]).sum();
        let share = gradient.values[largest.len()] / pixels.len() as f64;
        pixels.iter().for_each(|pixel| to_all[*pixel] += share);
        to_largest[best] += gradient.values[largest.len()];
        largest.push(x.values[best]);
        means.push(sum / pixels.len() as f64);
    });
    let host = |values| Host::of(dtype, &results, values);
    let (largest, means) = (host(largest), host(means));
    trial.operator(Kernel::MaxPool(pool), &[&x], &largest, Tolerance::EXACT);
    trial.operator(Kernel::AveragePool(pool), &[&x], &means, Tolerance::of(dtype));
    let within = Tolerance::of_sum(dtype, 40.0);
    let expected = Host::of(dtype, &dims, to_largest);
    trial.operator(Kernel::MaxPoolGradient(pool), &[&x, &gradient], &expected, within);
    let image = [dims[2], dims[3]];
    let kernel = Kernel::AveragePoolGradient(AveragePoolGradient { pool, image });
    trial.operator(kernel, &[&gradient], &Host::of(dtype, &dims, to_all), within);
}

/// NaN is the largest, padding never, and of equal pixels the first has the gradient.
fn special(trial: &mut Trial, dtype: Dtype) {
    let (nan, low) = (f64::NAN, f64::NEG_INFINITY);
    let pool = Pool { window: [1, 2], strides: [1, 2], padding: Padding::default() };
    let x = vec![nan, 5.0, 1.0, nan, low, low, 3.0, 3.0];
    let x = Host::of(dtype, &[1, 1, 1, 8], x);
    let largest = Host::of(dtype, &[1, 1, 1, 4], vec![nan, nan, low, 3.0]);
    trial.operator(Kernel::MaxPool(pool), &[&x], &largest, Tolerance::EXACT);
    let gradient = Host::of(dtype, &[1, 1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    let expected = Host::of(dtype, &[1, 1, 1, 8], vec![1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 4.0, 0.0]);
    let kernel = Kernel::MaxPoolGradient(pool);
    trial.operator(kernel, &[&x, &gradient], &expected, Tolerance::EXACT);
    let padded = Pool { window: [2; 2], strides: [1; 2], padding: Padding::even(1) };
    let below = Host::of(dtype, &[1, 1, 1, 1], vec![-1.0]);
    let everywhere = Host::of(dtype, &[1, 1, 2, 2], vec![-1.0; 4]);
    trial.operator(Kernel::MaxPool(padded), &[&below], &everywhere, Tolerance::EXACT);
    trial.operator(Kernel::AveragePool(padded), &[&below], &everywhere, Tolerance::EXACT);
}
