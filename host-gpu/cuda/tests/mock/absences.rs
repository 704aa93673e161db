//! Every reason for which there is no device, and what people are told then.

use quern_cuda::{Absence, CudaDevice, CudaDeviceError, CudaOptions, probe};

use crate::driver::with_mock;

/// Runs a test of its own for each: variables of the mock, and how the text begins.
macro_rules! absences {
    ($($name:ident: $variable:literal = $value:literal => $text:literal;)*) => {$(
        #[test]
        fn $name() {
            let name = concat!("absences::", stringify!($name));
            with_mock(name, &[($variable, $value)], || {
                let found = probe().expect_err("no device");
                assert!(found.to_string().starts_with($text), "{found}");
                let opened = CudaDevice::open(&CudaOptions::default()).err();
                assert_eq!(opened, Some(CudaDeviceError::Absent(found)));
            });
        }
    )*};
}

absences! {
    an_old_driver_is_named:
        "QUERN_MOCK_VERSION" = "12080" => "the driver is for CUDA 12.8, the kernels need 13.0";
    a_driver_without_devices_is_named:
        "QUERN_MOCK_INIT" = "100" => "the driver finds no device";
    a_count_of_no_devices_is_named:
        "QUERN_MOCK_DEVICES" = "0" => "the driver finds no device";
    a_system_that_does_not_permit_it_is_named:
        "QUERN_MOCK_INIT" = "304" => "this process may not use the devices";
    parts_of_a_driver_that_do_not_fit_are_named:
        "QUERN_MOCK_INIT" = "803" => "the driver's library and its kernel module differ";
    a_stub_counts_as_no_driver:
        "QUERN_MOCK_INIT" = "34" => "libcuda.so.1 was not found";
    an_unknown_answer_is_passed_on:
        "QUERN_MOCK_INIT" = "999" => "starting the driver: the driver answers CUDA_ERROR_UNKNOWN";
    an_old_device_is_named:
        "QUERN_MOCK_CAPABILITY" = "75" => "mock has compute capability 7.5, the kernels need 8.0";
    a_device_without_pools_is_named:
        "QUERN_MOCK_POOLS" = "0" => "mock has no pools of memory";
}

#[test]
fn a_device_that_another_process_has_is_named() {
    let name = "absences::a_device_that_another_process_has_is_named";
    with_mock(name, &[("QUERN_MOCK_CONTEXT", "46")], || {
        let opened = CudaDevice::open(&CudaOptions::default()).err();
        assert_eq!(opened, Some(CudaDeviceError::Absent(Absence::Unavailable)));
    });
}

#[test]
fn a_number_that_no_device_has_is_named() {
    with_mock("absences::a_number_that_no_device_has_is_named", &[], || {
        let opened = CudaDevice::open(&CudaOptions { ordinal: 3, ..CudaOptions::default() }).err();
        let expected = Absence::Ordinal { ordinal: 3, count: 1 };
        assert_eq!(opened, Some(CudaDeviceError::Absent(expected)));
    });
}

#[test]
fn devices_are_described() {
    with_mock("absences::devices_are_described", &[], || {
        let found = probe().expect("the mock's device");
        let device = CudaDevice::open(&CudaOptions::default()).expect("the mock's device");
        assert_eq!(found, [device.found().clone()]);
        assert_eq!((found[0].name.as_str(), found[0].capability), ("mock", (9, 0)));
    });
}

#[test]
fn kernels_that_the_driver_refuses_are_named() {
    let name = "absences::kernels_that_the_driver_refuses_are_named";
    with_mock(name, &[("QUERN_MOCK_IMAGE", "200"), ("QUERN_MOCK_CAPABILITY", "89")], || {
        let refused = CudaDevice::open(&CudaOptions::default()).err().expect("no kernels");
        let expected = "the kernels for compute capability 8.9 can't be had: loading movement: \
                        CUDA_ERROR_INVALID_IMAGE";
        assert!(refused.to_string().starts_with(expected), "{refused}");
    });
}

/// Whatever the machine has.
#[test]
fn looking_for_devices_never_panics() {
    match probe() {
        Ok(found) => assert!(!found.is_empty()),
        Err(absence) => assert!(!absence.to_string().is_empty()),
    }
}
