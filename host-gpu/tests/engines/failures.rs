//! What goes wrong is an error of that call, and the device goes on.

use std::{fs, path::PathBuf};

use prometheus::Registry;
use quern_host_gpu::{Cpu, CpuConfig, CpuError, trial};
use quern_types::{Batch, DataType, Device, DeviceError, Engine, Tensor};

use crate::{
    device::{LANES, cpu, floats, library, load, outline, rows, run, run_reason, targets, values},
    graphs::{Fixed, Graph, Named, Onnx, doubling},
};

fn without_ort() -> Cpu {
    let config = CpuConfig { lanes: 1, ort_library: None };
    Cpu::new(config, &Registry::new()).expect("the CPU is a device")
}

#[tokio::test]
async fn a_run_that_fails_or_panics_is_an_error_and_the_lane_goes_on() {
    let onnx = Graph::default()
        .input("a", Onnx::Int32, &[Named("batch"), Fixed(1)])
        .input("b", Onnx::Int32, &[Named("batch"), Fixed(1)])
        .output("y", Onnx::Int32, &[Named("batch"), Fixed(1)])
        .node("Div", &["a", "b"], "y")
        .encode();
    let call = |a: i32, b: i32| {
        let one = |name, value: i32| {
            Tensor::from_elements(name, DataType::Int32, vec![1, 1], vec![value]).expect("a tensor")
        };
        vec![vec![one("a", a), one("b", b)]]
    };
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        // tract divides integers as Rust does: by zero is a panic.
        let expected = match engine {
            Engine::Tract => "the engine panicked: attempt to divide by zero",
            Engine::OnnxRuntime => "Integer division by zero",
        };
        for _ in 0..3 {
            let reason = run_reason(run(&*replica, call(1, 0)).await);
            assert!(reason.contains(expected), "{engine}: {reason}");
            let replies = run(&*replica, call(6, 3)).await.expect("the lane goes on");
            assert_eq!(*replies[0][0].to_elements::<i32>(), [2], "{engine}");
        }
    }
}

#[tokio::test]
async fn outputs_that_do_not_fit_the_signature_are_refused() {
    // The file says that y has four columns; the graph makes three.
    let onnx = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(4)])
        .node("Neg", &["x"], "y")
        .encode();
    for (device, engine) in targets().await {
        let Ok(replica) = load(&*device, &onnx, engine, rows(8)).await else {
            assert_eq!(engine, Engine::OnnxRuntime, "tract does not look at declared outputs");
            continue;
        };
        let call = vec![floats("x", &[1, 3], &[0.; 3])];
        let reason = run_reason(run(&*replica, vec![call]).await);
        assert_eq!(reason, "output \"y\" has shape [1, 3], expected [-1, 4]", "{engine}");
    }
}

