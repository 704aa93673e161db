//! Prints how long a model's runs take on each engine of this machine, through the device as the
//! server uses it: the median of many runs on one lane.
//!
//!     cargo run --release -p quern-host-gpu --example run_times -- target/mlp.onnx

use std::{
    env, fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Registry;
use quern_host_gpu::{Cpu, CpuConfig, inspect};
use quern_types::{
    Batch, BatchAxis, Device, Engine, ModelSource, ModelSpec, Replica, Signature, Tensor,
};

const ROWS: [u64; 4] = [1, 8, 32, 64];
const RUNS: usize = 3000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let path = env::args_os().nth(1).ok_or("usage: [ORT_DYLIB_PATH=…] run_times FILE.onnx")?;
    let onnx = fs::read(path)?;
    let signature = inspect(&onnx)?.signature;
    let ort_library = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let device = Cpu::new(CpuConfig { lanes: 1, ort_library }, &Registry::new())?;
    println!("{}", device.describe().name);
    for status in device.describe().engines {
        let Some(version) = status.version else {
            println!("{}: {}", status.engine, status.absent.unwrap_or_default());
            continue;
        };
        let replica = load(&device, &onnx, &signature, status.engine).await?;
        for rows in ROWS {
            let (compute, whole) = measure(&*replica, &signature, rows).await?;
            let engine = status.engine;
            println!("{engine} {version}, {rows} rows: {compute:?} computing, {whole:?} in all");
        }
    }
    Ok(())
}

async fn load(
    device: &Cpu,
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
