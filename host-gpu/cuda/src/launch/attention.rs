//! Attention: a block for some queries of a head, which meet all keys there.

use quern_kernels::Operand;
use quern_operators::{Attention, Dtype, LaneError};

use super::{Launcher, MAX_THREADS, parameters, space::Space, suffix};
use crate::source::Family;

/// Queries of a block.
const TILE: u64 = 64;

/// The matrices of an input, the two innermost dimensions of many.
struct Matrices<'a> {
    at: u64,
    around: &'a [u64],
    around_strides: &'a [u64],
    dims: [u64; 2],
    strides: [u64; 2],
}

impl<'a> Matrices<'a> {
    fn new(launcher: &Launcher, x: &'a Operand) -> Self {
        let split = |all: &'a [u64]| all.split_last_chunk().expect("planned for matrices");
        let (around, &dims) = split(x.layout().shape().dims());
        let (around_strides, &strides) = split(x.layout().strides());
        Self { at: launcher.at(x), around, around_strides, dims, strides }
    }
}

pub(super) fn attention(
    launcher: &mut Launcher,
    attention: &Attention,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    if out.layout().shape().elements() == 0 {
        return Ok(());
    }
    let [query, key, value, mask @ ..] = inputs else { unreachable!("planned for three inputs") };
    let mask = mask.first();
    let [q, k, v] = [query, key, value].map(|x| Matrices::new(launcher, x));
    // Without a mask, what is told of it is not looked at.
    let m = mask.map_or_else(|| Matrices::new(launcher, key), |x| Matrices::new(launcher, x));
    let strides = [&q, &k, &v, &m].map(|matrices| matrices.around_strides);
    let space = Space::new(q.around, strides);
    let ([queries, width], [keys, value_width]) = (q.dims, v.dims);
    let told = parameters::Attention {
        batches: space.count,
        queries,
        keys,
        width,
        value_width,
        rank: space.rank,
        causal: attention.causal.into(),
        masked: mask.map_or(0, |mask| if mask.dtype() == Dtype::Bool { 1 } else { 2 }),
        unused: 0,
        dims: space.dims,
        around: space.strides,
        strides: [q.strides, k.strides, v.strides, m.strides],
        at: [q.at, k.at, v.at, m.at],
        out: launcher.at(out),
        scale: attention.scale(width),
    };
    // Wide values need fewer turns where threads have more of their columns.
    let columns = if value_width > 64 && query.dtype() != Dtype::Fp64 { 128 } else { 64 };
    let name = format!("attention_{}_{columns}", suffix(query.dtype()));
    let parts = queries.div_ceil(TILE) * value_width.div_ceil(columns);
    let blocks = space.count.saturating_mul(parts);
    let met = space.count.saturating_mul(queries).saturating_mul(keys);
    let work = met.saturating_mul(width.saturating_add(value_width));
    // SAFETY: the kernel takes this struct, for this element type; the layouts don't lead out of
    // their buffers, there is a value and an element of the mask for each key that a query meets,
    // and the output has a row for each query.
    unsafe { launcher.run_blocks((Family::Attention, &name), (blocks, MAX_THREADS), work, &told) }
}
