//! Whatever operators, shapes and indices come: a session answers with tensors as described, or
//! with an error, and never panics. Most of what is asked for fits its inputs, so that it is
//! computed.

mod fitting;
mod training;

use std::num::NonZeroUsize;

use fitting::Draw;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{TestCaseResult, TestRunner},
};
use quern_kernels::{
    CpuDevice, Device, LaneError, Session, SessionError, SessionLimits, TensorId, Usage,
};
use quern_operators::{
    ArgReduce, Attention, Binary, Clamp, Comparison, Description, Dtype, Extreme, Fill, Histogram,
    Kernel, Logical, Metric, Norm, Operator, Range, Reduce, Reduction, Scalar, Shape, Sort, TopK,
    Unary, View,
};

fn dim() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..5u64, 1 => 30..40u64, 1 => Just(1 << 50), 1 => any::<u64>()]
}

fn shape() -> impl Strategy<Value = Shape> {
    vec(dim(), 0..5).prop_filter_map("a shape", |dims| Shape::new(&dims).ok())
}

fn dtype() -> impl Strategy<Value = Dtype> {
    select(&Dtype::ALL[..])
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        any::<i64>().prop_map(Scalar::Int),
        any::<f64>().prop_map(Scalar::Float),
    ]
}

fn view() -> impl Strategy<Value = Operator> {
    let range = (dim(), dim(), dim()).prop_map(|(start, end, step)| Range { start, end, step });
    let view = prop_oneof![
        vec(0..5u8, 0..5).prop_map(View::Permute),
        Just(vec![1, 0]).prop_map(View::Permute),
        shape().prop_map(View::Reshape),
        shape().prop_map(View::Broadcast),
        vec(range, 0..4).prop_map(View::Slice),
    ];
    view.prop_map(Operator::View)
}

/// What is ordered, counted or compared.
fn orders() -> impl Strategy<Value = Kernel> {
    let attention = (proptest::option::of(any::<f64>()), any::<bool>());
    prop_oneof![
        (0..4u8).prop_map(Kernel::CumulativeSum),
        (0..4u8, any::<bool>())
            .prop_map(|(axis, descending)| Kernel::Sort(Sort { axis, descending })),
        (0..4u8, dim(), any::<bool>()).prop_map(|(axis, count, largest)| Kernel::TopK(TopK {
            axis,
            count,
            largest
        })),
        (any::<u32>(), any::<f64>(), any::<f64>())
            .prop_map(|(bins, min, max)| Kernel::Histogram(Histogram { bins, min, max })),
        select(&Metric::ALL[..]).prop_map(Kernel::Distances),
        attention.prop_map(|(scale, causal)| Kernel::Attention(Attention { scale, causal })),
    ]
}

fn kernel() -> impl Strategy<Value = Operator> {
    let reduce = (select(&Reduction::ALL[..]), vec(0..4u8, 0..3), any::<bool>());
    let arg = (select(&[Extreme::Max, Extreme::Min][..]), 0..4u8, any::<bool>());
    let clamp = (proptest::option::of(scalar()), proptest::option::of(scalar()));
    let fill = (dtype(), shape(), scalar());
    let norm = any::<f64>().prop_map(|epsilon| Norm { epsilon });
    let rows = prop_oneof![
        Just(Kernel::Matmul),
        Just(Kernel::Softmax),
        Just(Kernel::LogSoftmax),
        norm.clone().prop_map(Kernel::LayerNorm),
        norm.prop_map(Kernel::RmsNorm),
        (0..4u8).prop_map(Kernel::Concat),
        (0..4u8).prop_map(Kernel::Gather),
        (0..4u8).prop_map(Kernel::ScatterAdd),
    ];
    let kernel = prop_oneof![
        4 => rows,
        3 => orders(),
        1 => fill.prop_map(|(dtype, shape, value)| Kernel::Fill(Fill { dtype, shape, value })),
        1 => Just(Kernel::Copy),
        1 => Just(Kernel::Where),
        1 => dtype().prop_map(Kernel::Cast),
        2 => select(&Unary::ALL[..]).prop_map(Kernel::Unary),
        2 => select(&Binary::ALL[..]).prop_map(Kernel::Binary),
        1 => select(&Comparison::ALL[..]).prop_map(Kernel::Compare),
        1 => select(&Logical::ALL[..]).prop_map(Kernel::Logical),
        1 => clamp.prop_map(|(min, max)| Kernel::Clamp(Clamp { min, max })),
        2 => reduce.prop_map(|(function, axes, keep)| {
            Kernel::Reduce(Reduce { function, axes, keep })
        }),
        1 => arg.prop_map(|(extreme, axis, keep)| {
            Kernel::ArgReduce(ArgReduce { extreme, axis, keep })
        }),
    ];
    kernel.prop_map(Operator::Kernel)
}

