//! From a step to the kernel for its element types. Never computes itself.

use bytemuck::Pod;

use super::{
    attention, convolution, cross_entropy, distances, elementwise, histogram, indexing, matmul,
    memory::{Memory, Workspace},
    movement, optimizer, ordering, pooling, random, reduction, rows, scan,
    source::Source,
    threads::Threads,
};
use crate::{LaneError, Operand, Step};
use quern_operators::{Description, Kernel};

/// Runs `$body` with `$T` the type of elements of a float dtype.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use quern_operators::Dtype;
        match $dtype {
            Dtype::Fp16 => {
                type $T = half::f16;
                $body
            }
            Dtype::Bf16 => {
                type $T = half::bf16;
                $body
            }
            Dtype::Fp32 => {
                type $T = f32;
                $body
            }
            Dtype::Fp64 => {
                type $T = f64;
                $body
            }
            Dtype::Bool | Dtype::Uint8 | Dtype::Int32 | Dtype::Int64 => {
                unreachable!("planned for floats only")
            }
        }
    }};
}
pub(super) use with_float;

/// The same for every dtype.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use quern_operators::Dtype;
        match $dtype {
            Dtype::Bool | Dtype::Uint8 => {
                type $T = u8;
                $body
            }
            Dtype::Int32 => {
                type $T = i32;
                $body
            }
            Dtype::Int64 => {
                type $T = i64;
                $body
            }
            float => $crate::cpu::launch::with_float!(float, $T => $body),
        }
    }};
}
pub(super) use with_element;

/// The same with bytes as many as an element has, which may lie anywhere.
macro_rules! with_bytes {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $T = [u8; 1];
                $body
            }
            2 => {
                type $T = [u8; 2];
                $body
            }
            4 => {
                type $T = [u8; 4];
                $body
            }
            _ => {
                type $T = [u8; 8];
                $body
            }
        }
    };
}
pub(super) use with_bytes;

/// A step, and what it is computed with.
pub(super) struct Launch<'a> {
    pub(super) threads: &'a Threads,
    memory: &'a Memory,
    inputs: &'a [Operand],
    outputs: &'a [Operand],
}

impl<'a> Launch<'a> {
    pub(super) fn new(threads: &'a Threads, memory: &'a Memory, step: &'a Step) -> Self {
        Self { threads, memory, inputs: step.inputs(), outputs: step.outputs() }
    }

    /// A launch that only reads a tensor.
    pub(super) fn of_read(threads: &'a Threads, memory: &'a Memory, operand: &'a Operand) -> Self {
        Self { threads, memory, inputs: std::slice::from_ref(operand), outputs: &[] }
    }

    /// Computes every element of every output.
    pub(super) fn run(&self, kernel: &Kernel, out: &mut [&mut [u8]]) -> Result<(), LaneError> {
        match (kernel, out) {
            (Kernel::Sort(sort), [values, places]) => ordering::sort(self, sort, [values, places]),
            (Kernel::TopK(top), [values, places]) => ordering::top_k(self, top, [values, places]),
            (Kernel::CrossEntropy(parameters), [loss, gradient]) => {
                cross_entropy::cross_entropy(self, parameters, kernel.name(), loss, gradient)
            }
            (Kernel::Sgd(sgd), [parameter, velocity]) => {
                optimizer::sgd(self, sgd, parameter, Some(velocity));
                Ok(())
            }
            (Kernel::Adam(adam), [parameter, first, second]) => {
                optimizer::adam(self, adam, parameter, [first, second]);
                Ok(())
            }
            (kernel, [out]) => self.run_one(kernel, out),
            (kernel, out) => unreachable!("{} has not {} outputs", kernel.name(), out.len()),
        }
    }

