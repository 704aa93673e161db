//! What operators on images, losses, optimizers and random numbers refuse, and in which words.

use super::*;

fn refused(cases: &[(Kernel, Vec<Description>, &str)]) {
    for (kernel, inputs, expected) in cases {
        assert_eq!(message(kernel.clone(), inputs), *expected);
    }
}

fn convolution() -> super::Convolution {
    super::Convolution::default()
}

#[test]
fn convolutions_refuse_what_does_not_go_together() {
    use Kernel::Convolution as By;
    let (x, w) = (f32s(&[2, 4, 5, 6]), f32s(&[8, 4, 3, 3]));
    let by = |change: fn(&mut super::Convolution)| {
        let mut convolution = convolution();
        change(&mut convolution);
        By(convolution)
    };
    let even = |pixels| super::Convolution { padding: Padding::even(pixels), ..convolution() };
    refused(&[
        (By(convolution()), vec![x], "convolution: takes 2 inputs, got 1"),
        (
            By(convolution()),
            vec![x, tensor(Dtype::Fp16, &[8, 4, 3, 3])],
            "convolution: FP32 and FP16 differ: cast one of them",
        ),
        (
            By(convolution()),
            vec![ints(&[2, 4, 5, 6]), ints(&[8, 4, 3, 3])],
            "convolution: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (
            By(convolution()),
            vec![f32s(&[4, 5, 6]), w],
            "convolution: 4x5x6 and 8x4x3x3: 4x5x6 has not the four dimensions of images",
        ),
        (
            By(convolution()),
            vec![x, f32s(&[8, 4, 3])],
            "convolution: 2x4x5x6 and 8x4x3: 8x4x3 has not the four dimensions of weights",
        ),
        (
            By(convolution()),
            vec![x, f32s(&[8, 3, 3, 3])],
            "convolution: 2x4x5x6 and 8x3x3x3: 1 groups of 3 channels are not the 4 of the images",
        ),
        (
            by(|convolution| convolution.groups = 3),
            vec![x, w],
            "convolution: 2x4x5x6 and 8x4x3x3: 8 channels can't be divided into 3 groups",
        ),
        (by(|by| by.groups = 0), vec![x, w], "convolution: 0 groups have no channels"),
        (by(|by| by.strides[1] = 0), vec![x, w], "convolution: a stride of 0 goes nowhere"),
        (by(|by| by.dilations[0] = 0), vec![x, w], "convolution: a dilation of 0 looks nowhere"),
        (By(convolution()), vec![x, f32s(&[8, 4, 3, 0])], "convolution: the window has no pixel"),
        (
            By(even(1)),
            vec![f32s(&[2, 4, 0, 6]), w],
            "convolution: 2x4x0x6 and 8x4x3x3: the images have no pixel",
        ),
        (
            by(|by| by.dilations[0] = u32::MAX),
            vec![x, w],
            "convolution: 2x4x5x6 and 8x4x3x3: a window over 8589934591 pixels is larger than 5",
        ),
        (
            By(even(u32::MAX)),
            vec![f32s(&[2, 1, 5, 6]), f32s(&[8, 1, 1, 1])],
            "convolution: 2x1x5x6 and 8x1x1x1: the result: dimensions [2, 8, 8589934595, \
             8589934596] have too many elements",
        ),
    ]);
}

#[test]
fn gradients_of_convolutions_are_shaped_as_results() {
    let convolution = convolution();
    let by_input = |image| {
        Kernel::ConvolutionInputGradient(super::ConvolutionInputGradient { convolution, image })
    };
    let by_weights = |window| {
        Kernel::ConvolutionWeightGradient(super::ConvolutionWeightGradient { convolution, window })
    };
    let two = super::Convolution { groups: 2, ..convolution };
    let of_two = super::ConvolutionWeightGradient { convolution: two, window: [3, 3] };
    refused(&[
        (
            by_input([6, 6]),
            vec![f32s(&[2, 8, 3, 4]), f32s(&[8, 4, 3, 3])],
            "convolution-input-gradient: 2x8x3x4 and 8x4x3x3: the gradient should be 2x8x4x4",
        ),
        (
            by_input([u64::MAX, 6]),
            vec![f32s(&[2, 8, 3, 4]), f32s(&[8, 4, 3, 3])],
            "convolution-input-gradient: 2x8x3x4 and 8x4x3x3: the result: dimensions [2, 8, \
             18446744073709551613, 4] have too many elements",
        ),
        (
            by_weights([3, 3]),
            vec![f32s(&[2, 4, 5, 6]), f32s(&[3, 8, 3, 4])],
            "convolution-weight-gradient: 2x4x5x6 and 3x8x3x4: the gradient should be 2x8x3x4",
        ),
        (
            by_weights([u64::MAX, 3]),
            vec![f32s(&[2, 4, 5, 6]), f32s(&[2, 8, 3, 4])],
            "convolution-weight-gradient: 2x4x5x6 and 2x8x3x4: a window over \
             18446744073709551615 pixels is larger than 5",
        ),
        (
            Kernel::ConvolutionWeightGradient(of_two),
            vec![f32s(&[2, 3, 5, 6]), f32s(&[2, 8, 3, 4])],
            "convolution-weight-gradient: 2x3x5x6 and 2x8x3x4: 3 channels can't be divided into \
             2 groups",
        ),
    ]);
}

