//! Kernels of our own. Those that memory limits are compared with copies on the device, of which
//! it is measured first what they move.

use anyhow::Result;
use quern_cuda::CudaDevice;
use quern_operators::{
    Attention, Binary, Dtype, Kernel, Norm, Reduce, Reduction, Sort, TopK, Unary,
};

use super::work::{Pace, Work};
use crate::report::{Rate, Ratio, Row, Unit};

/// Of copies on the device, what kernels are to reach that memory limits.
const AIM: f64 = 0.85;

/// An operator on inputs.
struct Case {
    operator: &'static str,
    kernel: Kernel,
    dtype: Dtype,
    inputs: Vec<Vec<u64>>,
    indices: Option<Vec<u64>>,
    turned: bool,
    /// Bytes that are read and written at least, where memory is the limit.
    bytes: Option<u64>,
    operations: Option<u64>,
}

impl Case {
    fn new(operator: &'static str, kernel: Kernel, dtype: Dtype, inputs: &[&[u64]]) -> Self {
        Self {
            operator,
            kernel,
            dtype,
            inputs: inputs.iter().map(|dims| dims.to_vec()).collect(),
            indices: None,
            turned: false,
            bytes: None,
            operations: None,
        }
    }

    /// Of which so many elements are read and written.
    fn moving(mut self, elements: u64) -> Self {
        self.bytes = Some(elements * self.dtype.size());
        self
    }

    fn measure(&self, device: &CudaDevice, pace: Pace) -> Result<f64> {
        let mut work = Work::new(device, self.kernel.clone(), self.dtype, &self.inputs)?;
        if self.turned {
            work = work.turned(&[1, 0])?;
        }
        if let Some(indices) = &self.indices {
            work = work.with_indices(indices, self.inputs[0][0])?;
        }
        work.seconds(pace)
    }
}

pub(crate) fn measure(device: &CudaDevice, pace: Pace, keep: &mut dyn FnMut(Row)) -> Result<()> {
    let mut copying = None;
    for cases in [memory_bound, others] {
        let dtypes = [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16];
        for case in dtypes.into_iter().flat_map(|dtype| cases(pace, dtype)) {
            let seconds = case.measure(device, pace)?;
            let rate = case.bytes.map(|bytes| bytes as f64 / seconds);
            let ratio = match (rate, copying) {
                (Some(rate), Some(copying)) => Some(Ratio {
                    to: "a copy on the device",
                    value: rate / copying,
                    aim: Some(AIM),
                }),
                _ => None,
            };
            // The first case is the copy itself.
            copying = copying.or(rate);
            let operations = case.operations.map(|operations| operations as f64 / seconds);
            keep(Row {
                part: if case.bytes.is_some() { "limited by memory" } else { "limited otherwise" },
                operator: case.operator,
                dtype: case.dtype.to_string(),
                inputs: case.inputs.into_iter().chain(case.indices).collect(),
                value: seconds,
                unit: Unit::Seconds,
                rate: rate.map(Rate::BytesPerSecond).or(operations.map(Rate::OperationsPerSecond)),
                ratio,
            });
        }
    }
    Ok(())
}

/// Larger than any cache, so that memory is what limits.
fn memory_bound(pace: Pace, dtype: Dtype) -> Vec<Case> {
    let (rows, columns) = (pace.size(65_536), pace.size(1024));
    let (x, row) = ([rows, columns], [columns]);
    let (all, norm) = (rows * columns, Norm { epsilon: 1e-5 });
    let of = |operator, kernel, inputs: &[&[u64]]| Case::new(operator, kernel, dtype, inputs);
    let sum = |axes: &[u8]| {
        Kernel::Reduce(Reduce { function: Reduction::Sum, axes: axes.to_vec(), keep: false })
    };
    let mut cases = vec![
        of("copy", Kernel::Copy, &[&x]).moving(2 * all),
        of("add", Kernel::Binary(Binary::Add), &[&x, &x]).moving(3 * all),
        of("add a row", Kernel::Binary(Binary::Add), &[&x, &row]).moving(2 * all),
        of("relu", Kernel::Unary(Unary::Relu), &[&x]).moving(2 * all),
        of("exp", Kernel::Unary(Unary::Exp), &[&x]).moving(2 * all),
        of("gelu", Kernel::Unary(Unary::Gelu), &[&x]).moving(2 * all),
        of("sum", sum(&[0, 1]), &[&x]).moving(all),
        of("sum of rows", sum(&[1]), &[&x]).moving(all),
        of("sum of columns", sum(&[0]), &[&x]).moving(all),
        of("softmax", Kernel::Softmax, &[&x]).moving(2 * all),
        of("layer norm", Kernel::LayerNorm(norm), &[&x, &row, &row]).moving(2 * all),
        of("RMS norm", Kernel::RmsNorm(norm), &[&x, &row]).moving(2 * all),
        of("cumulative sum", Kernel::CumulativeSum(1), &[&x]).moving(2 * all),
        of("concat", Kernel::Concat(0), &[&x, &x]).moving(4 * all),
        of("turn", Kernel::Copy, &[&x]).moving(2 * all),
        of("gather rows", Kernel::Gather(0), &[&x]).moving(2 * all),
    ];
    for case in &mut cases {
        case.turned = case.operator == "turn";
        case.indices = (case.operator == "gather rows").then(|| vec![rows]);
    }
    cases
}

fn others(pace: Pace, dtype: Dtype) -> Vec<Case> {
    let attend = |heads, queries, width, causal| {
        let dims = [pace.size(heads), pace.size(queries), pace.size(width)];
        let kernel = Kernel::Attention(Attention { scale: None, causal });
        let operator = if causal { "causal attention" } else { "attention" };
        let mut case = Case::new(operator, kernel, dtype, &[&dims, &dims, &dims]);
        let all = 4 * dims[0] * dims[1] * dims[1] * dims[2];
        case.operations = Some(if causal { all / 2 } else { all });
        case
    };
    let x = [pace.size(4096), pace.size(4096)];
    let long = [pace.size(1 << 24)];
    let sort = |axis| Kernel::Sort(Sort { axis, descending: false });
    let top = Kernel::TopK(TopK { axis: 1, count: pace.size(64), largest: true });
    vec![
        attend(32, 1024, 64, false),
        attend(32, 4096, 128, false),
        attend(32, 4096, 128, true),
        Case::new("sort rows", sort(1), dtype, &[&x]),
        Case::new("sort", sort(0), dtype, &[&long]),
        Case::new("top-k of rows", top, dtype, &[&x]),
    ]
}
