//! What kernels are told: the structs of the `.cu` files, field by field.

use quern_operators::MAX_RANK;

/// Most bytes that are loaded at once.
pub(super) const PACK_BYTES: u64 = 16;

/// `View` of quern.cuh.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct View {
    pub(super) data: u64,
    pub(super) strides: [u64; MAX_RANK],
}

impl View {
    /// Whether elements of one dimension can be loaded several at a time: they lie one after
    /// another, aligned, or are all the same.
    pub(super) fn is_in_packs(&self) -> bool {
        let stride = self.strides[0];
        stride == 0 || (stride == 1 && self.data.is_multiple_of(PACK_BYTES))
    }
}

/// `Elementwise` of quern.cuh.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Elementwise {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) rank: u32,
    pub(super) vector: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) out: u64,
    pub(super) inputs: [View; 3],
    pub(super) values: [u64; 2],
}

/// `Reduce` of reduction.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Reduce {
    pub(super) lines: u64,
    pub(super) length: u64,
    pub(super) pieces: u64,
    pub(super) piece: u64,
    pub(super) kept_rank: u32,
    pub(super) gone_rank: u32,
    pub(super) kept_dims: [u64; MAX_RANK],
    pub(super) kept_strides: [u64; MAX_RANK],
    pub(super) gone_dims: [u64; MAX_RANK],
    pub(super) gone_strides: [u64; MAX_RANK],
    pub(super) data: u64,
    pub(super) out: u64,
    pub(super) partial: u64,
}

/// `Rows` of rows.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Rows {
    pub(super) rows: u64,
    pub(super) length: u64,
    pub(super) rank: u32,
    pub(super) logarithm: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) strides: [u64; MAX_RANK],
    pub(super) stride: u64,
    pub(super) data: u64,
    pub(super) scale: u64,
    pub(super) scale_stride: u64,
    pub(super) bias: u64,
    pub(super) bias_stride: u64,
    pub(super) out: u64,
    pub(super) epsilon: f64,
}

/// `Matmul` of matmul.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Matmul {
    pub(super) batches: u64,
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) inner: u64,
    pub(super) rank: u32,
    pub(super) unused: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) left_strides: [u64; MAX_RANK],
    pub(super) right_strides: [u64; MAX_RANK],
    pub(super) left_row: u64,
    pub(super) left_inner: u64,
    pub(super) right_inner: u64,
    pub(super) right_column: u64,
    pub(super) left: u64,
    pub(super) right: u64,
    pub(super) out: u64,
}

/// `Checked` of quern.cuh.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Checked {
    pub(super) size: u64,
    pub(super) step: u64,
    pub(super) operator: u32,
    pub(super) unused: u32,
    pub(super) fault: u64,
}

/// `Indexing` of indexing.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Indexing {
    pub(super) each: Elementwise,
    pub(super) checked: Checked,
    pub(super) axis_stride: u64,
}

/// `Scatter` of indexing.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Scatter {
    pub(super) begin: u64,
    pub(super) total: u64,
    pub(super) size: u64,
    pub(super) inner: u64,
    pub(super) columns: u64,
    pub(super) count: u32,
    pub(super) width: u32,
    pub(super) chunk: u32,
    pub(super) index_rank: u32,
    pub(super) update_rank: u32,
    pub(super) unused: u32,
    pub(super) index_dims: [u64; MAX_RANK],
    pub(super) index_strides: [u64; MAX_RANK],
    pub(super) update_dims: [u64; MAX_RANK],
    pub(super) update_strides: [u64; MAX_RANK],
    pub(super) indices: u64,
    pub(super) updates: u64,
    pub(super) runs: u64,
    pub(super) sorted: u64,
    pub(super) out: u64,
}

/// `Scan` of scan.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Scan {
    pub(super) lines: u64,
    pub(super) length: u64,
    pub(super) rank: u32,
    pub(super) unused: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) strides: [u64; MAX_RANK],
    pub(super) out_strides: [u64; MAX_RANK],
    pub(super) stride: u64,
    pub(super) out_stride: u64,
    pub(super) data: u64,
    pub(super) out: u64,
}