#[test]
fn pools_refuse_windows_that_see_nothing() {
    let x = f32s(&[1, 2, 4, 4]);
    let pool = |window, strides, padding| Pool { window, strides, padding };
    let padding = Padding { top: 0, bottom: 2, left: 0, right: 0 };
    let gradient = super::AveragePoolGradient { pool: Pool::squares(2), image: [5, 7] };
    refused(&[
        (
            Kernel::MaxPool(Pool::squares(2)),
            vec![f32s(&[4, 4])],
            "max-pool: 4x4: 4x4 has not the four dimensions of images",
        ),
        (
            Kernel::MaxPool(Pool::squares(2)),
            vec![ints(&[1, 2, 4, 4])],
            "max-pool: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (
            Kernel::AveragePool(pool([0, 2], [1; 2], Padding::default())),
            vec![x],
            "average-pool: the window has no pixel",
        ),
        (
            Kernel::MaxPool(pool([2; 2], [0; 2], Padding::default())),
            vec![x],
            "max-pool: a stride of 0 goes nowhere",
        ),
        (
            Kernel::MaxPool(Pool::squares(5)),
            vec![x],
            "max-pool: 1x2x4x4: a window over 5 pixels is larger than 4",
        ),
        (
            Kernel::MaxPool(pool([2; 2], [1; 2], padding)),
            vec![x],
            "max-pool: a window over 2 pixels could lie in the padding alone",
        ),
        (
            Kernel::AveragePool(Pool::squares(2)),
            vec![f32s(&[1, 2, 0, 4])],
            "average-pool: 1x2x0x4: the images have no pixel",
        ),
        (
            Kernel::MaxPoolGradient(Pool::squares(2)),
            vec![x, f32s(&[1, 2, 3, 2])],
            "max-pool-gradient: 1x2x4x4 and 1x2x3x2: the gradient should be 1x2x2x2",
        ),
        (
            Kernel::AveragePoolGradient(gradient),
            vec![f32s(&[1, 2, 2, 2])],
            "average-pool-gradient: 1x2x2x2: the gradient should be 1x2x2x3",
        ),
    ]);
}

