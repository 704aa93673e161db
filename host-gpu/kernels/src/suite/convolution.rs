//! Cases of convolutions and their gradients, beside sums over every pixel that a window sees.

use super::{Host, Tolerance, Trial, host::each_index};
use quern_operators::{
    Convolution, ConvolutionInputGradient, ConvolutionWeightGradient, Dtype, Kernel, Padding,
};

/// Images, weights, and how these go over those.
struct Case {
    images: [u64; 4],
    weights: [u64; 4],
    convolution: Convolution,
}

/// From one pixel to more than a panel; uneven padding, gaps, groups, and nothing at all.
fn table() -> Vec<Case> {
    let plain = Convolution::default();
    let padded = |pixels| Convolution { padding: Padding::even(pixels), ..plain };
    let uneven = Padding { top: 2, bottom: 0, left: 1, right: 3 };
    let case = |images, weights, convolution| Case { images, weights, convolution };
    vec![
        case([1, 1, 1, 1], [1, 1, 1, 1], plain),
        case([2, 1, 5, 4], [3, 1, 3, 3], padded(1)),
        case([1, 3, 6, 7], [2, 3, 1, 1], plain),
        case([2, 2, 7, 9], [4, 2, 3, 2], Convolution { strides: [2, 3], ..padded(1) }),
        case([1, 2, 9, 8], [2, 2, 3, 3], Convolution { dilations: [2, 3], ..padded(3) }),
        case([2, 4, 5, 5], [6, 2, 3, 3], Convolution { groups: 2, ..padded(1) }),
        case([3, 3, 4, 6], [3, 1, 3, 3], Convolution { groups: 3, padding: uneven, ..plain }),
        case([1, 2, 3, 3], [2, 2, 2, 2], Convolution { strides: [4, 4], ..padded(4) }),
        case([1, 1, 4, 4], [1, 1, 4, 4], Convolution { strides: [2, 2], ..plain }),
        case([0, 2, 4, 4], [3, 2, 3, 3], plain),
        case([2, 0, 4, 4], [3, 0, 3, 3], plain),
        case([2, 2, 4, 4], [0, 2, 3, 3], plain),
        case([7, 3, 12, 12], [9, 3, 3, 3], padded(1)),
        case([1, 70, 20, 19], [5, 70, 3, 3], padded(1)),
        case([1, 1, 2, 300], [300, 1, 1, 2], Convolution { strides: [1, 2], ..plain }),
        case(
            [2, 20, 9, 10],
            [24, 10, 3, 3],
            Convolution { groups: 2, strides: [2, 2], ..padded(1) },
        ),
        case([2, 9, 16, 17], [66, 9, 3, 3], padded(1)),
    ]
}

pub(super) fn cases(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for case in table() {
            convolution(trial, dtype, &case);
        }
    }
}

fn convolution(trial: &mut Trial, dtype: Dtype, case: &Case) {
    let &Case { images, weights, convolution } = case;
    let (x, w) = (trial.random(dtype, &images), trial.random(dtype, &weights));
    let results = [images[0], weights[0], places(case, 2), places(case, 3)];
    let gradient = trial.random(dtype, &results);
    let mut sums = Sums::new(case, results);
    sums.add_up(&x, &w, &gradient);
    let within = |terms: u64| Tolerance::of_sum(dtype, 4.0 * terms.max(1) as f64);
    let expected = Host::of(dtype, &results, sums.results);
    let seen = weights[1] * weights[2] * weights[3];
    trial.operator(Kernel::Convolution(convolution), &[&x, &w], &expected, within(seen));
    let expected = Host::of(dtype, &images, sums.images);
    let kernel = Kernel::ConvolutionInputGradient(ConvolutionInputGradient {
        convolution,
        image: [images[2], images[3]],
    });
    let made = weights[0] * weights[2] * weights[3];
    trial.operator(kernel, &[&gradient, &w], &expected, within(made));
    let expected = Host::of(dtype, &weights, sums.weights);
    let kernel = Kernel::ConvolutionWeightGradient(ConvolutionWeightGradient {
        convolution,
        window: [weights[2], weights[3]],
    });
    let seen = results[0] * results[2] * results[3];
    trial.operator(kernel, &[&x, &gradient], &expected, within(seen));
}

fn places(case: &Case, axis: usize) -> u64 {
    let Convolution { strides, dilations, padding, .. } = case.convolution;
    let (before, after) = padding.sides()[axis - 2];
    let reach = (case.weights[axis] - 1) * u64::from(dilations[axis - 2]) + 1;
    (case.images[axis] + before + after - reach) / u64::from(strides[axis - 2]) + 1
}

/// Every product of a pixel and a weight, added to the result, and with the gradient of that
/// result to both gradients.
struct Sums<'a> {
    case: &'a Case,
    shape: [u64; 4],
    results: Vec<f64>,
    images: Vec<f64>,
    weights: Vec<f64>,
}

impl<'a> Sums<'a> {
    fn new(case: &'a Case, shape: [u64; 4]) -> Self {
        let zeros = |dims: [u64; 4]| vec![0.0; dims.iter().product::<u64>() as usize];
        let (images, weights) = (zeros(case.images), zeros(case.weights));
        Self { case, shape, results: zeros(shape), images, weights }
    }

    fn add_up(&mut self, x: &Host, w: &Host, gradient: &Host) {
        let Case { images, weights, convolution } = self.case;
        let Convolution { strides, dilations, padding, groups } = *convolution;
        let sides = padding.sides();
        let shape = self.shape;
        each_index(&shape, |result| {
            each_index(&weights[1..], |tap| {
                let pixel = [0, 1].map(|axis| {
                    let at = result[2 + axis] * u64::from(strides[axis])
                        + tap[1 + axis] * u64::from(dilations[axis]);
                    at.checked_sub(sides[axis].0).filter(|at| *at < images[2 + axis])
                });
                let [Some(row), Some(column)] = pixel else { return };
                let group = result[1] / (weights[0] / u64::from(groups));
                let pixel = [result[0], group * weights[1] + tap[0], row, column];
                let weight = [result[1], tap[0], tap[1], tap[2]];
                let result = place(&shape, result);
                let (pixel, weight) = (place(images, &pixel), place(weights, &weight));
                self.results[result] += x.values[pixel] * w.values[weight];
                self.images[pixel] += gradient.values[result] * w.values[weight];
                self.weights[weight] += gradient.values[result] * x.values[pixel];
            });
        });
    }
}

/// Where an element is in row-major order.
fn place(dims: &[u64], index: &[u64]) -> usize {
    dims.iter().zip(index).fold(0, |place, (dim, index)| place * dim + index) as usize
}
