//! How fast the CPU device is, beside what this machine can do at most: products and convolutions
//! beside the bare multiplication, everything else beside copying memory, in the same run. Asserts nothing.
//!
//! `cargo run --release -p quern-kernels --example speed [THREADS]`

use std::{
    hint::black_box,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use quern_kernels::{CpuDevice, Session, SessionLimits, TensorId};
use quern_operators::{
    Adam, Binary, Convolution, ConvolutionInputGradient, ConvolutionWeightGradient, CrossEntropy,
    Description, Distribution, Dtype, Kernel, Norm, Operator, Padding, Pool, Random, Reduce,
    Reduction, Sgd, Shape, Unary, View,
};

/// How long each thing is repeated.
const PERIOD: Duration = Duration::from_millis(400);

fn main() {
    let threads = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let threads = threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.unwrap_or(NonZeroUsize::MIN);
    let device = CpuDevice::new(threads).expect("threads");
    let limits = SessionLimits::of_bytes(4 << 30);
    let mut session = Session::open(&device, limits).expect("a session");
    println!("{threads} threads; the best of many runs\n");
    products(&mut session, threads);
    let copy = copy_rate(1 << 24, threads);
    println!("\nmemory of 64 MiB copied by as many threads: {copy:.1} GB/s, read and written\n");
    println!("| operator | dtype | shape | GB/s | of copying |");
    println!("|---|---|---|---|---|");
    for dtype in [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16] {
        streams(&mut session, dtype, copy);
        training(&mut session, dtype, copy);
    }
    convolutions(&mut session, threads);
}

/// The shortest time that something takes.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < PERIOD {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

fn tensor(session: &mut Session, dtype: Dtype, dims: &[u64]) -> TensorId {
    let shape = Shape::new(dims).expect("a shape");
    let count = shape.elements() as usize;
    let values: Vec<u8> =
        (0..count).flat_map(|place| ((place * 37 % 101) as f32 / 101.0).to_le_bytes()).collect();
    let floats = session.upload(Description::new(Dtype::Fp32, shape), &values).expect("room");
    let cast = session.run(&Kernel::Cast(dtype).into(), &[floats]).expect("room")[0];
    session.release(floats).expect("a tensor");
    cast
}

fn time(session: &mut Session, kernel: &Operator, inputs: &[TensorId]) -> f64 {
    best(|| {
        let outputs = session.run(kernel, inputs).expect("computed");
        session.finish().expect("computed");
        outputs.into_iter().for_each(|output| session.release(output).expect("a tensor"));
    })
}

fn products(session: &mut Session, threads: NonZeroUsize) {
    println!("| matmul | dtype | GFLOP/s | of bare gemm in FP32 |");
    println!("|---|---|---|---|");
    for size in [64, 256, 1024, 2048] {
        let operations = 2.0 * (size as f64).powi(3);
        let bare = operations / bare_gemm(size, threads) / 1e9;
        for dtype in [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16] {
            let factors = [(); 2].map(|()| tensor(session, dtype, &[size as u64; 2]));
            let rate = operations / time(session, &Kernel::Matmul.into(), &factors) / 1e9;
            println!("| {size} | {dtype} | {rate:.0} | {:.2} of {bare:.0} |", rate / bare);
            factors.into_iter().for_each(|id| session.release(id).expect("a tensor"));
        }
    }
}

/// Seconds for a product of square matrices that nothing is done around.
fn bare_gemm(size: usize, threads: NonZeroUsize) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
    let pool = pool.expect("threads");
    let (left, right) = (vec![0.5f32; size * size], vec![0.25f32; size * size]);
    let mut out = vec![0.0f32; size * size];
    let stride = size as isize;
    best(|| {
        pool.install(|| {
            // SAFETY: all three slices hold `size` rows of `size`, and `out` is borrowed alone.
            unsafe {
                gemm::gemm(
                    size,
                    size,
                    size,
                    out.as_mut_ptr(),
                    1,
                    stride,
                    false,
                    left.as_ptr(),
                    1,
                    stride,
                    right.as_ptr(),
                    1,
                    stride,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(threads.get()),
                );
            }
        });
        black_box(&mut out);
    })
}

