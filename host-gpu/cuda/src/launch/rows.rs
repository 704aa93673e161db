//! Kernels of whole rows: a block for each.

use quern_kernels::Operand;
use quern_operators::{LaneError, Norm};

use super::{Launcher, parameters::Rows, space::Space, suffix, threads_for};
use crate::source::Family;

impl Launcher<'_> {
    fn rows(&self, x: &Operand, out: &Operand) -> Rows {
        let (dims, strides) = (x.layout().shape().dims(), x.layout().strides());
        let ((&length, dims), (&stride, strides)) =
            dims.split_last().zip(strides.split_last()).expect("planned for rows");
        let space = Space::new(dims, [strides]);
        Rows {
            rows: space.count,
            length,
            rank: space.rank,
            logarithm: 0,
            dims: space.dims,
            strides: space.strides[0],
            stride,
            data: self.at(x),
            scale: 0,
            scale_stride: 0,
            bias: 0,
            bias_stride: 0,
            out: self.at(out),
            epsilon: 0.0,
        }
    }

    fn run_rows(&mut self, function: &str, x: &Operand, told: &Rows) -> Result<(), LaneError> {
        let name = format!("{function}_{}", suffix(x.dtype()));
        let blocks = if told.length == 0 { 0 } else { told.rows };
        let (shape, work) = ((blocks, threads_for(told.length)), told.rows * told.length);
        // SAFETY: the kernel takes this struct, for this element type; the layouts don't lead out
        // of their buffers, weights are as long as a row, and the output is as the input.
        unsafe { self.run_blocks((Family::Rows, &name), shape, work, told) }
    }
}

pub(super) fn softmax(
    launcher: &mut Launcher,
    log: bool,
    x: &Operand,
    out: &Operand,
) -> Result<(), LaneError> {
    let told = Rows { logarithm: log.into(), ..launcher.rows(x, out) };
    launcher.run_rows("softmax", x, &told)
}

/// With a bias it is a layer norm, else an RMS norm.
pub(super) fn norm(
    launcher: &mut Launcher,
    norm: &Norm,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, scale, rest @ ..] = inputs else { unreachable!("planned for a scale") };
    let mut told = Rows { epsilon: norm.epsilon, ..launcher.rows(x, out) };
    (told.scale, told.scale_stride) = (launcher.at(scale), scale.layout().strides()[0]);
    if let [bias] = rest {
        (told.bias, told.bias_stride) = (launcher.at(bias), bias.layout().strides()[0]);
    }
    let function = if rest.is_empty() { "rms_norm" } else { "layer_norm" };
    launcher.run_rows(function, x, &told)
}