#[test]
fn losses_and_steps_refuse_what_does_not_go_together() {
    let entropy =
        |smoothing| Kernel::CrossEntropy(super::CrossEntropy { ignored: None, smoothing });
    let sgd = |rate, momentum, nesterov| {
        Kernel::Sgd(super::Sgd { rate, momentum, weight_decay: 0.0, nesterov })
    };
    let adam = |betas, step, epsilon| {
        let (rate, weight_decay, decoupled) = (0.1, 0.0, false);
        Kernel::Adam(super::Adam { rate, betas, epsilon, weight_decay, decoupled, step })
    };
    let (p, half) = (f32s(&[2, 3]), tensor(Dtype::Bf16, &[2, 3]));
    let four = vec![p; 4];
    refused(&[
        (entropy(0.0), vec![p], "cross-entropy: takes 2 inputs, got 1"),
        (
            entropy(0.0),
            vec![p, f32s(&[2])],
            "cross-entropy: FP32 is not taken here, but INT32, INT64",
        ),
        (entropy(0.0), vec![p, ints(&[3])], "cross-entropy: 2x3 and 3: the labels should be 2"),
        (
            entropy(0.0),
            vec![f32s(&[]), ints(&[])],
            "cross-entropy: scalar and scalar: a scalar has no rows",
        ),
        (
            entropy(0.0),
            vec![f32s(&[2, 0]), ints(&[2])],
            "cross-entropy: 2x0 and 2: there is no class",
        ),
        (entropy(f64::NAN), vec![p, ints(&[2])], "cross-entropy: smoothing NaN is not from 0 to 1"),
        (sgd(-1.0, 0.0, false), vec![p; 2], "sgd: rate -1 is not finite and at least 0"),
        (sgd(0.1, 0.0, true), vec![p; 2], "sgd: there is no momentum to look ahead along"),
        (sgd(0.1, 0.0, false), vec![p; 3], "sgd: takes 2 inputs, got 3"),
        (sgd(0.1, 0.9, false), vec![p; 2], "sgd: takes 3 inputs, got 2"),
        (
            sgd(0.1, 0.0, false),
            vec![p, f32s(&[3, 2])],
            "sgd: 2x3 and 3x2: they should all be shaped alike",
        ),
        (sgd(0.1, 0.9, false), vec![half; 3], "sgd: FP32 and BF16 differ: cast one of them"),
        (adam([0.9, 1.0], 1, 0.0), four.clone(), "adam: beta 1 is not from 0 to below 1"),
        (adam([0.9; 2], 0, 0.0), four.clone(), "adam: steps are counted from 1"),
        (adam([0.9; 2], 1, f64::INFINITY), four, "adam: epsilon inf is not finite and at least 0"),
        (
            adam([0.9; 2], 1, 0.0),
            vec![ints(&[2]); 4],
            "adam: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
    ]);
}

#[test]
fn random_numbers_are_floats_and_take_blocks_of_their_stream() {
    let random = |dtype, dims: &[u64]| super::Random {
        distribution: Distribution::Normal,
        dtype,
        shape: Shape::new(dims).expect("a shape"),
        seed: 0,
        offset: 0,
    };
    refused(&[
        (
            Kernel::Random(random(Dtype::Int32, &[2])),
            vec![],
            "random: INT32 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (
            Kernel::Random(random(Dtype::Fp32, &[2])),
            vec![f32s(&[2])],
            "random: takes 0 inputs, got 1",
        ),
    ]);
    let blocks =
        [(Dtype::Fp32, 9, 3), (Dtype::Bf16, 8, 2), (Dtype::Fp64, 9, 5), (Dtype::Fp16, 0, 0)];
    for (dtype, elements, blocks) in blocks {
        assert_eq!(random(dtype, &[elements]).blocks(), blocks);
    }
}

#[test]
fn what_comes_of_images_and_losses_is_described_before_it_is_computed() {
    let plan = |kernel: Kernel, inputs: &[Description]| {
        let plan = kernel.plan(inputs).expect("planned");
        (plan.outputs, plan.work)
    };
    let by = super::Convolution { strides: [2, 1], groups: 2, ..convolution() };
    let made = f32s(&[3, 8, 2, 3]);
    assert_eq!(
        plan(Kernel::Convolution(by), &[f32s(&[3, 4, 6, 5]), f32s(&[8, 2, 3, 3])]),
        (vec![made], 3 * 6 * (8 + 2 * 16) * 18 + 8 * 18 * 16 + (2 << 15) + 3 * 8 * 6)
    );
    let gradient = super::ConvolutionInputGradient { convolution: by, image: [6, 5] };
    assert_eq!(
        plan(Kernel::ConvolutionInputGradient(gradient), &[made, f32s(&[8, 2, 3, 3])]),
        (
            vec![f32s(&[3, 4, 6, 5])],
            3 * 30 * (4 + 2 * 16) * 36 + 4 * 36 * 16 + (2 << 15) + 3 * 4 * 30
        )
    );
    let half = |dims: &[u64]| tensor(Dtype::Fp16, dims);
    assert_eq!(
        plan(
            Kernel::CrossEntropy(super::CrossEntropy::default()),
            &[half(&[2, 3, 5]), ints(&[2, 3])]
        ),
        (vec![half(&[2, 3]), half(&[2, 3, 5])], 30)
    );
    let sgd = super::Sgd { rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false };
    assert_eq!(
        plan(Kernel::Sgd(sgd), &[half(&[4]), half(&[4]), f32s(&[4])]).0,
        vec![half(&[4]), f32s(&[4])]
    );
}
