//! From a step to the kernels for its element types, with how many threads, and what they are
//! told. Trusts steps; the addresses that kernels are given never lead out of buffers.

mod attention;
mod convolution;
mod cross_entropy;
mod elementwise;
mod fault;
mod histogram;
mod indexing;
mod matmul;
mod movement;
mod optimizer;
mod ordering;
mod parameters;
mod pooling;
mod products;
mod random;
mod reduction;
mod rows;
mod scan;
mod space;

pub(crate) use fault::{FAULT_BYTES, Fault};
pub(crate) use movement::pack;

use cudarc::driver::CudaStream;
use quern_kernels::{Operand, Step};
use quern_operators::{Dtype, Kernel, LaneError};

use crate::{device::Core, driver, memory::Memory, progress::Progress, source::Family};

/// Bytes that kernels may use for a moment.
pub(crate) const SCRATCH_BYTES: u64 = 2 << 20;

/// Most threads of a block; what the kernels are compiled for.
const MAX_THREADS: u32 = 256;

/// Bytes of memory that a step needs while it is computed, beside its inputs and outputs.
pub(crate) fn workspace_bytes(step: &Step) -> u64 {
    ordering::workspace_bytes(step)
}

/// Has the stream compute every element of a step's outputs, whose buffers are there.
pub(crate) fn launch(launcher: &mut Launcher, step: &Step) -> Result<(), LaneError> {
    if let Kernel::Sort(_) | Kernel::TopK(_) = step.kernel() {
        return ordering::order(launcher, step);
    }
    let (inputs, outputs) = (step.inputs(), step.outputs());
    let [out] = outputs else { return launch_several(launcher, step) };
    match step.kernel() {
        Kernel::Fill(fill) => movement::fill(launcher, fill, out),
        Kernel::Copy => movement::copy(launcher, &inputs[0], out),
        Kernel::Cast(to) => elementwise::cast(launcher, *to, &inputs[0], out),
        Kernel::Unary(function) => elementwise::unary(launcher, *function, &inputs[0], out),
        Kernel::Binary(function) => elementwise::binary(launcher, *function, inputs, out),
        Kernel::Compare(comparison) => elementwise::compare(launcher, *comparison, inputs, out),
        Kernel::Logical(function) => elementwise::logical(launcher, *function, inputs, out),
        Kernel::Where => movement::choose(launcher, inputs, out),
        Kernel::Clamp(clamp) => elementwise::clamp(launcher, clamp, &inputs[0], out),
        Kernel::Reduce(reduce) => reduction::reduce(launcher, reduce, &inputs[0], out),
        Kernel::ArgReduce(reduce) => reduction::arg_reduce(launcher, reduce, &inputs[0], out),
        Kernel::CumulativeSum(axis) => scan::cumulative_sum(launcher, *axis, &inputs[0], out),
        Kernel::Histogram(bins) => histogram::histogram(launcher, bins, &inputs[0], out),
        Kernel::Matmul => matmul::matmul(launcher, inputs, out),
        Kernel::Distances(metric) => matmul::distances(launcher, *metric, inputs, out),
        Kernel::Attention(kind) => attention::attention(launcher, kind, inputs, out),
        Kernel::Softmax => rows::softmax(launcher, false, &inputs[0], out),
        Kernel::LogSoftmax => rows::softmax(launcher, true, &inputs[0], out),
        Kernel::LayerNorm(norm) => rows::norm(launcher, norm, inputs, out),
        Kernel::RmsNorm(norm) => rows::norm(launcher, norm, inputs, out),
        Kernel::Concat(axis) => movement::concat(launcher, *axis, inputs, out),
        Kernel::Gather(axis) => indexing::gather(launcher, *axis, inputs, out),
        Kernel::ScatterAdd(axis) => indexing::scatter_add(launcher, *axis, inputs, out),
        Kernel::Convolution(by) => convolution::forward(launcher, by, inputs, out),
        Kernel::ConvolutionInputGradient(gradient) => {
            convolution::input_gradient(launcher, &gradient.convolution, inputs, out)
        }
        Kernel::ConvolutionWeightGradient(gradient) => {
            convolution::weight_gradient(launcher, &gradient.convolution, inputs, out)
        }
        Kernel::MaxPool(pool) => pooling::pool(launcher, "max_pool", pool, &inputs[0], out),
        Kernel::AveragePool(pool) => pooling::pool(launcher, "average_pool", pool, &inputs[0], out),
        Kernel::MaxPoolGradient(pool) => pooling::max_gradient(launcher, pool, inputs, out),
        Kernel::AveragePoolGradient(gradient) => {
            pooling::average_gradient(launcher, &gradient.pool, &inputs[0], out)
        }
        Kernel::Sgd(sgd) => optimizer::sgd(launcher, sgd, inputs, outputs),
        Kernel::Random(random) => random::random(launcher, random, out),
        other => Err(LaneError::Unsupported { operator: other.name() }),
    }
}

