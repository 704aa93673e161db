//! A worker ends, hangs, runs out of memory or does not start: that costs the calls that it had,
//! and nothing else.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use prometheus::Registry;
use quern_host_gpu::{
    DeviceWorkerError, Worker, WorkerConfig, WorkerError, WorkerProgram, run_device_worker,
};
use quern_types::{
    Batch, Device, DeviceError, DeviceId, Engine, Replica, Tensor, WorkerDescription,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    device::{
        LANES, engines, floats, load, rows, run, single, targets, values, worker, worker_config,
    },
    graphs::{Fixed, Graph, Named, Onnx, doubling},
};

#[test]
#[ignore = "the worker's side of the other tests, which start it"]
fn this_process_computes() {
    match run_device_worker() {
        Ok(never) => match never {},
        Err(error) => assert!(matches!(error, DeviceWorkerError::NotStartedByServer), "{error}"),
    }
}

async fn start(config: WorkerConfig) -> Worker {
    Worker::start(config, &Registry::new()).await.expect("a worker starts")
}

fn description(device: &Worker) -> WorkerDescription {
    device.describe().worker.expect("it is a worker")
}

fn process(device: &Worker) -> u32 {
    description(device).process_id.expect("it is up")
}

fn signal(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("it is there");
}

fn call() -> Vec<Vec<Tensor>> {
    vec![vec![floats("x", &[1, 3], &[1., 2., 3.])]]
}