#[tokio::test]
async fn an_unknown_lane_is_named() {
    let onnx = doubling(Onnx::Float).encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        let calls = vec![vec![floats("x", &[1, 3], &[0.; 3])]];
        let reason = run_reason(replica.run(LANES, Batch { calls }).await);
        assert_eq!(reason, "there is no lane 2 of 2", "{engine}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_model_is_refused_by_each_engine() {
    let onnx = doubling(Onnx::Float).encode();
    let (outline, broken) = (outline(&onnx), b"not a model".to_vec());
    for (device, engine) in targets().await {
        let tried = trial(&*device, broken.clone().into(), &outline, engine, 8).await;
        assert!(
            matches!(&tried, Err(DeviceError::Load { engine: by, .. }) if *by == engine),
            "{tried:?}"
        );
    }
}

#[tokio::test]
async fn an_absent_engine_is_never_replaced() {
    let (device, onnx) = (without_ort(), doubling(Onnx::Float).encode());
    assert_eq!(device.preferred_engine(), Engine::Tract);
    let loaded = load(&device, &onnx, Engine::OnnxRuntime, rows(8)).await.map(|_| ());
    let error = loaded.expect_err("there is no ONNX Runtime");
    let expected = "engine onnxruntime is not available here: \
        no library was given: run `make ort`, or pass --ort-library";
    assert_eq!(error.to_string(), expected);
    let status = &device.describe().engines[0];
    assert_eq!((status.engine, &status.version), (Engine::OnnxRuntime, &None));
    let absent = status.absent.as_deref().expect("a reason");
    assert!(absent.contains("make ort"), "{absent}");
}

#[test]
fn a_library_that_does_not_load_is_an_error() {
    let text = std::env::temp_dir().join(format!("quern-no-library-{}.so", std::process::id()));
    fs::write(&text, "not a library").expect("writes");
    let cases = [PathBuf::from("/nowhere/libonnxruntime.so"), text.clone()];
    for given in cases {
        let config = CpuConfig { lanes: 1, ort_library: Some(given.clone()) };
        match (library(), Cpu::new(config, &Registry::new()).map(|_| ())) {
            (_, Err(CpuError::Library { library, .. })) => assert_eq!(library, given),
            // Another test of this process may have loaded the real one before.
            (Some(_), Err(CpuError::AnotherLibrary { library, .. })) => assert_eq!(library, given),
            (_, other) => panic!("{given:?}: {other:?}"),
        }
    }
    fs::remove_file(text).expect("removes");
}

#[test]
fn a_second_device_shares_the_library_and_another_library_is_refused() {
    let Some(library) = library() else {
        eprintln!("skipped: ONNX Runtime's library is absent, `make ort` fetches it");
        return;
    };
    let devices = [cpu(), cpu()];
    assert!(devices.iter().all(|device| device.preferred_engine() == Engine::OnnxRuntime));
    let copy = std::env::temp_dir().join(format!("quern-another-{}.so", std::process::id()));
    fs::copy(library, &copy).expect("copies");
    let config = CpuConfig { lanes: 1, ort_library: Some(copy.clone()) };
    let refused = Cpu::new(config, &Registry::new()).map(|_| ());
    fs::remove_file(copy).expect("removes");
    assert!(matches!(refused, Err(CpuError::AnotherLibrary { .. })), "{refused:?}");
}

#[test]
fn a_device_needs_lanes_and_metrics_of_its_own() {
    let start = |lanes, registry: &Registry| {
        Cpu::new(CpuConfig { lanes, ort_library: None }, registry).map(|_| ())
    };
    let registry = Registry::new();
    assert!(matches!(start(0, &registry), Err(CpuError::NoLanes)));
    start(1, &registry).expect("the names are free");
    assert!(matches!(start(1, &registry), Err(CpuError::Metrics(_))));
}

#[tokio::test]
async fn dropping_a_replica_releases_the_model() {
    let onnx = doubling(Onnx::Float).encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(8)).await.expect("loads");
        assert_eq!(device.describe().replicas, 1, "{engine}");
        let calls = vec![vec![floats("x", &[1, 3], &[1., 2., 3.])]];
        let replies = run(&*replica, calls).await.expect("runs");
        drop(replica);
        assert_eq!(device.describe().replicas, 0, "{engine}");
        assert_eq!(values(&replies[0][0]), [2., 4., 6.], "outputs outlive their model");
    }
}

#[tokio::test]
async fn runs_failures_and_replicas_are_counted() {
    let registry = Registry::new();
    let config = CpuConfig { lanes: 1, ort_library: None };
    let device = Cpu::new(config, &registry).expect("the CPU is a device");
    let onnx = doubling(Onnx::Float).encode();
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    let call = || vec![floats("x", &[1, 3], &[0.; 3])];
    run(&*replica, vec![call(), call()]).await.expect("runs");
    run(&*replica, vec![]).await.expect_err("no calls");
    let families = registry.gather();
    let metric = |name: &str| {
        let family = families.iter().find(|family| family.name() == name);
        family.unwrap_or_else(|| panic!("no metric {name}")).get_metric()[0].clone()
    };
    assert_eq!(metric("quern_device_run_seconds").get_histogram().get_sample_count(), 1);
    assert_eq!(metric("quern_device_run_failures_total").get_counter().get_value(), 1.);
    assert_eq!(metric("quern_device_replicas").get_gauge().get_value(), 1.);
}
