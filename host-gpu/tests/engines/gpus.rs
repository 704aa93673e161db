//! GPUs in processes of their own, over the mock driver: they are found there, compute, and are
//! replaced when they break. What the mock is told to do wrong goes with the process's environment.

use std::{num::NonZeroUsize, path::Path, time::Duration};

use prometheus::IntCounter;
use quern_host_gpu::{
    Computing, Gpu, RemoteConfig, RemoteDevice, RemoteError, TensorConfig, TensorDevice,
    WorkerProgram, find_gpus,
};
use quern_kernels::{Device as _, suite::suite};
use quern_operators::{Kernel, LaneError, SessionError, Unary};
use quern_types::{AbsenceCause, DeviceId};

use crate::{
    building::{build, libraries},
    device::worker_config,
    tensors::{Opened, add, fill, lost, open, until, works},
};

/// A worker that finds the mock driver, which is like this.
fn program(variables: &[(&str, &str)]) -> WorkerProgram {
    let driver = build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda"), &[]);
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let library = ("LD_LIBRARY_PATH".into(), libraries(&driver));
    WorkerProgram { environment: variables.chain([library]).collect(), ..worker_config().program }
}

async fn start(
    variables: &[(&str, &str)],
    patience: Duration,
) -> Result<RemoteDevice, RemoteError> {
    let computing = Computing::Cuda { ordinal: 0, memory_bytes: 1 << 30, patience };
    let config = RemoteConfig {
        device: DeviceId::Cuda(0),
        program: program(variables),
        computing,
        lanes: NonZeroUsize::MIN,
        patience: Duration::from_secs(60),
    };
    RemoteDevice::start(config, IntCounter::new("starts", "Starts").expect("a name")).await
}

async fn device(variables: &[(&str, &str)], patience: Duration) -> (TensorDevice, RemoteDevice) {
    let remote = start(variables, patience).await.expect("the mock's device");
    let gpu = Gpu { ordinal: 0, name: "mock".to_owned(), memory_bytes: 1 << 30 };
    let lanes = NonZeroUsize::MIN;
    let config = TensorConfig { lanes, work: 1 << 40, tensors: 10_000, on_the_spot: true };
    (TensorDevice::gpu(gpu, remote.clone(), config).expect("threads"), remote)
}

const PATIENT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn gpus_are_found_and_described_without_the_driver_in_this_process() {
    let found = find_gpus(program(&[("QUERN_MOCK_MEMORY", "1048576")])).await;
    let mock = Gpu { ordinal: 0, name: "mock".to_owned(), memory_bytes: 1 << 20 };
    assert_eq!(found, Ok(vec![mock]));
    let (device, _) = device(&[], PATIENT).await;
    works(&device).await;
    assert_eq!((device.model(), device.own_memory()), (Some("mock"), Some(1 << 30)));
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    assert!(!maps.contains("libcuda"), "{maps}");
}

#[tokio::test]
async fn why_there_is_no_gpu_has_a_cause_and_says_what_to_do() {
    let cases = [
        (("QUERN_MOCK_INIT", "34"), AbsenceCause::NoDriver, "install NVIDIA's driver"),
        (("QUERN_MOCK_VERSION", "12080"), AbsenceCause::OldDriver, "install series 580"),
        (("QUERN_MOCK_DEVICES", "0"), AbsenceCause::NoDevice, "nvidia-smi"),
        (("QUERN_MOCK_INIT", "304"), AbsenceCause::NotPermitted, "/dev/nvidia*"),
        (("QUERN_MOCK_INIT", "803"), AbsenceCause::DriverMismatch, "restart the machine"),
        (("QUERN_MOCK_CAPABILITY", "75"), AbsenceCause::Unsuitable, "8.0 or newer"),
        (("QUERN_MOCK_INIT", "999"), AbsenceCause::DriverFailed, "CUDA_ERROR_UNKNOWN"),
    ];
    for (variable, cause, text) in cases {
        let absent = find_gpus(program(&[variable])).await.expect_err("there is none");
        assert_eq!((absent.device.as_str(), absent.cause), ("cuda", cause), "{absent:?}");
        assert!(absent.reason.contains(text), "{absent:?}");
    }
    let no_worker = WorkerProgram { path: "/bin/true".into(), ..program(&[]) };
    let absent = find_gpus(no_worker).await.expect_err("it says nothing");
    assert_eq!(absent.cause, AbsenceCause::DriverFailed);
    assert!(absent.reason.contains("its process ended: exit status: 0"), "{absent:?}");
}

