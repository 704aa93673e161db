//! What kernels are told: the structs of the `.cu` files, field by field.

use quern_operators::MAX_RANK;

/// `View` of quern.cuh.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct View {
    pub(super) data: u64,
    pub(super) strides: [u64; MAX_RANK],
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

/// `Indexing` of indexing.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Indexing {
    pub(super) each: Elementwise,
    pub(super) size: u64,
    pub(super) axis_stride: u64,
    pub(super) step: u64,
    pub(super) operator: u32,
    pub(super) unused: u32,
    pub(super) fault: u64,
}

/// `Scatter` of indexing.cu.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Scatter {
    pub(super) begin: u64,
    pub(super) count: u32,
    pub(super) rounded: u32,
    pub(super) total: u64,
    pub(super) size: u64,
    pub(super) inner: u64,
    pub(super) columns: u64,
    pub(super) index_rank: u32,
    pub(super) update_rank: u32,
    pub(super) index_dims: [u64; MAX_RANK],
    pub(super) index_strides: [u64; MAX_RANK],
    pub(super) update_dims: [u64; MAX_RANK],
    pub(super) update_strides: [u64; MAX_RANK],
    pub(super) indices: u64,
    pub(super) updates: u64,
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
