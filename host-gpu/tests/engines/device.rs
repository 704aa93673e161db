//! The devices under test, with the engines that this machine has.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use prometheus::Registry;
use quern_host_gpu::{Cpu, CpuConfig, ModelOutline, Worker, WorkerConfig, WorkerProgram, inspect};
use quern_types::{
    Batch, BatchAxis, DataType, Device, DeviceError, Engine, ModelSource, ModelSpec, Replica,
    Tensor,
};

pub(crate) const LANES: usize = 2;

/// ONNX Runtime's library, where `make ort` or the environment put it.
pub(crate) fn library() -> Option<PathBuf> {
    if let Some(library) = env::var_os("ORT_DYLIB_PATH") {
        return Some(library.into());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.quern/ort");
    let files = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
    })
}

pub(crate) fn cpu() -> Cpu {
    let config = CpuConfig { lanes: LANES, ort_library: library() };
    Cpu::new(config, &Registry::new()).expect("the CPU is a device")
}

/// A worker is this program again, with the one test that takes the worker's part.
pub(crate) fn worker_config() -> WorkerConfig {
    let arguments = [
        "worker::this_process_computes",
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ];
    WorkerConfig {
        program: WorkerProgram {
            path: env::current_exe().expect("this program's file"),
            arguments: arguments.map(Into::into).into(),
            environment: vec![],
        },
        lanes: LANES,
        ort_library: library(),
        memory_bytes: None,
        run_limit: Duration::from_secs(60),
        load_limit: Duration::from_secs(60),
    }
}

pub(crate) async fn worker() -> Worker {
    Worker::start(worker_config(), &Registry::new()).await.expect("a worker starts")
}

/// Each engine on the device of this process, and on that of a worker.
pub(crate) async fn targets() -> Vec<(Arc<dyn Device>, Engine)> {
    let devices: [Arc<dyn Device>; 2] = [Arc::new(cpu()), Arc::new(worker().await)];
    let each =
        |device: Arc<dyn Device>| engines().into_iter().map(move |engine| (device.clone(), engine));
    devices.into_iter().flat_map(each).collect()
}

/// The engines to test; says so where one is absent.
pub(crate) fn engines() -> Vec<Engine> {
    if library().is_some() {
        return vec![Engine::Tract, Engine::OnnxRuntime];
    }
    eprintln!("skipped for onnxruntime: its library is absent, `make ort` fetches it");
    vec![Engine::Tract]
}

pub(crate) fn outline(onnx: &[u8]) -> ModelOutline {
    inspect(onnx).expect("a model")
}

pub(crate) fn rows(max: u32) -> BatchAxis {
    BatchAxis::Rows { max }
}

pub(crate) fn single() -> BatchAxis {
    BatchAxis::None { reason: "the test says so".into() }
}

pub(crate) async fn load(
    device: &dyn Device,
    onnx: &[u8],
    engine: Engine,
    batch: BatchAxis,
) -> Result<Arc<dyn Replica>, DeviceError> {
    let spec = ModelSpec::new(outline(onnx).signature, engine, batch);
    let onnx = Bytes::copy_from_slice(onnx);
    device.load(ModelSource { onnx, spec: Arc::new(spec) }).await
}

pub(crate) async fn run(
    replica: &dyn Replica,
    calls: Vec<Vec<Tensor>>,
) -> Result<Vec<Vec<Tensor>>, DeviceError> {
    replica.run(0, Batch { calls }).await.map(|result| result.calls)
}

pub(crate) fn floats(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_elements(name, DataType::Fp32, shape.to_vec(), values.to_vec())
        .expect("as many values as the shape says")
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_elements::<f32>().into_owned()
}

/// The reason of a run that failed.
pub(crate) fn run_reason<T: std::fmt::Debug>(result: Result<T, DeviceError>) -> String {
    match result {
        Err(DeviceError::Run { reason, .. }) => reason,
        other => panic!("expected a run that fails, got {other:?}"),
    }
}
