//! What memory of the device promises: budgets hold, and all of it is given back. That it is
//! cleared before anything else uses it is seen to by the mock driver, in every test.

use quern_cuda::{CudaDevice, CudaOptions};
use quern_kernels::{Device, GRANULE_BYTES, Session};
use quern_operators::{
    Description, Dtype, Fill, Kernel, LaneError, Operator, Range, Scalar, SessionError,
    SessionLimits, Shape, View,
};

use crate::driver::with_mock;

pub(crate) fn device() -> CudaDevice {
    CudaDevice::open(&CudaOptions::default()).expect("the mock's device")
}

pub(crate) fn session(device: &CudaDevice) -> Session {
    Session::open(device, SessionLimits::of_bytes(64 << 20)).expect("a session")
}

pub(crate) fn description(dtype: Dtype, dims: &[u64]) -> Description {
    Description::new(dtype, Shape::new(dims).expect("a shape"))
}

/// Uploads bytes of several staging pieces and reads them back, as they are and turned.
pub(crate) fn round_trip(device: &CudaDevice, bytes: u64) {
    let mut session = session(device);
    let elements: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect();
    let columns = 8;
    let rows = bytes / columns;
    let whole = description(Dtype::Uint8, &[rows, columns]);
    let x = session.upload(whole, &elements[..(rows * columns) as usize]).expect("uploaded");
    assert_eq!(session.read(x).expect("read"), elements[..(rows * columns) as usize]);
    let turned = Operator::View(View::Permute(vec![1, 0]));
    let turned = session.run(&turned, &[x]).expect("a view")[0];
    let read = session.read(turned).expect("read");
    for (at, element) in read.iter().enumerate().step_by(997) {
        let (column, row) = (at as u64 / rows, at as u64 % rows);
        assert_eq!(*element, elements[(row * columns + column) as usize], "{row} {column}");
    }
}

#[test]
fn elements_of_any_length_come_back() {
    with_mock("memory::elements_of_any_length_come_back", &[], || {
        let device = device();
        for bytes in [8, 800, 512 << 10, (512 << 10) + 8, 5 << 20] {
            round_trip(&device, bytes);
        }
        assert_eq!(device.held_bytes(), 0);
    });
}

#[test]
fn what_no_device_has_is_refused_and_harms_nobody() {
    let variables = [("QUERN_MOCK_MEMORY", "1048576")];
    with_mock("memory::what_no_device_has_is_refused_and_harms_nobody", &variables, || {
        let device = device();
        let mut modest = session(&device);
        let small = description(Dtype::Uint8, &[1000]);
        let kept = modest.upload(small, &[3; 1000]).expect("room");
        let mut greedy = session(&device);
        let large = description(Dtype::Uint8, &[1 << 20]);
        let refused = greedy.upload(large, &vec![1; 1 << 20]).expect_err("not so much");
        assert_eq!(refused, SessionError::Lane(LaneError::Memory { bytes: 1 << 20 }));
        drop(greedy);
        assert_eq!(modest.read(kept).expect("undisturbed"), [3; 1000]);
        drop(modest);
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
    });
}

#[test]
fn a_lane_keeps_to_its_budget_with_what_it_used_before() {
    with_mock("memory::a_lane_keeps_to_its_budget_with_what_it_used_before", &[], || {
        let device = device();
        let budget = 8 * GRANULE_BYTES;
        let mut session =
            Session::open(&device, SessionLimits::of_bytes(budget)).expect("a session");
        for granules in [1, 2, 3, 8, 1, 5] {
            let shape = Shape::new(&[granules * GRANULE_BYTES]).expect("a shape");
            let fill = Fill { dtype: Dtype::Uint8, shape, value: Scalar::Int(9) };
            let made = session.run(&Kernel::Fill(fill).into(), &[]).expect("room")[0];
            assert!(device.held_bytes() <= budget, "{}", device.held_bytes());
            let part = Range { start: 1, end: 2, step: 1 };
            let view = Operator::View(View::Slice(vec![part]));
            let view = session.run(&view, &[made]).expect("a view")[0];
            assert_eq!(session.read(view).expect("read"), [9]);
            session.release(made).expect("released");
            session.release(view).expect("released");
        }
        drop(session);
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
    });
}
