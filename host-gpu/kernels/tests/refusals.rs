//! Every error of sessions, on the CPU device.

use std::num::NonZeroUsize;

use quern_kernels::{
    CpuDevice, Device, Lane, LaneError, Operand, Session, SessionError, SessionLimits, Step,
};
use quern_operators::{Description, Dtype, Kernel, Norm, Shape, Sort, View};

fn session(limits: SessionLimits) -> Session {
    let device = CpuDevice::new(NonZeroUsize::MIN).expect("a thread");
    Session::open(&device, limits).expect("opened")
}

fn description(dtype: Dtype, dims: &[u64]) -> Description {
    Description::new(dtype, Shape::new(dims).expect("a shape"))
}

#[test]
fn uploads_that_do_not_fit_their_description_are_refused() {
    let mut session = session(SessionLimits::of_bytes(1 << 20));
    let floats = description(Dtype::Fp32, &[2]);
    let short = session.upload(floats, &[0; 7]).expect_err("too short");
    assert_eq!(short.to_string(), "FP32 2 needs 8 bytes, got 7");
    let truths = session.upload(description(Dtype::Bool, &[2]), &[1, 2]).expect_err("no truth");
    assert_eq!(truths, SessionError::Bool { index: 1, value: 2 });
    assert_eq!(truths.to_string(), "element 1 of BOOL is 2, not 0 or 1");
}

#[test]
fn a_session_has_only_so_many_tensors_views_included() {
    let mut session = session(SessionLimits { tensors: 2, ..SessionLimits::of_bytes(1 << 20) });
    let empty = session.upload(description(Dtype::Fp32, &[0]), &[]).expect("room");
    let view = View::Permute(vec![0]).into();
    session.run(&view, &[empty]).expect("room for another");
    let full = Err(SessionError::Tensors { limit: 2 });
    assert_eq!(session.run(&view, &[empty]), full);
    assert_eq!(session.run(&Kernel::Copy.into(), &[empty]), full);
}

#[test]
fn an_operator_that_would_take_too_long_is_refused() {
    let mut session = session(SessionLimits { work: 33_082, ..SessionLimits::of_bytes(1 << 20) });
    let square = session.upload(description(Dtype::Fp32, &[3, 3]), &[0; 36]).expect("room");
    let error = session.run(&Kernel::Matmul.into(), &[square, square]).expect_err("27 products");
    let expected = "matmul: 33083 operations exceed the limit of 33082: split the inputs";
    assert_eq!(error.to_string(), expected);
    let misfit = session.run(&Kernel::Matmul.into(), &[square]).expect_err("one factor");
    assert_eq!(misfit.to_string(), "matmul: takes 2 inputs, got 1");
}

/// A device whose memory is gone and whose lanes don't last.
struct Broken;

impl Device for Broken {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Lane>, LaneError> {
        match budget_bytes {
            0 => Err(lost()),
            _ => Ok(Box::new(Broken)),
        }
    }

    fn held_bytes(&self) -> u64 {
        0
    }
}

impl Lane for Broken {
    fn write(&mut self, _: quern_kernels::BufferId, _: &[u8]) -> Result<(), LaneError> {
        Ok(())
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        Err(LaneError::Memory { bytes: step.outputs()[0].description().bytes() })
    }

    fn read(&mut self, _: &Operand) -> Result<Vec<u8>, LaneError> {
        Err(lost())
    }

    fn free(&mut self, _: quern_kernels::BufferId) {}

    fn finish(&mut self) -> Result<(), LaneError> {
        Ok(())
    }
}

fn lost() -> LaneError {
    LaneError::Lost { reason: "unplugged".to_owned() }
}

