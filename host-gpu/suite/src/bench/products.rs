//! Products of matrices, by kernels of our own beside cuBLASLt, where its library is there.

use anyhow::Result;
use quern_cuda::{CudaDevice, Gemm};
use quern_operators::{Dtype, Kernel};

use super::work::{Pace, Work};
use crate::{
    machine::open,
    report::{Rate, Ratio, Row, Unit},
};

/// Of cuBLASLt's speed, what is aimed at: it is what computes them where it is there.
const AIM: f64 = 0.9;

/// Matrices, rows, columns and inner sizes.
const SIZES: [[u64; 4]; 6] = [
    [1, 256, 256, 256],
    [1, 1024, 1024, 1024],
    [1, 4096, 4096, 4096],
    [1, 8192, 8192, 8192],
    [1, 1, 4096, 4096],
    [64, 512, 512, 128],
];

pub(crate) fn measure(
    device: &CudaDevice,
    ordinal: usize,
    pace: Pace,
    keep: &mut dyn FnMut(Row),
) -> Result<()> {
    let own = open(ordinal, Gemm::Own)?;
    let tf32 = open(ordinal, Gemm::LibraryTf32)?;
    let has_library = device.gemm().starts_with("cublasLt");
    for dtype in [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16, Dtype::Fp64] {
        for size in SIZES {
            let [batch, rows, columns, inner] = size.map(|size| pace.size(size));
            let inputs = [vec![batch, rows, inner], vec![batch, inner, columns]];
            let operations = (2 * batch * rows * columns * inner) as f64;
            let seconds = |device| -> Result<f64> {
                Work::new(device, Kernel::Matmul, dtype, &inputs)?.seconds(pace)
            };
            let mut row = |operator, seconds: f64, ratio| {
                keep(Row {
                    part: "products of matrices",
                    operator,
                    dtype: dtype.to_string(),
                    inputs: inputs.to_vec(),
                    value: seconds,
                    unit: Unit::Seconds,
                    rate: Some(Rate::OperationsPerSecond(operations / seconds)),
                    ratio,
                });
            };
            let own = seconds(&own)?;
            if !has_library {
                row("matmul", own, None);
                continue;
            }
            let library = seconds(device)?;
            row("matmul", library, None);
            let ratio = Ratio { to: "cublasLt", value: library / own, aim: Some(AIM) };
            row("matmul by own kernels", own, Some(ratio));
            if dtype == Dtype::Fp32 {
                row("matmul in TF32", seconds(&tf32)?, None);
            }
        }
    }
    Ok(())
}
