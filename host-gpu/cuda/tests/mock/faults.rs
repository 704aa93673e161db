//! What goes wrong on a device, and what comes of it: the right error, memory that is counted as
//! free, and a device that works again, in a new process where it has to be.

use std::time::Duration;

use quern_cuda::{CudaDevice, CudaOptions};
use quern_kernels::{Device, Session};
use quern_operators::{Binary, Dtype, Kernel, LaneError, SessionError, SessionLimits, TensorId};

use crate::{
    driver::with_mock,
    memory::{description, device, round_trip, session},
};

const FAULT: &str = "QUERN_MOCK_FAULT";

/// Adds a tensor to itself until something goes wrong, which must be at most so many times.
fn add_until_it_fails(session: &mut Session, times: usize) -> SessionError {
    let failure = |session: &mut Session| -> Result<TensorId, SessionError> {
        let mut x = session.upload(description(Dtype::Fp32, &[1000]), &[0; 4000])?;
        for _ in 0..times {
            x = session.run(&Kernel::Binary(Binary::Add).into(), &[x, x])?[0];
        }
        session.read(x)?;
        Ok(x)
    };
    failure(session).expect_err("something goes wrong")
}

fn lost(error: &SessionError) -> &str {
    match error {
        SessionError::Lane(LaneError::Lost { reason }) => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn memory_that_is_not_there_for_long_is_asked_for_again() {
    let name = "faults::memory_that_is_not_there_for_long_is_asked_for_again";
    with_mock(name, &[(FAULT, "out-of-memory@1")], || {
        let device = device();
        round_trip(&device, 4096);
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
    });
}

#[test]
fn a_kernel_that_can_not_be_launched_ends_its_session_alone() {
    let name = "faults::a_kernel_that_can_not_be_launched_ends_its_session_alone";
    with_mock(name, &[(FAULT, "launch@3")], || {
        let device = device();
        let mut unlucky = session(&device);
        let error = add_until_it_fails(&mut unlucky, 5);
        assert!(lost(&error).contains("add_f32: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"), "{error}");
        assert_eq!(unlucky.finish(), Err(error));
        drop(unlucky);
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
        round_trip(&device, 4096);
    });
}

#[test]
fn a_kernel_that_breaks_its_context_loses_the_device() {
    let name = "faults::a_kernel_that_breaks_its_context_loses_the_device";
    with_mock(name, &[(FAULT, "sticky@2")], || {
        let device = device();
        let mut other = session(&device);
        let kept = other.upload(description(Dtype::Uint8, &[4]), &[1; 4]).expect("uploaded");
        let mut unlucky = session(&device);
        let error = add_until_it_fails(&mut unlucky, 5);
        assert!(lost(&error).contains("an illegal memory access"), "{error}");
        assert_eq!(other.read(kept).expect_err("lost, too"), error);
        drop((other, unlucky));
        assert_eq!(device.held_bytes(), 0);
        assert!(device.lost().is_some());
        let again = Session::open(&device, SessionLimits::of_bytes(1)).err();
        assert_eq!(again.map(SessionError::Lane), Some(error));
    });
}

#[test]
fn a_device_that_hangs_is_lost_when_patience_is() {
    let name = "faults::a_device_that_hangs_is_lost_when_patience_is";
    with_mock(name, &[(FAULT, "hang@2")], || {
        let patience = Duration::from_millis(200);
        let device = CudaDevice::open(&CudaOptions { patience, ..CudaOptions::default() });
        let device = device.expect("the mock's device");
        let mut unlucky = session(&device);
        let error = add_until_it_fails(&mut unlucky, 5);
        assert_eq!(lost(&error), "it did not get on for 200ms");
        drop(unlucky);
        assert_eq!(device.held_bytes(), 0);
        assert!(device.open(1).is_err());
    });
}

#[test]
fn a_device_whose_work_is_slow_is_not_lost() {
    let name = "faults::a_device_whose_work_is_slow_is_not_lost";
    with_mock(name, &[(FAULT, "slow")], || {
        let patience = Duration::from_secs(10);
        let device = CudaDevice::open(&CudaOptions { patience, ..CudaOptions::default() });
        let device = device.expect("the mock's device");
        round_trip(&device, 1 << 20);
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
    });
}

/// Each mark of the busy session comes in time, but all of them together do not.
#[test]
fn a_device_that_is_busy_for_others_is_not_lost() {
    let name = "faults::a_device_that_is_busy_for_others_is_not_lost";
    let variables = [(FAULT, "slow"), ("QUERN_MOCK_SLOW_MS", "50"), ("QUERN_MOCK_ONE_QUEUE", "1")];
    with_mock(name, &variables, || {
        let patience = Duration::from_millis(400);
        let device = CudaDevice::open(&CudaOptions { patience, ..CudaOptions::default() });
        let device = device.expect("the mock's device");
        let (mut busy, mut patient) = (session(&device), session(&device));
        let x = busy.upload(description(Dtype::Fp32, &[1]), &[0; 4]).expect("uploaded");
        let kept = patient.upload(description(Dtype::Uint8, &[4]), &[1; 4]).expect("uploaded");
        for _ in 0..64 * 16 {
            let sum = busy.run(&Kernel::Binary(Binary::Add).into(), &[x, x]).expect("enqueued")[0];
            busy.release(sum).expect("released");
        }
        assert_eq!(patient.read(kept).expect("read, after all others' work"), [1; 4]);
        drop((busy, patient));
        assert_eq!((device.held_bytes(), device.lost()), (0, None));
    });
}

#[test]
fn memory_that_is_not_given_back_is_noticed() {
    let name = "faults::memory_that_is_not_given_back_is_noticed";
    with_mock(name, &[(FAULT, "leak@1")], || {
        let device = device();
        let mut leaking = session(&device);
        leaking.upload(description(Dtype::Uint8, &[300]), &[0; 300]).expect("uploaded");
        assert_eq!(device.lost(), None);
        drop(leaking);
        let expected = "512 bytes were released, but not given back";
        assert_eq!(device.lost().as_deref(), Some(expected));
    });
}

#[test]
fn memory_whose_fresh_bytes_are_used_uncleared_would_be_noticed() {
    let name = "faults::memory_whose_fresh_bytes_are_used_uncleared_would_be_noticed";
    with_mock(name, &[(FAULT, "unclear@2")], || {
        let device = device();
        let mut session = session(&device);
        let upload = session.upload(description(Dtype::Uint8, &[300]), &[0; 300]);
        assert!(upload.and_then(|id| session.read(id)).is_err());
    });
}