/// Something to ask for, with what else is chosen drawn from a seed.
#[derive(Debug, Clone)]
struct Request {
    operator: Operator,
    seed: u64,
    /// Whether it is fitted to tensors that it takes.
    fitted: bool,
}

fn program() -> impl Strategy<Value = Vec<Request>> {
    let training = training::kernel().prop_map(Operator::Kernel);
    let operator = prop_oneof![2 => view(), 4 => kernel(), 3 => training];
    let request = (operator, any::<u64>(), proptest::bool::weighted(0.9))
        .prop_map(|(operator, seed, fitted)| Request { operator, seed, fitted });
    vec(request, 1..30)
}

/// Small tensors of every type to begin with, of bytes that may be any number.
fn begin(session: &mut Session, bytes: &[u8]) -> Vec<TensorId> {
    let mut ids = Vec::new();
    for dims in [&[2, 3][..], &[3, 2], &[3], &[], &[2, 2, 5, 4], &[2, 2, 3, 3]] {
        for dtype in Dtype::ALL {
            let description = Description::new(dtype, Shape::new(dims).expect("a shape"));
            let repeated = bytes.iter().cycle().take(description.bytes() as usize).copied();
            let elements: Vec<_> = match dtype {
                Dtype::Bool => repeated.map(|byte| byte & 1).collect(),
                // Indices in range, but for one in some programs.
                Dtype::Int64 => (0..description.shape.elements() as i64)
                    .flat_map(|index| (index % 2 - i64::from(bytes[0] < 8)).to_le_bytes())
                    .collect(),
                Dtype::Int32 => (0..description.shape.elements() as i32)
                    .flat_map(|index| (index % 3).to_le_bytes())
                    .collect(),
                _ => repeated.collect(),
            };
            ids.push(session.upload(description, &elements).expect("room for small tensors"));
        }
    }
    ids
}

/// Asks for everything in turn, and says how much of it was computed.
fn carry_out(program: &[Request], bytes: &[u8]) -> Result<usize, TestCaseError> {
    let two = NonZeroUsize::new(2).expect("two");
    let device = CpuDevice::new(two).expect("threads");
    let limits = SessionLimits { bytes: 1 << 20, tensors: 200, work: 1 << 26 };
    let mut session = Session::open(&device, limits).expect("opened");
    let mut ids = begin(&mut session, bytes);
    let mut computed = 0;
    for Request { operator, seed, fitted } in program {
        let mut draw = Draw(*seed);
        let (operator, inputs) = match fitted {
            true => fitting::fit(operator, &session, &ids, &mut draw),
            false => {
                let inputs = (0..draw.below(4)).map(|_| *draw.one_of(&ids)).collect();
                (operator.clone(), inputs)
            }
        };
        match session.run(&operator, &inputs) {
            Ok(outputs) => {
                computed += 1;
                ids.extend(outputs);
            }
            Err(SessionError::Lane(error)) => {
                ended(&error)?;
                prop_assert_eq!(session.finish(), Err(SessionError::Lane(error)));
                break;
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
    if session.finish().is_ok() {
        ids.iter().try_for_each(|id| readable(&mut session, *id))?;
    }
    for id in ids {
        session.release(id).expect("not yet released");
    }
    prop_assert_eq!(session.usage(), Usage::default());
    prop_assert!(device.held_bytes() <= limits.bytes);
    drop(session);
    prop_assert_eq!(device.held_bytes(), 0);
    Ok(computed)
}

/// What may end a session: an index that is out of range indeed, or memory to compute with.
fn ended(error: &LaneError) -> TestCaseResult {
    match error {
        LaneError::Index { index, size, .. } => {
            prop_assert!(u64::try_from(*index).map_or(true, |index| index >= *size));
        }
        LaneError::Memory { .. } => {}
        LaneError::Unsupported { .. } | LaneError::Lost { .. } => prop_assert!(false, "{error}"),
    }
    Ok(())
}

fn readable(session: &mut Session, id: TensorId) -> TestCaseResult {
    let description = session.describe(id).expect("a tensor");
    let elements = session.read(id).expect("its elements");
    prop_assert_eq!(elements.len() as u64, description.bytes());
    if description.dtype == Dtype::Bool {
        prop_assert!(elements.iter().all(|element| *element <= 1));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_for_is_answered(
        program in program(),
        bytes in vec(any::<u8>(), 64),
    ) {
        carry_out(&program, &bytes)?;
    }
}

#[test]
fn most_of_what_is_asked_for_is_computed() {
    let mut runner = TestRunner::deterministic();
    let (mut asked, mut computed) = (0, 0);
    for _ in 0..50 {
        let program = program().new_tree(&mut runner).expect("a program").current();
        asked += program.len();
        computed += carry_out(&program, &[9; 64]).expect("answered");
    }
    assert!(computed * 3 > asked * 2, "{computed} of {asked}");
}