#[tokio::test]
async fn a_gpu_that_can_not_be_taken_into_use_says_why() {
    let error = start(&[("QUERN_MOCK_CONTEXT", "46")], PATIENT).await.map(|_| ());
    let error = error.expect_err("another process has it").to_string();
    assert!(error.contains("another process may have it exclusively"), "{error}");
}

#[tokio::test]
async fn a_gpu_that_breaks_costs_its_sessions_and_is_replaced() {
    let faults = [
        (("QUERN_MOCK_FAULT", "sticky@5"), PATIENT, "an illegal memory access"),
        (("QUERN_MOCK_FAULT", "hang@5"), Duration::from_millis(300), "it did not get on for 300ms"),
    ];
    for (fault, patience, expected) in faults {
        let (device, remote) = device(&[fault], patience).await;
        works(&device).await;
        let before = remote.describe().process_id;
        let Opened { mut session, .. } = open(&device, 0).await;
        let mut x = fill(&mut *session, 100).expect("room");
        for _ in 0..20 {
            x = match add(&mut *session, x) {
                Ok(sum) => sum,
                Err(_) => break,
            };
        }
        let reason = lost(session.finish().await.expect_err(expected));
        assert!(reason.contains(expected), "{reason}");
        drop(session);
        until(|| {
            let worker = remote.describe();
            worker.process_id.is_some() && worker.process_id != before
        })
        .await;
        works(&device).await;
        assert_eq!(remote.describe().starts, 2);
    }
}

#[tokio::test]
async fn a_kernel_that_can_not_be_launched_costs_its_session_alone() {
    let (device, remote) = device(&[("QUERN_MOCK_FAULT", "launch@2")], PATIENT).await;
    let Opened { mut session, .. } = open(&device, 0).await;
    let x = fill(&mut *session, 10).expect("room");
    let sum = session.run(&Kernel::Unary(Unary::Neg).into(), &[x]).expect("it is asked for")[0];
    let reason = lost(session.read(sum).await.expect_err("it was not launched"));
    assert!(reason.contains("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"), "{reason}");
    drop(session);
    works(&device).await;
    assert_eq!(remote.describe().starts, 1);
    until(|| remote.held_bytes() == 0).await;
}

#[tokio::test]
async fn memory_that_a_gpu_has_not_is_an_error_of_its_session() {
    let (device, remote) = device(&[("QUERN_MOCK_MEMORY", "1048576")], PATIENT).await;
    let Opened { mut session, .. } = open(&device, 0).await;
    let x = fill(&mut *session, 1 << 20).expect("the session may have so much");
    let error = session.read(x).await.expect_err("the device has not");
    assert_eq!(error, SessionError::Lane(LaneError::Memory { bytes: 4 << 20 }));
    drop(session);
    works(&device).await;
    assert_eq!(remote.describe().starts, 1);
}

/// The suite that the device is held to in its own process in every run takes longer than all other
/// tests here.
#[tokio::test]
async fn a_gpu_in_a_process_of_its_own_answers_as_every_device_must() {
    if std::env::var_os("QUERN_LONG_TESTS").is_none() {
        return;
    }
    let remote = start(&[], PATIENT).await.expect("the mock's device");
    let device = remote.clone();
    let report = tokio::task::spawn_blocking(move || suite(&device)).await.expect("no panic");
    let wrong = |failure: &&String| !failure.contains("not on this device yet");
    let wrong: Vec<_> = report.failures.iter().filter(wrong).take(40).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((remote.held_bytes(), remote.describe().starts), (0, 1));
}
