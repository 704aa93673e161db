//! What comes out never depends on how many threads compute it.

use std::num::NonZeroUsize;

use quern_kernels::{CpuDevice, Session, SessionLimits};
use quern_operators::{
    Attention, Description, Dtype, Histogram, Kernel, Metric, Norm, Reduce, Reduction, Shape, Sort,
    TopK,
};

/// All outputs of a kernel, of inputs whose elements look random.
fn outputs(threads: usize, kernel: &Kernel, shapes: &[&[u64]]) -> Vec<Vec<u8>> {
    let device = CpuDevice::new(NonZeroUsize::new(threads).expect("some")).expect("threads");
    let mut session = Session::open(&device, SessionLimits::of_bytes(1 << 26)).expect("opened");
    let mut ids = Vec::new();
    for dims in shapes {
        let shape = Shape::new(dims).expect("a shape");
        let value = |place: u64| ((place * 7_919 % 10_007) as f32 / 1_001.0 - 4.0).sin();
        let elements: Vec<_> =
            (0..shape.elements()).flat_map(|place| value(place).to_le_bytes()).collect();
        let description = Description::new(Dtype::Fp32, shape);
        ids.push(session.upload(description, &elements).expect("room"));
    }
    let outputs = session.run(&kernel.clone().into(), &ids).expect("computed");
    outputs.into_iter().map(|output| session.read(output).expect("computed")).collect()
}

#[test]
fn results_are_the_same_with_any_number_of_threads() {
    let sum =
        |axis| Kernel::Reduce(Reduce { function: Reduction::Sum, axes: vec![axis], keep: false });
    let attention = Kernel::Attention(Attention { scale: None, causal: true });
    let histogram = Kernel::Histogram(Histogram { bins: 100, min: -0.5, max: 0.5 });
    let long: &[u64] = &[300_001];
    let table: [(Kernel, Vec<&[u64]>); 13] = [
        (sum(0), vec![long]),
        (sum(0), vec![&[700, 500]]),
        (sum(1), vec![&[700, 500]]),
        (Kernel::CumulativeSum(0), vec![long]),
        (Kernel::CumulativeSum(0), vec![&[700, 500]]),
        (histogram, vec![long]),
        (Kernel::Sort(Sort { axis: 0, descending: true }), vec![&[700, 500]]),
        (Kernel::TopK(TopK { axis: 1, count: 7, largest: true }), vec![&[700, 500]]),
        (Kernel::Distances(Metric::Cosine), vec![&[150, 300], &[170, 300]]),
        (Kernel::Matmul, vec![&[500, 170], &[170, 200]]),
        (Kernel::Softmax, vec![&[300, 1_100]]),
        (attention, vec![&[3, 300, 40], &[3, 300, 40], &[3, 300, 40]]),
        (Kernel::LayerNorm(Norm { epsilon: 1e-5 }), vec![&[300, 3_000], &[3_000], &[3_000]]),
    ];
    for (kernel, shapes) in table {
        let one = outputs(1, &kernel, &shapes);
        for threads in [2, 3] {
            assert!(outputs(threads, &kernel, &shapes) == one, "{kernel:?} with {threads} threads");
        }
    }
}