    /// The same for kernels with one output.
    fn run_one(&self, kernel: &Kernel, out: &mut [u8]) -> Result<(), LaneError> {
        match kernel {
            Kernel::Fill(fill) => elementwise::fill(self, fill, out),
            Kernel::Copy => self.read(out),
            Kernel::Cast(to) => elementwise::cast(self, *to, out),
            Kernel::Unary(function) => elementwise::unary(self, *function, out),
            Kernel::Binary(function) => elementwise::binary(self, *function, out),
            Kernel::Compare(comparison) => elementwise::compare(self, *comparison, out),
            Kernel::Logical(function) => elementwise::logical(self, *function, out),
            Kernel::Where => elementwise::choose(self, out),
            Kernel::Clamp(clamp) => elementwise::clamp(self, clamp, out),
            Kernel::Reduce(reduce) => reduction::reduce(self, reduce, out),
            Kernel::ArgReduce(reduce) => reduction::arg_reduce(self, reduce, out),
            Kernel::CumulativeSum(axis) => return scan::cumulative_sum(self, *axis, out),
            Kernel::Histogram(histogram) => return histogram::histogram(self, histogram, out),
            Kernel::Sort(_) | Kernel::TopK(_) | Kernel::CrossEntropy(_) | Kernel::Adam(_) => {
                unreachable!("they have several outputs")
            }
            Kernel::Matmul => matmul::matmul(self, out),
            Kernel::Distances(metric) => distances::distances(self, *metric, out),
            Kernel::Attention(attention) => return attention::attention(self, attention, out),
            Kernel::Softmax => rows::softmax(self, false, out),
            Kernel::LogSoftmax => rows::softmax(self, true, out),
            Kernel::LayerNorm(norm) => return rows::layer_norm(self, norm, out),
            Kernel::RmsNorm(norm) => return rows::rms_norm(self, norm, out),
            Kernel::Concat(axis) => movement::concat(self, *axis, out),
            Kernel::Gather(axis) => return indexing::gather(self, *axis, kernel.name(), out),
            Kernel::ScatterAdd(axis) => {
                return indexing::scatter_add(self, *axis, kernel.name(), out);
            }
            Kernel::Convolution(by) => return convolution::forward(self, by, out),
            Kernel::ConvolutionInputGradient(gradient) => {
                return convolution::input_gradient(self, &gradient.convolution, out);
            }
            Kernel::ConvolutionWeightGradient(gradient) => {
                return convolution::weight_gradient(self, &gradient.convolution, out);
            }
            Kernel::MaxPool(pool) => return pooling::max(self, pool, out),
            Kernel::MaxPoolGradient(pool) => return pooling::max_gradient(self, pool, out),
            Kernel::AveragePool(pool) => return pooling::average(self, pool, out),
            Kernel::AveragePoolGradient(gradient) => {
                return pooling::average_gradient(self, &gradient.pool, out);
            }
            Kernel::Sgd(sgd) => optimizer::sgd(self, sgd, out, None),
            Kernel::Random(random) => random::random(self, random, out),
        }
        Ok(())
    }

    /// The elements of the first input in row-major order.
    pub(super) fn read(&self, out: &mut [u8]) {
        movement::copy(self, out);
    }

    pub(super) fn operand(&self, input: usize) -> &Operand {
        &self.inputs[input]
    }

    pub(super) fn inputs(&self) -> &[Operand] {
        self.inputs
    }

    pub(super) fn description(&self, input: usize) -> Description {
        self.inputs[input].description()
    }

    pub(super) fn output(&self, output: usize) -> Description {
        self.outputs[output].description()
    }

    /// The buffer that an input lies in.
    pub(super) fn bytes(&self, input: usize) -> &'a [u8] {
        self.memory.get(self.inputs[input].buffer).bytes()
    }

    /// The elements of an input.
    pub(super) fn source<T: Pod>(&self, input: usize) -> Source<'a, T> {
        Source::new(self.bytes(input), &self.inputs[input].layout)
    }

    /// Room for so many elements to compute with, whatever was there before. All memory whose
    /// size inputs decide is had here; what else a kernel takes is a few blocks for each thread.
    pub(super) fn workspace<T: Pod>(&self, elements: usize) -> Result<Workspace<'a, T>, LaneError> {
        self.memory.workspace(elements)
    }
}
