//! The GPUs of this machine: looks for them when the server starts, and takes each into use in a
//! process of its own. The server itself never loads their driver. One that can't be used is
//! remembered with the reason, and nothing is computed elsewhere in its place.

use anyhow::Result;
use futures::future::join_all;
use prometheus::{IntCounterVec, Opts, Registry};
use quern_host_gpu::{
    Computing, Gpu, RemoteConfig, RemoteDevice, TensorConfig, TensorDevice, TensorDeviceError,
    WorkerProgram, find_gpus,
};
use quern_types::{AbsenceCause, AbsentDevice, DeviceId, Period};

use crate::config::{Cuda, Devices};

/// Operations of one operator: well below a second of any GPU that there are kernels for.
const WORK: u64 = 1 << 40;

/// The GPUs, for the tensors of functions.
pub(crate) struct Gpus {
    pub(crate) devices: Vec<TensorDevice>,
    /// Their processes.
    pub(crate) processes: Vec<RemoteDevice>,
    /// Those that can't be used, or what is said of all of them.
    pub(crate) absent: Vec<AbsentDevice>,
}

/// Looks for GPUs and starts their processes, as far as the options want that.
pub(crate) async fn start(
    options: &Devices,
    tensors: usize,
    program: WorkerProgram,
    registry: &Registry,
) -> Result<Gpus> {
    let starts = IntCounterVec::new(
        Opts::new(
            "quern_device_tensor_worker_starts_total",
            "Starts of the process that computes tensors; all but the first follow an end of it",
        ),
        &["device"],
    )?;
    registry.register(Box::new(starts.clone()))?;
    let mut gpus = Gpus { devices: Vec::new(), processes: Vec::new(), absent: Vec::new() };
    let found = match options.cuda {
        Cuda::Off => Err(AbsentDevice {
            device: "cuda".to_owned(),
            cause: AbsenceCause::Off,
            reason: "devices.cuda is \"off\" in the configuration: set it to \"auto\"".to_owned(),
        }),
        Cuda::Auto => find_gpus(program.clone()).await,
    };
    let found = match found {
        Ok(found) => found,
        Err(absent) => {
            tracing::debug!(reason = absent.reason, "no GPUs");
            gpus.absent.push(absent);
            return Ok(gpus);
        }
    };
    let started = found.into_iter().map(|gpu| {
        let gpu = Gpu { memory_bytes: options.gpu_memory(gpu.memory_bytes), ..gpu };
        let starts = starts.with_label_values(&[DeviceId::Cuda(gpu.ordinal).to_string()]);
        let config = remote_config(options, &gpu, program.clone());
        async move { (gpu, RemoteDevice::start(config, starts).await) }
    });
    for (gpu, started) in join_all(started).await {
        match started {
            Ok(process) => {
                let id = DeviceId::Cuda(gpu.ordinal);
                // One that there are no threads for leaves the others, and the CPU, to serve.
                match device(options, tensors, gpu, process.clone()) {
                    Ok(device) => {
                        gpus.devices.push(device);
                        gpus.processes.push(process);
                    }
                    Err(error) => gpus.absent.push(not_started(id, error)),
                }
            }
            Err(error) => gpus.absent.push(not_started(DeviceId::Cuda(gpu.ordinal), error)),
        }
    }
    Ok(gpus)
}

fn not_started(device: DeviceId, error: impl ToString) -> AbsentDevice {
    let reason = error.to_string();
    tracing::warn!(%device, reason, "a GPU can't be used");
    AbsentDevice { device: device.to_string(), cause: AbsenceCause::NotStarted, reason }
}

/// How the process of a GPU is started. It notices itself that the GPU does not get on, and so has
/// some time more than that for everything.
fn remote_config(options: &Devices, gpu: &Gpu, program: WorkerProgram) -> RemoteConfig {
    let Period(patience) = options.cuda_timeout.0;
    RemoteConfig {
        device: DeviceId::Cuda(gpu.ordinal),
        program,
        computing: Computing::Cuda {
            ordinal: gpu.ordinal,
            memory_bytes: gpu.memory_bytes,
            patience,
        },
        lanes: options.gpu_lanes(),
        patience: patience.saturating_mul(2),
    }
}

fn device(
    options: &Devices,
    tensors: usize,
    gpu: Gpu,
    process: RemoteDevice,
) -> Result<TensorDevice, TensorDeviceError> {
    let lanes = options.gpu_lanes();
    let config = TensorConfig { lanes, work: WORK, tensors, on_the_spot: false };
    TensorDevice::gpu(gpu, process, config)
}