/// The same of a step with several outputs.
fn launch_several(launcher: &mut Launcher, step: &Step) -> Result<(), LaneError> {
    let (inputs, outputs) = (step.inputs(), step.outputs());
    match step.kernel() {
        Kernel::CrossEntropy(loss) => cross_entropy::cross_entropy(launcher, loss, inputs, outputs),
        Kernel::Sgd(sgd) => optimizer::sgd(launcher, sgd, inputs, outputs),
        Kernel::Adam(adam) => optimizer::adam(launcher, adam, inputs, outputs),
        other => Err(LaneError::Unsupported { operator: other.name() }),
    }
}

/// Where a step is launched.
pub(crate) struct Launcher<'a> {
    core: &'a Core,
    stream: &'a CudaStream,
    progress: &'a mut Progress,
    memory: &'a Memory,
    pub(crate) scratch_at: u64,
    /// Where there are as many bytes as [`workspace_bytes`] says.
    pub(crate) workspace_at: u64,
    /// Where the library of products may put what it needs for a moment.
    pub(crate) library_at: u64,
    pub(crate) fault_at: u64,
    pub(crate) step: u64,
    /// Whether indices are looked at.
    pub(crate) unsure: bool,
    /// Whether the library of products was called.
    pub(crate) used_library: bool,
}

impl<'a> Launcher<'a> {
    pub(crate) fn new(
        core: &'a Core,
        stream: &'a CudaStream,
        progress: &'a mut Progress,
        memory: &'a Memory,
    ) -> Self {
        Self {
            core,
            stream,
            progress,
            memory,
            scratch_at: 0,
            workspace_at: 0,
            library_at: 0,
            fault_at: 0,
            step: 0,
            unsure: false,
            used_library: false,
        }
    }

    /// Where the first element of a tensor lies.
    fn at(&self, operand: &Operand) -> u64 {
        self.memory.at(operand.buffer()) + operand.layout().offset() * operand.dtype().size()
    }

    /// Launches a kernel with a thread for each of so many jobs, or fewer that take several.
    ///
    /// # Safety
    /// As for [`driver::launch`].
    unsafe fn run<P: Copy>(
        &mut self,
        (family, name): (Family, &str),
        jobs: u64,
        parameters: &P,
    ) -> Result<(), LaneError> {
        // SAFETY: by the contract above.
        unsafe { self.run_blocks((family, name), blocks_for(jobs), jobs, parameters) }
    }

    /// Launches a kernel on so many blocks of threads, or fewer that take several turns, which
    /// touch about so many elements.
    ///
    /// # Safety
    /// As for [`driver::launch`].
    unsafe fn run_blocks<P: Copy>(
        &mut self,
        (family, name): (Family, &str),
        (blocks, threads): (u64, u32),
        work: u64,
        parameters: &P,
    ) -> Result<(), LaneError> {
        if blocks == 0 {
            return Ok(());
        }
        // As many as a device runs at a time, and some more, so that none is idle at the end.
        let most = u64::from(self.core.multiprocessors) * 32;
        let function = self.core.modules.function(family, name);
        let function = function.map_err(|reason| LaneError::Lost { reason })?;
        let shape = (blocks.min(most) as u32, threads);
        // SAFETY: by the contract above.
        let launched = unsafe { driver::launch(self.stream, &function, shape, parameters) };
        self.core.check(name, launched)?;
        self.progress.step(self.core, self.stream, work)
    }
}

/// Blocks with a thread for each of so many jobs.
fn blocks_for(jobs: u64) -> (u64, u32) {
    (jobs.div_ceil(MAX_THREADS.into()), MAX_THREADS)
}

/// Threads of a block that goes through so many elements: a power of 2.
fn threads_for(elements: u64) -> u32 {
    let threads = elements.clamp(32, MAX_THREADS.into()).next_power_of_two();
    threads as u32
}

/// The end of the name of a kernel for an element type.
fn suffix(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool | Dtype::Uint8 => "u8",
        Dtype::Int32 => "i32",
        Dtype::Int64 => "i64",
        Dtype::Fp16 => "f16",
        Dtype::Bf16 => "bf16",
        Dtype::Fp32 => "f32",
        Dtype::Fp64 => "f64",
    }
}
