//! From a step to the kernel for its element types. Never computes itself.

use bytemuck::Pod;

use super::{
    elementwise, indexing, matmul, memory::Memory, movement, reduction, rows, source::Source,
    threads::Threads,
};
use crate::{LaneError, Operand};
use quern_operators::{Description, Kernel};

/// Runs `$body` with `$T` the type of elements of a dtype.
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
        }
    }};
}
pub(super) use with_element;

/// The same for floats alone.
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

/// The inputs of a step, and what it is computed with.
pub(super) struct Launch<'a> {
    pub(super) threads: &'a Threads,
    memory: &'a Memory,
    inputs: &'a [Operand],
}

impl<'a> Launch<'a> {
    pub(super) fn new(threads: &'a Threads, memory: &'a Memory, inputs: &'a [Operand]) -> Self {
        Self { threads, memory, inputs }
    }

    /// Computes every element of the output.
    pub(super) fn run(
        &self,
        kernel: &Kernel,
        output: &Operand,
        out: &mut [u8],
    ) -> Result<(), LaneError> {
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
            Kernel::Matmul => matmul::matmul(self, out),
            Kernel::Softmax => rows::softmax(self, false, out),
            Kernel::LogSoftmax => rows::softmax(self, true, out),
            Kernel::LayerNorm(norm) => rows::layer_norm(self, norm, out),
            Kernel::RmsNorm(norm) => rows::rms_norm(self, norm, out),
            Kernel::Concat(axis) => movement::concat(self, *axis, &output.description(), out),
            Kernel::Gather(axis) => return indexing::gather(self, *axis, kernel.name(), out),
            Kernel::ScatterAdd(axis) => {
                return indexing::scatter_add(self, *axis, kernel.name(), out);
            }
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

    /// The buffer that an input lies in.
    pub(super) fn bytes(&self, input: usize) -> &'a [u8] {
        self.memory.get(self.inputs[input].buffer).bytes()
    }

    /// The elements of an input.
    pub(super) fn source<T: Pod>(&self, input: usize) -> Source<'a, T> {
        Source::new(self.bytes(input), &self.inputs[input].layout)
    }
}