/// Runs `doubling` until it is not lost, which must be soon.
async fn answered(replica: &dyn Replica) {
    for _ in 0..1_000 {
        match run(replica, call()).await {
            Ok(replies) => return assert_eq!(values(&replies[0][0]), [2., 4., 6.]),
            Err(error) => assert_eq!(error, lost()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no worker came back");
}

fn lost() -> DeviceError {
    DeviceError::Lost { device: DeviceId::Cpu(0) }
}

/// Takes seconds to compute, and next to no input: a product of large matrices, again and again.
fn slow() -> Vec<u8> {
    let mut graph = Graph::default()
        .input("x", Onnx::Float, &[Fixed(1)])
        .integers("shape", &[2], &[2_000, 2_000])
        .node("Expand", &["x", "shape"], "m0");
    for step in 0..40 {
        let (before, after) = (format!("m{step}"), format!("m{}", step + 1));
        graph = graph.node("MatMul", &[before.as_str(), "m0"], &after);
    }
    graph.output("m40", Onnx::Float, &[Fixed(2_000), Fixed(2_000)]).encode()
}

fn slow_call() -> Batch {
    Batch { calls: vec![vec![floats("x", &[1], &[0.])]] }
}

#[tokio::test]
async fn a_worker_that_was_killed_is_replaced_and_its_models_are_loaded_again() {
    let (device, onnx) = (worker().await, doubling(Onnx::Float).encode());
    for (round, engine) in engines().into_iter().enumerate() {
        let replica = load(&device, &onnx, engine, rows(8)).await.expect("loads");
        run(&*replica, call()).await.expect("runs");
        let before = process(&device);
        signal(before, Signal::KILL);
        answered(&*replica).await;
        assert_ne!(process(&device), before, "{engine}");
        assert_eq!(description(&device).starts, round as u64 + 2);
        assert_eq!(device.describe().replicas, 1, "{engine}");
        assert!(!PathBuf::from(format!("/proc/{before}")).exists(), "its end was waited for");
    }
}

#[tokio::test]
async fn runs_that_a_worker_takes_with_it_are_lost_and_all_others_are_answered() {
    let (device, onnx) = (worker().await, doubling(Onnx::Float).encode());
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    let slow = load(&device, &slow(), Engine::Tract, single()).await.expect("loads");
    let running = tokio::spawn(async move { slow.run(0, slow_call()).await });
    // A run of the other lane goes on meanwhile.
    let others = replica.run(1, Batch { calls: call() }).await.expect("runs");
    assert_eq!(values(&others.calls[0][0]), [2., 4., 6.]);
    // Asked for before the worker is gone, so that it is under way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    signal(process(&device), Signal::KILL);
    assert_eq!(running.await.expect("no panic").err(), Some(lost()));
    let all = (0..16).map(|index| {
        let replica = replica.clone();
        tokio::spawn(async move { (index, answered_on(&*replica, index % LANES).await) })
    });
    for run in all.collect::<Vec<_>>() {
        run.await.expect("no panic");
    }
}

async fn answered_on(replica: &dyn Replica, lane: usize) {
    loop {
        match replica.run(lane, Batch { calls: call() }).await {
            Ok(result) => return assert_eq!(values(&result.calls[0][0]), [2., 4., 6.]),
            Err(error) => assert_eq!(error, lost()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_lost_and_its_worker_replaced() {
    let config = WorkerConfig { run_limit: Duration::from_millis(200), ..worker_config() };
    let (device, onnx) = (start(config).await, doubling(Onnx::Float).encode());
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    let hung = load(&device, &slow(), Engine::Tract, single()).await.expect("loads");
    assert_eq!(hung.run(0, slow_call()).await.err(), Some(lost()));
    answered(&*replica).await;
    assert_eq!(description(&device).starts, 2);
}

#[tokio::test]
async fn a_model_that_takes_too_long_to_load_is_refused() {
    let config = WorkerConfig { load_limit: Duration::from_millis(1), ..worker_config() };
    let device = start(config).await;
    let mut graph = Graph::default().input("m0", Onnx::Float, &[Named("batch"), Fixed(3)]);
    for step in 0..2_000 {
        let (before, after) = (format!("m{step}"), format!("m{}", step + 1));
        graph = graph.node("Neg", &[before.as_str()], &after);
    }
    let onnx = graph.output("m2000", Onnx::Float, &[Named("batch"), Fixed(3)]).encode();
    let refused = load(&device, &onnx, Engine::Tract, rows(8)).await.map(|_| ());
    let Err(DeviceError::Load { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("took longer than 1ms"), "{reason}");
}

#[tokio::test]
async fn a_model_that_takes_all_memory_while_it_loads_is_refused_and_harms_no_other() {
    let config = WorkerConfig { memory_bytes: Some(256 << 20), ..worker_config() };
    let (device, onnx) = (start(config).await, doubling(Onnx::Float).encode());
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    // A constant of 800 MB, that an engine computes before anybody asks for it.
    let hungry = Graph::default()
        .input("x", Onnx::Float, &[Fixed(1)])
        .floats("one", &[1], &[1.])
        .integers("shape", &[1], &[200_000_000])
        .node("Expand", &["one", "shape"], "ones")
        .node("Exp", &["ones"], "constant")
        .node("Add", &["x", "constant"], "y")
        .output("y", Onnx::Float, &[Fixed(200_000_000)])
        .encode();
    let refused = load(&device, &hungry, Engine::Tract, single()).await.map(|_| ());
    let Err(DeviceError::Load { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("crashed") || reason.contains("panicked"), "{reason}");
    answered(&*replica).await;
}

#[tokio::test]
async fn memory_beyond_the_limit_costs_the_run_that_wants_it() {
    let config = WorkerConfig { memory_bytes: Some(256 << 20), ..worker_config() };
    let (device, onnx) = (start(config).await, doubling(Onnx::Float).encode());
    let hungry = Graph::default()
        .input("x", Onnx::Float, &[Fixed(1)])
        .integers("shape", &[1], &[200_000_000])
        .node("Expand", &["x", "shape"], "y")
        .output("y", Onnx::Float, &[Fixed(200_000_000)])
        .encode();
    for engine in engines() {
        let replica = load(&device, &onnx, engine, rows(8)).await.expect("loads");
        let hungry = load(&device, &hungry, engine, single()).await.expect("loads");
        let error = hungry.run(0, slow_call()).await.map(|_| ()).expect_err("too much");
        // Whether an engine survives that is the engine's affair.
        assert!(matches!(error, DeviceError::Run { .. } | DeviceError::Lost { .. }), "{error}");
        answered(&*replica).await;
    }
    let confinement = description(&device).confinement;
    assert!(confinement.iter().any(|measure| measure.measure == "more memory"), "{confinement:?}");
}

#[tokio::test]
async fn a_worker_is_kept_from_what_its_description_says() {
    let device = worker().await;
    let status = fs::read_to_string(format!("/proc/{}/status", process(&device))).expect("runs");
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim().to_owned()
    };
    for confinement in description(&device).confinement {
        let in_force = confinement.by.is_some();
        assert_ne!(in_force, confinement.absent.is_some(), "{confinement:?}");
        if confinement.measure == "programs" {
            // Mode 2 is a filter, which all kernels that this was tried on have.
            assert_eq!(value("Seccomp:") == "2", in_force, "{confinement:?}");
            assert_eq!(value("NoNewPrivs:") == "1", in_force, "{confinement:?}");
        }
        if confinement.measure == "files" || confinement.measure == "network" {
            // The worker has tried.
            assert_eq!(in_force, value("Seccomp:") == "2", "{confinement:?}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", process(&device))).expect("runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
}

#[tokio::test]
async fn signals_that_are_meant_for_the_server_do_not_end_a_worker() {
    let (device, onnx) = (worker().await, doubling(Onnx::Float).encode());
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    for stop in [Signal::TERM, Signal::INT, Signal::HUP] {
        signal(process(&device), stop);
        run(&*replica, call()).await.expect("it goes on");
    }
    assert_eq!(description(&device).starts, 1);
}

#[tokio::test]
async fn a_device_that_is_dropped_leaves_no_process_and_loses_its_replicas() {
    let (device, onnx) = (worker().await, doubling(Onnx::Float).encode());
    let replica = load(&device, &onnx, Engine::Tract, rows(8)).await.expect("loads");
    let process = process(&device);
    device.stop();
    assert_eq!(description(&device).down.as_deref(), Some("it was stopped"));
    drop(device);
    assert!(!PathBuf::from(format!("/proc/{process}")).exists());
    assert_eq!(run(&*replica, call()).await, Err(lost()));
}

#[tokio::test]
async fn a_worker_that_does_not_start_is_an_error_that_says_why() {
    let program = |path: &str| {
        let program = WorkerProgram { path: path.into(), ..worker_config().program };
        WorkerConfig { program, ..worker_config() }
    };
    let library =
        |library: &str| WorkerConfig { ort_library: Some(library.into()), ..worker_config() };
    let cases = [
        (program("/nowhere/worker"), "No such file"),
        (program("/bin/true"), "its process ended: exit status: 0"),
        (library("/nowhere/libonnxruntime.so"), "run `make ort`"),
    ];
    for (config, expected) in cases {
        let error = Worker::start(config, &Registry::new()).await.map(|_| ()).expect_err(expected);
        assert!(matches!(error, WorkerError::Start { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for lanes in [0, Worker::MAX_LANES + 1] {
        let config = WorkerConfig { lanes, ..worker_config() };
        let error = Worker::start(config, &Registry::new()).await.map(|_| ()).expect_err("lanes");
        assert!(matches!(error, WorkerError::Lanes), "{error}");
    }
    let registry = Registry::new();
    let _first = Worker::start(worker_config(), &registry).await.expect("the names are free");
    let error = Worker::start(worker_config(), &registry).await.map(|_| ()).expect_err("taken");
    assert!(matches!(error, WorkerError::Metrics(_)), "{error}");
}

#[test]
fn only_a_server_can_start_a_worker() {
    // What this test has for a standard input is no socket of a server.
    let refused = run_device_worker().map(|_| ());
    assert!(matches!(refused, Err(DeviceWorkerError::NotStartedByServer)), "{refused:?}");
}

#[tokio::test]
async fn an_engine_that_is_absent_in_the_worker_is_never_replaced() {
    let config = WorkerConfig { ort_library: None, ..worker_config() };
    let (device, onnx) = (start(config).await, doubling(Onnx::Float).encode());
    assert_eq!(device.preferred_engine(), Engine::Tract);
    let refused = load(&device, &onnx, Engine::OnnxRuntime, rows(8)).await.map(|_| ());
    let Err(DeviceError::EngineAbsent { engine, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(engine, Engine::OnnxRuntime);
    assert!(reason.contains("make ort"), "{reason}");
}

#[tokio::test]
async fn tensors_of_any_size_go_in_and_come_out() {
    let onnx = doubling(Onnx::Float).encode();
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(1 << 22)).await.expect("loads");
        // From a few bytes to more than a lane keeps, and back.
        for count in [1u64, 100_000, 1, 2_000_000, 3] {
            let given: Vec<f32> = (0..count * 3).map(|value| value as f32).collect();
            let calls = vec![vec![floats("x", &[count, 3], &given)]; 2];
            let replies = run(&*replica, calls).await.expect("runs");
            let expected: Vec<f32> = given.iter().map(|value| value * 2.).collect();
            for reply in replies {
                assert!(values(&reply[0]) == expected, "{engine}: {count} rows");
            }
        }
    }
}

#[tokio::test]
async fn replicas_that_are_dropped_are_gone_from_the_worker() {
    let device = Arc::new(worker().await);
    let weights = vec![0.5; 3 << 20];
    let onnx = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .floats("w", &[3, 1 << 20], &weights)
        .node("MatMul", &["x", "w"], "y")
        .output("y", Onnx::Float, &[Named("batch"), Fixed(1 << 20)])
        .encode();
    let resident_mb = || {
        let status = fs::read_to_string(format!("/proc/{}/status", process(&device)));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a size");
        kib.trim().parse::<u64>().expect("a number") >> 10
    };
    for _ in 0..2 {
        drop(load(&*device, &onnx, Engine::Tract, rows(8)).await.expect("loads"));
    }
    let before = resident_mb();
    for _ in 0..20 {
        drop(load(&*device, &onnx, Engine::Tract, rows(8)).await.expect("loads"));
    }
    // Twenty copies are 240 MB.
    let grown = resident_mb().saturating_sub(before);
    assert!(grown < 120, "{grown} MB more");
}