/// GB/s of copying so many floats, counted once for reading and once for writing.
fn copy_rate(floats: usize, threads: NonZeroUsize) -> f64 {
    let (from, mut to) = (vec![1.0f32; floats], vec![0.0f32; floats]);
    let part = floats.div_ceil(threads.get());
    let seconds = best(|| {
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        black_box(&mut to);
    });
    (8 * floats) as f64 / seconds / 1e9
}

/// Convolutions of a small network and of layers of ResNet-18, eight images at a time.
fn convolutions(session: &mut Session, threads: NonZeroUsize) {
    let bare = 2.0 * 1024f64.powi(3) / bare_gemm(1024, threads) / 1e9;
    println!("\nGFLOP/s; bare gemm of 1024 in FP32: {bare:.0}\n");
    println!("| images | weights | stride | dtype | forward | by images | by weights |");
    println!("|---|---|---|---|---|---|---|");
    let table = [
        ([64, 1, 8, 8], [16, 1, 3, 3], 1),
        ([64, 16, 8, 8], [32, 16, 3, 3], 1),
        ([8, 64, 56, 56], [64, 64, 3, 3], 1),
        ([8, 128, 28, 28], [128, 128, 3, 3], 1),
        ([8, 256, 14, 14], [256, 256, 3, 3], 1),
        ([1, 256, 14, 14], [256, 256, 3, 3], 1),
        ([8, 512, 7, 7], [512, 512, 3, 3], 1),
        ([8, 64, 56, 56], [128, 64, 3, 3], 2),
        ([8, 256, 28, 28], [64, 256, 1, 1], 1),
    ];
    for (images, weights, stride) in table {
        for dtype in [Dtype::Fp32, Dtype::Bf16] {
            let padding = Padding::even(weights[2] as u32 / 2);
            let convolution = Convolution { strides: [stride; 2], padding, ..Default::default() };
            let (x, w) = (tensor(session, dtype, &images), tensor(session, dtype, &weights));
            let forward = Kernel::Convolution(convolution).into();
            let made = session.run(&forward, &[x, w]).expect("computed")[0];
            let results = session.describe(made).expect("a tensor").shape.elements();
            let work = 2.0 * (results * weights[1..].iter().product::<u64>()) as f64;
            let by_input = ConvolutionInputGradient { convolution, image: [images[2], images[3]] };
            let window = [weights[2], weights[3]];
            let by_weights = ConvolutionWeightGradient { convolution, window };
            let seconds = [
                time(session, &forward, &[x, w]),
                time(session, &Kernel::ConvolutionInputGradient(by_input).into(), &[made, w]),
                time(session, &Kernel::ConvolutionWeightGradient(by_weights).into(), &[x, made]),
            ];
            let rates = seconds.map(|seconds| format!("{:.0}", work / seconds / 1e9)).join(" | ");
            println!("| {images:?} | {weights:?} | {stride} | {dtype} | {rates} |");
            [x, w, made].into_iter().for_each(|id| session.release(id).expect("a tensor"));
        }
    }
}