/// `Histogram` of histogram.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Histogram {
    pub(super) each: Elementwise,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) density: f64,
    pub(super) bins: u32,
    pub(super) unused: u32,
}

/// `Random` of random.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Random {
    pub(super) count: u64,
    pub(super) seed: u64,
    pub(super) offset: u64,
    pub(super) out: u64,
}

/// `Optimizer` of optimizer.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Optimizer {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) rank: u32,
    pub(super) vector: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) inputs: [View; 4],
    pub(super) outputs: [u64; 3],
    pub(super) values: [f64; 9],
}

/// `CrossEntropy` of cross_entropy.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct CrossEntropy {
    pub(super) rows: u64,
    pub(super) length: u64,
    pub(super) rank: u32,
    pub(super) vector: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) strides: [u64; MAX_RANK],
    pub(super) label_strides: [u64; MAX_RANK],
    pub(super) stride: u64,
    pub(super) logits: u64,
    pub(super) labels: u64,
    pub(super) loss: u64,
    pub(super) gradient: u64,
    pub(super) ignored: i64,
    pub(super) ignores: u64,
    pub(super) share: f64,
    pub(super) spread: f64,
    pub(super) checked: Checked,
}

/// `Pooling` of pooling.cu.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Pooling {
    pub(super) channels: u64,
    pub(super) image: [u64; 2],
    pub(super) places: [u64; 2],
    pub(super) window: [u64; 2],
    pub(super) strides: [u64; 2],
    pub(super) before: [u64; 2],
    pub(super) x_strides: [u64; 4],
    pub(super) gradient_strides: [u64; 4],
    pub(super) x: u64,
    pub(super) gradient: u64,
    pub(super) out: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) window_first: u64,
    pub(super) window_count: u64,
    pub(super) located: u64,
}

/// `Side` of convolution.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Side {
    pub(super) count: u64,
    pub(super) dims: [u64; 2],
    pub(super) outer: i64,
    pub(super) steps: [i64; 2],
    pub(super) shifts: [i64; 2],
    pub(super) other: [i64; 3],
}

/// `Convolution` of convolution.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Convolution {
    pub(super) groups: u64,
    pub(super) rows: u64,
    pub(super) columns: Side,
    pub(super) depth: Side,
    pub(super) size: [u64; 2],
    pub(super) strides: [i64; 2],
    pub(super) row: u64,
    pub(super) out_row: u64,
    pub(super) group: u64,
    pub(super) seen_group: u64,
    pub(super) out_group: u64,
    pub(super) pieces: u64,
    pub(super) piece: u64,
    pub(super) factor: u64,
    pub(super) seen: u64,
    pub(super) out: u64,
    pub(super) partial: u64,
}

/// `Attention` of attention.cu: of queries, keys, values and the mask, in this order.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Attention {
    pub(super) batches: u64,
    pub(super) queries: u64,
    pub(super) keys: u64,
    pub(super) width: u64,
    pub(super) value_width: u64,
    pub(super) rank: u32,
    pub(super) causal: u32,
    pub(super) masked: u32,
    pub(super) unused: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) around: [[u64; MAX_RANK]; 4],
    pub(super) strides: [[u64; 2]; 4],
    pub(super) at: [u64; 4],
    pub(super) out: u64,
    pub(super) scale: f64,
}

/// `Order` of ordering.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Order {
    pub(super) first: u64,
    pub(super) lines: u64,
    pub(super) length: u64,
    pub(super) count: u64,
    pub(super) room: u64,
    pub(super) runs: u64,
    pub(super) elements: u64,
    pub(super) run: u64,
    pub(super) merged: u64,
    pub(super) rank: u32,
    pub(super) descending: u32,
    pub(super) dims: [u64; MAX_RANK],
    pub(super) strides: [u64; MAX_RANK],
    pub(super) out_strides: [u64; MAX_RANK],
    pub(super) stride: u64,
    pub(super) out_stride: u64,
    pub(super) data: u64,
    pub(super) values: u64,
    pub(super) places: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}
