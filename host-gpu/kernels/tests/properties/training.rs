//! Operators on images, losses, optimizers and random numbers, most of them of a kind that small
//! tensors fit, some not.

use proptest::prelude::*;
use quern_operators::{
    Adam, AveragePoolGradient, Convolution, ConvolutionInputGradient, ConvolutionWeightGradient,
    CrossEntropy, Distribution, Dtype, Kernel, Padding, Pool, Random, Sgd, Shape,
};

fn extent() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 1..3u32, 1 => Just(0), 1 => any::<u32>()]
}

/// Most often as much as keeps the size of an image under windows of three.
fn convolution() -> impl Strategy<Value = Convolution> {
    let same = Convolution { padding: Padding::even(1), ..Convolution::default() };
    let any = ([extent(), extent()], [extent(), extent()], padding(), extent());
    prop_oneof![
        4 => Just(same),
        1 => any.prop_map(|(strides, dilations, padding, groups)| {
            Convolution { strides, dilations, padding, groups }
        }),
    ]
}

fn padding() -> impl Strategy<Value = Padding> {
    let sides = (extent(), extent(), extent(), extent());
    sides.prop_map(|(top, bottom, left, right)| Padding { top, bottom, left, right })
}

fn pool() -> impl Strategy<Value = Pool> {
    let same = Pool { window: [3; 2], strides: [1; 2], padding: Padding::even(1) };
    let any = ([extent(), extent()], [extent(), extent()], padding());
    prop_oneof![
        3 => Just(same),
        2 => Just(Pool::squares(2)),
        1 => any.prop_map(|(window, strides, padding)| Pool { window, strides, padding }),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![10 => Just(0.5), 1 => Just(0.0), 1 => any::<f64>()]
}

fn optimizer() -> impl Strategy<Value = Kernel> {
    let sgd = (number(), number(), number(), any::<bool>());
    let sgd = sgd.prop_map(|(rate, momentum, weight_decay, nesterov)| {
        Kernel::Sgd(Sgd { rate, momentum, weight_decay, nesterov })
    });
    let adam = ([number(), number(), number()], [number(), number()], any::<bool>(), 0..u64::MAX);
    let adam = adam.prop_map(|([rate, epsilon, weight_decay], betas, decoupled, step)| {
        Kernel::Adam(Adam { rate, betas, epsilon, weight_decay, decoupled, step })
    });
    prop_oneof![sgd, adam]
}

fn random() -> impl Strategy<Value = Kernel> {
    let dtype = proptest::sample::select(&Dtype::ALL[4..]);
    (any::<bool>(), dtype, any::<u64>(), any::<u64>()).prop_map(|(normal, dtype, seed, offset)| {
        let distribution = if normal { Distribution::Normal } else { Distribution::Uniform };
        Kernel::Random(Random { distribution, dtype, shape: Shape::SCALAR, seed, offset })
    })
}

pub(crate) fn kernel() -> impl Strategy<Value = Kernel> {
    let size = || prop_oneof![3 => Just([3, 3]), 1 => [1..6u64, 1..6u64]];
    let entropy = (proptest::option::of(0..3i64), number());
    prop_oneof![
        convolution().prop_map(Kernel::Convolution),
        (convolution(), size()).prop_map(|(convolution, image)| {
            Kernel::ConvolutionInputGradient(ConvolutionInputGradient { convolution, image })
        }),
        (convolution(), size()).prop_map(|(convolution, window)| {
            Kernel::ConvolutionWeightGradient(ConvolutionWeightGradient { convolution, window })
        }),
        pool().prop_map(Kernel::MaxPool),
        pool().prop_map(Kernel::MaxPoolGradient),
        pool().prop_map(Kernel::AveragePool),
        (pool(), size()).prop_map(|(pool, image)| {
            Kernel::AveragePoolGradient(AveragePoolGradient { pool, image })
        }),
        entropy.prop_map(|(ignored, smoothing)| {
            Kernel::CrossEntropy(CrossEntropy { ignored, smoothing })
        }),
        optimizer(),
        random(),
    ]
}
