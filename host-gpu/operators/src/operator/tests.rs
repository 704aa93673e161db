//! What operators refuse, and in which words.

mod training;

use super::*;
use crate::Layout;

fn tensor(dtype: Dtype, dims: &[u64]) -> Description {
    Description::new(dtype, Shape::new(dims).expect("a shape"))
}

fn f32s(dims: &[u64]) -> Description {
    tensor(Dtype::Fp32, dims)
}

fn ints(dims: &[u64]) -> Description {
    tensor(Dtype::Int64, dims)
}

fn message(kernel: Kernel, inputs: &[Description]) -> String {
    kernel.plan(inputs).expect_err("refused").to_string()
}

fn reduce(function: Reduction, axes: &[u8]) -> Kernel {
    Kernel::Reduce(Reduce { function, axes: axes.to_vec(), keep: false })
}

fn clamp(min: Scalar, max: Scalar) -> Kernel {
    Kernel::Clamp(Clamp { min: Some(min), max: Some(max) })
}

#[test]
fn refusals_name_the_operator_and_the_shapes() {
    use Kernel::*;
    let bools = tensor(Dtype::Bool, &[2]);
    let huge = f32s(&[1 << 40, 1]);
    let arg = ArgReduce(super::ArgReduce { extreme: Extreme::Max, axis: 0, keep: false });
    let fill = |value| Fill(super::Fill { dtype: Dtype::Uint8, shape: Shape::SCALAR, value });
    let norm = Norm { epsilon: f64::NAN };
    let cases = [
        (Matmul, vec![f32s(&[2, 3]), f32s(&[4, 5])], "matmul: 2x3 and 4x5: the inner sizes differ"),
        (
            Matmul,
            vec![f32s(&[2]), f32s(&[2, 2])],
            "matmul: 2 and 2x2: all need two dimensions or more",
        ),
        (
            Matmul,
            vec![f32s(&[2, 1, 1]), f32s(&[3, 1, 1])],
            "matmul: 2x1x1 and 3x1x1: the outer dimensions don't broadcast",
        ),
        (
            Matmul,
            vec![ints(&[1, 1]), ints(&[1, 1])],
            "matmul: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (
            Binary(super::Binary::Add),
            vec![f32s(&[2]), ints(&[2])],
            "add: FP32 and INT64 differ: cast one of them",
        ),
        (Binary(super::Binary::Add), vec![f32s(&[2])], "add: takes 2 inputs, got 1"),
        (
            Binary(super::Binary::Add),
            vec![f32s(&[2]), f32s(&[3])],
            "add: 2 and 3: the shapes don't broadcast",
        ),
        (
            Binary(super::Binary::Pow),
            vec![ints(&[2]), ints(&[2])],
            "pow: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (Unary(super::Unary::Not), vec![f32s(&[2])], "not: FP32 is not taken here, but BOOL"),
        (
            Logical(super::Logical::And),
            vec![bools, f32s(&[2])],
            "and: FP32 is not taken here, but BOOL",
        ),
        (
            Compare(Comparison::Lt),
            vec![bools, f32s(&[2])],
            "lt: BOOL and FP32 differ: cast one of them",
        ),
        (Where, vec![f32s(&[2]), bools, bools], "where: FP32 is not taken here, but BOOL"),
        (Copy, vec![], "copy: takes 1 inputs, got 0"),
        (fill(Scalar::Int(256)), vec![], "fill: Int(256) is no value of UINT8"),
        (fill(Scalar::Float(0.0)), vec![], "fill: Float(0.0) is no value of UINT8"),
        (
            clamp(Scalar::Float(1.0), Scalar::Float(0.0)),
            vec![f32s(&[2])],
            "clamp: min is not at most max",
        ),
        (
            clamp(Scalar::Int(1), Scalar::Int(2)),
            vec![f32s(&[2])],
            "clamp: Int(1) is no value of FP32",
        ),
        (reduce(Reduction::Sum, &[1]), vec![f32s(&[2])], "sum: 2: there is no axis 1"),
        (reduce(Reduction::Sum, &[0, 0]), vec![f32s(&[2])], "sum: axis 0 is named twice"),
        (
            reduce(Reduction::Max, &[0]),
            vec![f32s(&[0])],
            "max-along: 0: there is no element to choose",
        ),
        (arg, vec![f32s(&[0, 2])], "arg-max: 0x2: there is no element to choose"),
        (Softmax, vec![f32s(&[])], "softmax: scalar: a scalar has no rows"),
        (
            RmsNorm(norm),
            vec![f32s(&[2]), f32s(&[2])],
            "rms-norm: epsilon NaN is not finite and at least 0",
        ),
        (LayerNorm(norm), vec![f32s(&[2]), f32s(&[2])], "layer-norm: takes 3 inputs, got 2"),
        (
            RmsNorm(norm),
            vec![f32s(&[2]), f32s(&[3])],
            "rms-norm: 2 and 3: 3 is not as long as a row",
        ),
        (Concat(0), vec![], "concat: takes one or more inputs, got 0"),
        (
            Concat(0),
            vec![f32s(&[2, 2]), f32s(&[2, 3])],
            "concat: 2x2 and 2x3: they differ elsewhere than along axis 0",
        ),
        (
            Gather(0),
            vec![f32s(&[2]), f32s(&[2])],
            "gather: FP32 is not taken here, but INT32, INT64",
        ),
        (Gather(1), vec![f32s(&[2]), ints(&[2])], "gather: 2 and 2: there is no axis 1"),
        (
            ScatterAdd(0),
            vec![f32s(&[4, 2]), ints(&[3]), f32s(&[3])],
            "scatter-add: 4x2 and 3 and 3: the updates should be 3x2",
        ),
        (
            Matmul,
            vec![huge, f32s(&[1, 1 << 40])],
            "matmul: 1099511627776x1 and 1x1099511627776: the result: dimensions [1099511627776, 1099511627776] have too many elements",
        ),
    ];
    for (kernel, inputs, expected) in cases {
        assert_eq!(message(kernel, &inputs), expected);
    }
}

#[test]
fn orders_and_attention_refuse_in_the_same_words() {
    use Kernel::*;
    let (bools, scores) = (tensor(Dtype::Bool, &[2, 3]), tensor(Dtype::Fp64, &[2, 3]));
    let sort = |axis| Sort(super::Sort { axis, descending: false });
    let top = |count| TopK(super::TopK { axis: 1, count, largest: true });
    let histogram = |bins, min, max| Histogram(super::Histogram { bins, min, max });
    let attention = |scale| Attention(super::Attention { scale, causal: false });
    let plain = attention(None);
    let x = f32s(&[2, 3]);
    let cases = [
        (
            CumulativeSum(0),
            vec![bools],
            "cumulative-sum: BOOL is not taken here, but UINT8, INT32, INT64, FP16, BF16, FP32, FP64",
        ),
        (CumulativeSum(2), vec![x], "cumulative-sum: 2x3: there is no axis 2"),
        (CumulativeSum(0), vec![], "cumulative-sum: takes 1 inputs, got 0"),
        (sort(0), vec![x, x], "sort: takes 1 inputs, got 2"),
        (sort(0), vec![f32s(&[])], "sort: scalar: there is no axis 0"),
        (
            sort(0),
            vec![bools],
            "sort: BOOL is not taken here, but UINT8, INT32, INT64, FP16, BF16, FP32, FP64",
        ),
        (top(4), vec![x], "top-k: 2x3: 4 are more than there are along axis 1"),
        (top(1), vec![f32s(&[2])], "top-k: 2: there is no axis 1"),
        (histogram(0, 0.0, 1.0), vec![x], "histogram: 0 bins are not 1 to 65536"),
        (histogram(65_537, 0.0, 1.0), vec![x], "histogram: 65537 bins are not 1 to 65536"),
        (histogram(4, 1.0, 1.0), vec![x], "histogram: 1 to 1 can't be cut into 4 bins"),
        (histogram(4, 1.0, 0.0), vec![x], "histogram: 1 to 0 can't be cut into 4 bins"),
        (histogram(4, 0.0, f64::NAN), vec![x], "histogram: 0 to NaN can't be cut into 4 bins"),
        (histogram(4, 0.0, f64::INFINITY), vec![x], "histogram: 0 to inf can't be cut into 4 bins"),
        (
            histogram(4, 0.0, 1.0),
            vec![bools],
            "histogram: BOOL is not taken here, but UINT8, INT32, INT64, FP16, BF16, FP32, FP64",
        ),
        (
            Distances(Metric::Cosine),
            vec![x, f32s(&[4, 2])],
            "distances: 2x3 and 4x2: the rows are not as long",
        ),
        (
            Distances(Metric::Cosine),
            vec![x, f32s(&[3])],
            "distances: 2x3 and 3: all need two dimensions or more",
        ),
        (
            Distances(Metric::Cosine),
            vec![f32s(&[2, 1, 3]), f32s(&[3, 1, 3])],
            "distances: 2x1x3 and 3x1x3: the outer dimensions don't broadcast",
        ),
        (
            Distances(Metric::Cosine),
            vec![x, scores],
            "distances: FP32 and FP64 differ: cast one of them",
        ),
        (
            Distances(Metric::Cosine),
            vec![ints(&[2, 3]), x],
            "distances: INT64 is not taken here, but FP16, BF16, FP32, FP64",
        ),
        (plain.clone(), vec![x, x], "attention: takes 3 or 4 inputs, got 2"),
        (
            plain.clone(),
            vec![x, f32s(&[2, 4]), x],
            "attention: 2x3 and 2x4 and 2x3: queries and keys are not as wide",
        ),
        (
            plain.clone(),
            vec![x, x, f32s(&[3, 3])],
            "attention: 2x3 and 2x3 and 3x3: there is not a value for each key",
        ),
        (
            plain.clone(),
            vec![x, x, x, bools],
            "attention: 2x3 and 2x3 and 2x3 and 2x3: the mask does not broadcast to 2x2",
        ),
        (
            plain.clone(),
            vec![x, f32s(&[3, 3]), f32s(&[3, 3]), scores],
            "attention: FP32 and FP64 differ: cast one of them",
        ),
        (attention(Some(f64::NAN)), vec![x, x, x], "attention: scale NaN is not finite"),
    ];
    for (kernel, inputs, expected) in cases {
        assert_eq!(message(kernel, &inputs), expected);
    }
}

#[test]
fn more_parts_than_a_limit_are_not_joined_and_not_listed() {
    let parts = vec![f32s(&[1]); 1025];
    assert_eq!(message(Kernel::Concat(0), &parts), "concat: 1025 parts are more than 1024");
    let mut parts = vec![f32s(&[1]); 100];
    parts[99] = f32s(&[1, 1]);
    let message = message(Kernel::Concat(0), &parts);
    assert!(message.contains("92 more: they differ"), "{message}");
}

#[test]
fn views_refuse_what_they_can_not_show() {
    let x = f32s(&[2, 3]);
    let shape = |dims: &[u64]| Shape::new(dims).expect("a shape");
    let range = |end, step| Range { start: 0, end, step };
    let cases = [
        (View::Permute(vec![0, 0]), "permute: 2x3: the axes don't name each dimension once"),
        (View::Reshape(shape(&[5])), "reshape: 2x3: 5 has not as many elements"),
        (View::Broadcast(shape(&[3])), "broadcast: 2x3: it does not broadcast to 3"),
        (
            View::Slice(vec![range(2, 1), range(4, 1)]),
            "slice: 2x3: the ranges don't lie within the dimensions, or don't step",
        ),
    ];
    for (view, expected) in cases {
        let error = view.plan(&[(x, Layout::dense(x.shape))]).expect_err("refused");
        assert_eq!(error.to_string(), expected);
    }
    let error = View::Permute(vec![]).plan(&[]).expect_err("refused");
    assert_eq!(error.to_string(), "permute: takes 1 inputs, got 0");
}

#[test]
fn results_are_described_before_anything_is_computed() {
    let plan = |kernel: Kernel, inputs: &[Description]| {
        let plan = kernel.plan(inputs).expect("planned");
        (plan.outputs[0], plan.work)
    };
    assert_eq!(
        plan(Kernel::Matmul, &[f32s(&[5, 1, 2, 3]), f32s(&[4, 3, 7])]),
        (f32s(&[5, 4, 2, 7]), 20 * (2 * 7 * 3 + (2 + 7) * 3 * 16 + (1 << 15)))
    );
    assert_eq!(
        plan(Kernel::Gather(1), &[f32s(&[2, 3, 4]), ints(&[5, 6])]),
        (f32s(&[2, 5, 6, 4]), 2 * 5 * 6 * 4 + 30)
    );
    assert_eq!(plan(Kernel::Concat(1), &[f32s(&[2, 3]), f32s(&[2, 0])]), (f32s(&[2, 3]), 6));
    let sum = reduce(Reduction::Sum, &[1]);
    assert_eq!(plan(sum, &[tensor(Dtype::Uint8, &[2, 3])]), (ints(&[2]), 6));
    let mask = tensor(Dtype::Bool, &[2, 1]);
    let attention = Kernel::Attention(Attention { scale: None, causal: true });
    assert_eq!(
        plan(attention, &[f32s(&[4, 1, 2, 3]), f32s(&[5, 7, 3]), f32s(&[7, 6]), mask]),
        (f32s(&[4, 5, 2, 6]), {
            let loaded = 2 * 3 + 7 * (3 + 6);
            20 * (2 * 7 * (3 + 6 + 64) + loaded * 16 + (1 << 15) + 2 * 6)
        })
    );
    assert_eq!(
        plan(Kernel::Distances(Metric::Cosine), &[f32s(&[5, 1, 2, 3]), f32s(&[4, 7, 3])]),
        (f32s(&[5, 4, 2, 7]), 20 * (2 * 64 * 3 + (2 + 7) * 3 * 16 + (1 << 15)))
    );
    let histogram = Histogram { bins: 5, min: 0.0, max: 1.0 };
    assert_eq!(plan(Kernel::Histogram(histogram), &[f32s(&[2, 3])]), (ints(&[5]), 11));
    assert_eq!(plan(Kernel::CumulativeSum(0), &[tensor(Dtype::Uint8, &[3])]), (ints(&[3]), 3));
    let top = Kernel::TopK(TopK { axis: 0, count: 2, largest: true }).plan(&[f32s(&[5, 3])]);
    let top = top.expect("planned");
    assert_eq!((top.outputs, top.work), (vec![f32s(&[2, 3]), ints(&[2, 3])], 15 * 3));
    let empty = reduce(Reduction::Max, &[0]);
    assert_eq!(plan(empty, &[f32s(&[0, 0])]), (f32s(&[0]), 0));
}

#[test]
fn shapes_that_load_more_than_they_multiply_count_what_they_load() {
    const LIMIT: u64 = 1 << 36;
    let half = |dims: &[u64]| tensor(Dtype::Fp16, dims);
    let side = 1 << 12;
    let attention = Attention { scale: None, causal: false };
    let depthwise = Convolution { groups: 1 << 21, ..Convolution::default() };
    let gradient = |convolution| {
        Kernel::ConvolutionInputGradient(ConvolutionInputGradient { convolution, image: [1, 1] })
    };
    let by_weights = |convolution| {
        Kernel::ConvolutionWeightGradient(ConvolutionWeightGradient { convolution, window: [1, 1] })
    };
    let channels = half(&[1, 1 << 21, 1, 1]);
    let filters = half(&[1 << 21, 1, 1, 1]);
    // In products alone each of these would be within the limit of servers.
    let cases = [
        (Kernel::Matmul, vec![half(&[side, 1, 1, side]), half(&[1, side, side, 1])]),
        (Kernel::Matmul, vec![half(&[1 << 22, 1, 1]), half(&[1 << 22, 1, 1])]),
        (
            Kernel::Distances(Metric::Cosine),
            vec![half(&[side, 1, 1, side]), half(&[1, side, 1, side])],
        ),
        (
            Kernel::Distances(Metric::Euclidean),
            vec![half(&[1 << 22, 1, 1]), half(&[1 << 22, 1, 1])],
        ),
        (
            Kernel::Attention(attention),
            vec![half(&[side, 1, 1, side]), half(&[1, side / 2, 1, side]), half(&[1, 1])],
        ),
        (Kernel::Convolution(depthwise), vec![half(&[257, 1 << 21, 1, 1]), filters]),
        (gradient(depthwise), vec![half(&[257, 1 << 21, 1, 1]), filters]),
        (by_weights(depthwise), vec![half(&[257, 1 << 21, 1, 1]), half(&[257, 1 << 21, 1, 1])]),
    ];
    for (kernel, inputs) in cases {
        let work = kernel.plan(&inputs).expect("planned").work;
        assert!(work > LIMIT, "{}: {work}", kernel.name());
    }
    // What multiplies in earnest counts little else.
    let square = half(&[side, side]);
    let work = Kernel::Matmul.plan(&[square, square]).expect("planned").work;
    assert!(work < side * side * side * 17 / 16, "{work}");
    let work = Kernel::Convolution(depthwise).plan(&[channels, filters]).expect("planned").work;
    assert!(work <= LIMIT + (1 << 28), "{work}");
}

#[test]
fn operators_cross_processes_as_data() {
    let operators: [Operator; 3] = [
        Kernel::Reduce(Reduce { function: Reduction::Mean, axes: vec![0, 2], keep: true }).into(),
        Kernel::Clamp(Clamp { min: Some(Scalar::Int(-1)), max: None }).into(),
        View::Slice(vec![Range { start: 1, end: 5, step: 2 }]).into(),
    ];
    for operator in operators {
        let text = serde_json::to_string(&operator).expect("serialises");
        assert_eq!(serde_json::from_str::<Operator>(&text).expect("the same"), operator);
    }
}