#[test]
fn a_session_ends_with_the_first_error_of_its_device() {
    assert_eq!(Session::open(&Broken, SessionLimits::of_bytes(0)).err(), Some(lost()));
    let mut session = Session::open(&Broken, SessionLimits::of_bytes(1 << 20)).expect("opened");
    let one = session.upload(description(Dtype::Fp32, &[1]), &[0; 4]).expect("written");
    let failed = SessionError::Lane(LaneError::Memory { bytes: 4 });
    assert_eq!(failed.to_string(), "the device has no 4 bytes left: try again later");
    assert_eq!(session.run(&Kernel::Copy.into(), &[one]), Err(failed.clone()));
    assert_eq!(session.read(one), Err(failed.clone()));
    assert_eq!(session.upload(description(Dtype::Fp32, &[0]), &[]), Err(failed.clone()));
    assert_eq!(session.finish(), Err(failed));
    assert_eq!(session.release(one), Ok(()));
    assert_eq!(session.usage().bytes, 0);
}

#[test]
fn dimensions_beyond_any_memory_cost_nothing_where_another_is_0() {
    let mut session = session(SessionLimits::of_bytes(1 << 20));
    let x = session.upload(description(Dtype::Fp32, &[1 << 50, 0]), &[]).expect("empty");
    let indices = session.upload(description(Dtype::Int32, &[2]), &[7; 8]).expect("room");
    let taken = session.run(&Kernel::Gather(0).into(), &[x, indices]).expect("in range")[0];
    let added = session.run(&Kernel::ScatterAdd(0).into(), &[x, indices, taken]);
    let added = added.expect("in range")[0];
    assert_eq!(session.describe(added), session.describe(x));
}

#[test]
fn what_a_kernel_computes_with_stays_within_the_budget() {
    let device = CpuDevice::new(NonZeroUsize::MIN).expect("a thread");
    let norm = || Kernel::LayerNorm(Norm { epsilon: 0.0 });
    // Tensors of 256 bytes each; what a kernel takes beside them, and how much of it there is.
    let table = [
        (Kernel::ScatterAdd(0), [Dtype::Fp32, Dtype::Int32, Dtype::Fp32], 0, Some(512)),
        (Kernel::ScatterAdd(0), [Dtype::Fp32, Dtype::Int32, Dtype::Fp32], 512, Some(512)),
        (Kernel::ScatterAdd(0), [Dtype::Fp32, Dtype::Int32, Dtype::Fp32], 1024, None),
        (norm(), [Dtype::Fp32; 3], 0, None),
        (norm(), [Dtype::Fp16; 3], 512, Some(512)),
        (norm(), [Dtype::Fp16; 3], 1024, None),
    ];
    for (kernel, dtypes, beside, missing) in table {
        let limits = SessionLimits::of_bytes(4 * 256 + beside);
        let mut session = Session::open(&device, limits).expect("opened");
        let inputs = dtypes.map(|dtype| {
            let description = description(dtype, &[256 / dtype.size()]);
            session.upload(description, &[0; 256]).expect("room for an input")
        });
        let outcome = session.run(&kernel.clone().into(), &inputs).map(|_| ());
        let failed = missing.map(|bytes| SessionError::Lane(LaneError::Memory { bytes }));
        assert_eq!(outcome.err(), failed, "{kernel:?} with {beside} bytes beside");
        assert!(device.held_bytes() <= limits.bytes);
        drop(session);
        assert_eq!(device.held_bytes(), 0);
    }
}

#[test]
fn what_is_sorted_with_stays_within_the_budget() {
    // A tensor, values, places, and a word for each element.
    for (bytes, missing) in [(256 + 256 + 512 + 512, None), (256 + 256 + 512 + 256, Some(512))] {
        let mut session = session(SessionLimits::of_bytes(bytes));
        let x = session.upload(description(Dtype::Fp32, &[64]), &[0; 256]).expect("room");
        let sort = Kernel::Sort(Sort { axis: 0, descending: false });
        let outcome = session.run(&sort.into(), &[x]).map(|outputs| outputs.len());
        let failed = missing.map(|bytes| SessionError::Lane(LaneError::Memory { bytes }));
        assert_eq!(outcome, failed.map_or(Ok(2), Err));
    }
}
