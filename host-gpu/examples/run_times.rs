//! Prints how long a model's runs take on each engine of this machine, through the device as the
//! server uses it, in this process and in a worker: the median of many runs on one lane.
//!
//!     cargo run --release -p quern-host-gpu --example run_times -- target/mlp.onnx

use std::{
    env, fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Registry;
use quern_host_gpu::{
    Cpu, CpuConfig, Worker, WorkerConfig, WorkerProgram, inspect, run_device_worker,
};
use quern_types::{
    Batch, BatchAxis, Device, Engine, ModelSource, ModelSpec, Replica, Signature, Tensor,
};

const ROWS: [u64; 4] = [1, 8, 32, 64];
const RUNS: usize = 3000;

/// What a worker is started with.
const WORKER: &str = "device-worker";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let argument = env::args_os().nth(1).ok_or("usage: [ORT_DYLIB_PATH=…] run_times FILE.onnx")?;
    if argument == WORKER {
        match run_device_worker()? {}
    }
    // As the server's: a run that waits for a worker leaves its thread to others.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { tokio::spawn(compare(fs::read(argument)?)).await? })
}

async fn compare(onnx: Vec<u8>) -> Result<(), Failure> {
    let signature = inspect(&onnx)?.signature;
    let ort_library = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let here = CpuConfig { lanes: 1, ort_library: ort_library.clone() };
    let worker = WorkerConfig {
        program: WorkerProgram {
            path: env::current_exe()?,
            arguments: vec![WORKER.into()],
            environment: vec![],
        },
        lanes: 1,
        ort_library,
        memory_bytes: None,
        run_limit: Duration::from_secs(60),
        load_limit: Duration::from_secs(60),
    };
    let devices: [(&str, Box<dyn Device>); 2] = [
        ("in this process", Box::new(Cpu::new(here, &Registry::new())?)),
        ("in a worker", Box::new(Worker::start(worker, &Registry::new()).await?)),
    ];
    println!("{}", devices[0].1.describe().name);
    for status in devices[0].1.describe().engines {
        let Some(version) = status.version else {
            println!("{}: {}", status.engine, status.absent.unwrap_or_default());
            continue;
        };
        let engine = status.engine;
        for rows in ROWS {
            for (place, device) in &devices {
                let replica = load(&**device, &onnx, &signature, engine).await?;
                let (compute, whole) = measure(&*replica, &signature, rows).await?;
                println!(
                    "{engine} {version}, {rows} rows, {place}: {compute:?} computing, {whole:?} in all"
                );
            }
        }
    }
    Ok(())
}

async fn load(
    device: &dyn Device,
    onnx: &[u8],
    signature: &Signature,
    engine: Engine,
) -> Result<Arc<dyn Replica>, Failure> {
    let spec = ModelSpec::new(signature.clone(), engine, BatchAxis::Rows { max: 64 });
    let onnx = bytes::Bytes::copy_from_slice(onnx);
    let source = ModelSource { onnx, spec: Arc::new(spec) };
    Ok(device.load(source).await?)
}

/// Median time of the engine, and of the run with gathering, splitting and hand-over.
async fn measure(
    replica: &dyn Replica,
    signature: &Signature,
    rows: u64,
) -> Result<(Duration, Duration), Failure> {
    let call = zeros(signature)?;
    let (mut compute, mut whole) = (vec![], vec![]);
    for _ in 0..RUNS {
        let calls = (0..rows).map(|_| call.clone()).collect();
        let start = Instant::now();
        let result = replica.run(0, Batch { calls }).await?;
        whole.push(start.elapsed());
        compute.push(result.compute);
    }
    compute.sort_unstable();
    whole.sort_unstable();
    Ok((compute[RUNS / 2], whole[RUNS / 2]))
}

/// A call of one row, all zeros.
fn zeros(signature: &Signature) -> Result<Vec<Tensor>, Failure> {
    let zero = |spec: &quern_types::TensorSpec| -> Result<Tensor, Failure> {
        let shape: Vec<u64> = spec.shape.iter().map(|dim| dim.unsigned_abs()).collect();
        let elements = shape.iter().product::<u64>();
        let size = spec.dtype.size().ok_or("byte strings can't be timed")?;
        let data = vec![0; usize::try_from(elements)? * size];
        Ok(Tensor::new(spec.name.clone(), spec.dtype, shape, data)?)
    };
    signature.inputs().iter().map(zero).collect()
}
