//! What trains a model comes out the same however it is computed: with any number of threads, and
//! random numbers in one piece or in several.

use std::num::NonZeroUsize;

use quern_kernels::{CpuDevice, Session, SessionLimits};
use quern_operators::{
    Adam, Convolution, ConvolutionInputGradient, ConvolutionWeightGradient, CrossEntropy,
    Description, Distribution, Dtype, Kernel, Padding, Pool, Random, Shape,
};

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).expect("a shape")
}

/// All outputs of a kernel, of inputs that a random stream gives; labels are 0.
fn outputs(threads: usize, kernel: &Kernel, inputs: &[(Dtype, &[u64])]) -> Vec<Vec<u8>> {
    let device = CpuDevice::new(NonZeroUsize::new(threads).expect("some")).expect("threads");
    let mut session = Session::open(&device, SessionLimits::of_bytes(1 << 26)).expect("opened");
    let mut ids = Vec::new();
    for (seed, (dtype, dims)) in inputs.iter().enumerate() {
        ids.push(if dtype.is_float() {
            let random = stream(Distribution::Uniform, *dtype, dims, seed as u64, 0);
            session.run(&Kernel::Random(random).into(), &[]).expect("computed")[0]
        } else {
            let description = Description::new(*dtype, shape(dims));
            let zeros = vec![0; description.bytes() as usize];
            session.upload(description, &zeros).expect("room")
        });
    }
    let outputs = session.run(&kernel.clone().into(), &ids).expect("computed");
    outputs.into_iter().map(|output| session.read(output).expect("computed")).collect()
}

fn stream(
    distribution: Distribution,
    dtype: Dtype,
    dims: &[u64],
    seed: u64,
    offset: u64,
) -> Random {
    Random { distribution, dtype, shape: shape(dims), seed, offset }
}

#[test]
fn threads_change_nothing() {
    let convolution = Convolution { padding: Padding::even(1), ..Default::default() };
    let by_input = ConvolutionInputGradient { convolution, image: [40, 40] };
    let by_weights = ConvolutionWeightGradient { convolution, window: [3, 3] };
    let adam = Adam {
        rate: 0.1,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 1,
    };
    let float = |dims| (Dtype::Fp32, dims);
    let (one, many): (&[u64], &[u64]) = (&[1, 16, 40, 40], &[9, 16, 40, 40]);
    let (weights, grown): (&[u64], &[u64]) = (&[24, 16, 3, 3], &[9, 24, 40, 40]);
    let (rows, labels): (&[u64], &[u64]) = (&[3_000, 70], &[3_000]);
    let normal = stream(Distribution::Normal, Dtype::Fp32, &[300_001], 3, 0);
    let table = [
        (Kernel::Convolution(convolution), vec![float(one), float(weights)]),
        (Kernel::Convolution(convolution), vec![float(many), float(weights)]),
        (Kernel::ConvolutionInputGradient(by_input), vec![float(grown), float(weights)]),
        (Kernel::ConvolutionWeightGradient(by_weights), vec![float(many), float(grown)]),
        (Kernel::MaxPoolGradient(Pool::squares(1)), vec![float(many); 2]),
        (Kernel::CrossEntropy(CrossEntropy::default()), vec![float(rows), (Dtype::Int64, labels)]),
        (Kernel::Adam(adam), vec![float(rows); 4]),
        (Kernel::Random(normal), vec![]),
    ];
    for (kernel, inputs) in table {
        let alone = outputs(1, &kernel, &inputs);
        for threads in [2, 5] {
            assert!(alone == outputs(threads, &kernel, &inputs), "{kernel:?}, {threads} threads");
        }
    }
}

#[test]
fn a_stream_goes_on_where_a_tensor_ends() {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for distribution in [Distribution::Uniform, Distribution::Normal] {
            let of = |dims, offset| stream(distribution, dtype, dims, 11, offset);
            let drawn = |random| outputs(2, &Kernel::Random(random), &[]).concat();
            let first = of(&[1_000], 5);
            let parts = [drawn(first), drawn(of(&[500], 5 + first.blocks()))].concat();
            assert!(parts == drawn(of(&[1_500], 5)), "{distribution:?} of {dtype}");
            assert!(parts != drawn(of(&[1_500], 6)), "another place of the stream");
        }
    }
}