/// What trains a model and is mostly memory.
fn training(session: &mut Session, dtype: Dtype, copy: f64) {
    let dims = [4096, 4096];
    let x = tensor(session, dtype, &dims);
    let kept = if dtype.size() < 4 { Dtype::Fp32 } else { dtype };
    let moment = tensor(session, kept, &dims);
    let shape = Shape::new(&dims).expect("a shape");
    let labels = Description::new(Dtype::Int64, Shape::new(&dims[..1]).expect("a shape"));
    let labels = session.upload(labels, &[0; 8 * 4096]).expect("room");
    let planes = View::Reshape(Shape::new(&[16, 16, 256, 256]).expect("a shape"));
    let planes = session.run(&planes.into(), &[x]).expect("a view")[0];
    let random =
        |distribution| Kernel::Random(Random { distribution, dtype, shape, seed: 1, offset: 0 });
    let sgd = Sgd { rate: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false };
    let adam = Adam {
        rate: 0.1,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 10,
    };
    let (size, wide) = (dtype.size() as f64, kept.size() as f64);
    let table: [(&str, Kernel, Vec<TensorId>, f64); 7] = [
        (
            "cross-entropy",
            Kernel::CrossEntropy(CrossEntropy::default()),
            vec![x, labels],
            2.0 * size,
        ),
        ("SGD", Kernel::Sgd(sgd), vec![x, x, moment], 3.0 * size + 2.0 * wide),
        ("Adam", Kernel::Adam(adam), vec![x, x, moment, moment], 3.0 * size + 4.0 * wide),
        ("uniform", random(Distribution::Uniform), vec![], size),
        ("normal", random(Distribution::Normal), vec![], size),
        ("max-pool of 2", Kernel::MaxPool(Pool::squares(2)), vec![planes], 1.25 * size),
        ("average-pool of 2", Kernel::AveragePool(Pool::squares(2)), vec![planes], 1.25 * size),
    ];
    for (name, kernel, inputs, bytes) in table {
        let rate = bytes * (4096 * 4096) as f64 / time(session, &kernel.into(), &inputs) / 1e9;
        println!("| {name} | {dtype} | 4096x4096 | {rate:.1} | {:.2} |", rate / copy);
    }
    let all = [x, moment, labels, planes];
    all.into_iter().for_each(|id| session.release(id).expect("a tensor"));
}

/// Operators that are mostly memory.
fn streams(session: &mut Session, dtype: Dtype, copy: f64) {
    let dims = [4096, 4096];
    let x = tensor(session, dtype, &dims);
    let (row, other) = (tensor(session, dtype, &dims[1..]), tensor(session, dtype, &dims));
    let turned = session.run(&View::Permute(vec![1, 0]).into(), &[x]).expect("a view")[0];
    let sum =
        |axis| Kernel::Reduce(Reduce { function: Reduction::Sum, axes: vec![axis], keep: false });
    let norm = Norm { epsilon: 1e-5 };
    let size = (dims[0] * dims[1] * dtype.size()) as f64;
    let table: [(&str, Kernel, Vec<TensorId>, f64); 12] = [
        ("copy", Kernel::Copy, vec![x], 2.0),
        ("copy, turned", Kernel::Copy, vec![turned], 2.0),
        ("add", Kernel::Binary(Binary::Add), vec![x, other], 3.0),
        ("add a row", Kernel::Binary(Binary::Add), vec![x, row], 2.0),
        ("exp", Kernel::Unary(Unary::Exp), vec![x], 2.0),
        ("gelu", Kernel::Unary(Unary::Gelu), vec![x], 2.0),
        ("sum of rows", sum(1), vec![x], 1.0),
        ("sum of columns", sum(0), vec![x], 1.0),
        ("softmax", Kernel::Softmax, vec![x], 2.0),
        ("layer norm", Kernel::LayerNorm(norm), vec![x, row, row], 2.0),
        ("RMS norm", Kernel::RmsNorm(norm), vec![x, row], 2.0),
        ("tanh", Kernel::Unary(Unary::Tanh), vec![x], 2.0),
    ];
    for (name, kernel, inputs, passes) in table {
        let rate = passes * size / time(session, &kernel.into(), &inputs) / 1e9;
        println!("| {name} | {dtype} | 4096x4096 | {rate:.1} | {:.2} |", rate / copy);
    }
    [x, row, other, turned].into_iter().for_each(|id| session.release(id).expect("a tensor"));
}
