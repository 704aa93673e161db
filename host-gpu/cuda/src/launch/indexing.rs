//! Kernels that are told by indices where to look. Bad indices are noted on the device, and told
//! when the host next waits for it.

use quern_kernels::Operand;
use quern_operators::{LaneError, MAX_RANK};

use super::{
    Launcher, MAX_THREADS, SCRATCH_BYTES,
    fault::Indexed,
    movement::{copy, size_suffix},
    parameters::{Checked, Elementwise, Indexing, Scatter, View},
    space::Space,
    suffix,
};
use crate::source::Family;

/// Indices that are sorted at once, and of these those that a block sorts: as indexing.cu has it.
const PART: u64 = 1 << 16;
const RUN: u64 = 2048;

/// Keys of a part, sorted by runs and then as a whole, are in the scratch memory.
const KEY_BYTES: u64 = 8;
const _: () = assert!(2 * PART * KEY_BYTES <= SCRATCH_BYTES);

/// What an index costs that is sorted, beside an element that is touched.
const SORTING: u64 = 64;

/// Columns side by side that a block adds to at most, and entries that it looks at.
const WIDTH: u64 = 32;
const CHUNK: u64 = 64;

/// A tensor as slices along an axis.
struct Slices<'a> {
    before: &'a [u64],
    size: u64,
    after: &'a [u64],
}

impl<'a> Slices<'a> {
    fn new(x: &'a Operand, axis: u8) -> Self {
        let (before, rest) = x.layout().shape().dims().split_at(axis.into());
        Self { before, size: rest[0], after: &rest[1..] }
    }
}

impl Launcher<'_> {
    /// Has all indices looked at, whatever is done with them then.
    fn check_indices(
        &mut self,
        indexed: Indexed,
        indices: &Operand,
        size: u64,
    ) -> Result<(), LaneError> {
        self.unsure = true;
        let told = self.indexing(indexed, self.elementwise([indices], indices), size);
        let name = format!("check_{}", suffix(indices.dtype()));
        // SAFETY: the kernel takes this struct and writes nothing but the fault; the layout does
        // not lead out of its buffer.
        unsafe { self.run((Family::Indexing, &name), told.each.count, &told) }
    }

    fn indexing(&self, indexed: Indexed, each: Elementwise, size: u64) -> Indexing {
        Indexing { each, checked: self.checked(indexed, size), axis_stride: 0 }
    }

    /// What a kernel holds indices against.
    pub(super) fn checked(&self, indexed: Indexed, size: u64) -> Checked {
        let (step, fault) = (self.step, self.fault_at);
        Checked { size, step, operator: indexed as u32, unused: 0, fault }
    }
}

pub(super) fn gather(
    launcher: &mut Launcher,
    axis: u8,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, indices] = inputs else { unreachable!("planned for two inputs") };
    let slices = Slices::new(x, axis);
    launcher.check_indices(Indexed::Gather, indices, slices.size)?;
    // The dimensions of the result: those of `x`, but for the indices' in the place of an axis.
    let (mut of_x, mut of_indices) = ([0; MAX_RANK], [0; MAX_RANK]);
    let (begin, strides) = (slices.before.len(), x.layout().strides());
    let end = begin + indices.layout().strides().len();
    of_x[..begin].copy_from_slice(&strides[..begin]);
    of_x[end..end + slices.after.len()].copy_from_slice(&strides[begin + 1..]);
    of_indices[begin..end].copy_from_slice(indices.layout().strides());
    let space = Space::new(out.layout().shape().dims(), [&of_x, &of_indices]);
    let mut each = Elementwise {
        count: space.count,
        rank: space.rank,
        dims: space.dims,
        out: launcher.at(out),
        ..Elementwise::default()
    };
    each.inputs[0] = View { data: launcher.at(x), strides: space.strides[0] };
    each.inputs[1] = View { data: launcher.at(indices), strides: space.strides[1] };
    let told = launcher.indexing(Indexed::Gather, each, slices.size);
    let told = Indexing { axis_stride: strides[begin], ..told };
    let name = format!("gather_{}_{}", size_suffix(x.dtype()), suffix(indices.dtype()));
    // SAFETY: the kernel takes this struct, for these element types; the layouts don't lead out of
    // their buffers, an index that would is not followed, and the output has room.
    unsafe { launcher.run((Family::Indexing, &name), told.each.count, &told) }
}

pub(super) fn scatter_add(
    launcher: &mut Launcher,
    axis: u8,
    inputs: &[Operand],
    out: &Operand,
) -> Result<(), LaneError> {
    let [x, indices, updates] = inputs else { unreachable!("planned for three inputs") };
    let slices = Slices::new(x, axis);
    launcher.check_indices(Indexed::ScatterAdd, indices, slices.size)?;
    if out.layout().shape().elements() == 0 {
        return Ok(());
    }
    copy(launcher, x, out)?;
    let (of_indices, of_updates) = (Space::of([indices]), Space::of([updates]));
    let inner = slices.after.iter().product::<u64>();
    let columns = inner * slices.before.iter().product::<u64>();
    let width = columns.next_power_of_two().min(WIDTH);
    let mut told = Scatter {
        begin: 0,
        total: of_indices.count,
        size: slices.size,
        inner,
        columns,
        count: 0,
        width: width as u32,
        chunk: CHUNK as u32,
        index_rank: of_indices.rank,
        update_rank: of_updates.rank,
        unused: 0,
        index_dims: of_indices.dims,
        index_strides: of_indices.strides[0],
        update_dims: of_updates.dims,
        update_strides: of_updates.strides[0],
        indices: launcher.at(indices),
        updates: launcher.at(updates),
        runs: launcher.scratch_at,
        sorted: launcher.scratch_at,
        out: launcher.at(out),
    };
    let names = (suffix(indices.dtype()), suffix(x.dtype()));
    for begin in (0..told.total).step_by(PART as usize) {
        let count = PART.min(told.total - begin);
        (told.begin, told.count) = (begin, count as u32);
        let merged = launcher.scratch_at + PART * KEY_BYTES;
        told.sorted = if count > RUN { merged } else { told.runs };
        add_part(launcher, names, &told)?;
    }
    Ok(())
}

/// Adds what some indices lead to, of a type that the first name says, for elements of the second.
fn add_part(
    launcher: &mut Launcher,
    (index, element): (&str, &str),
    told: &Scatter,
) -> Result<(), LaneError> {
    let count = u64::from(told.count);
    let (sort, alone) = (format!("sort_{index}"), format!("scatter_add_{element}_alone"));
    let together = format!("scatter_add_{element}_together");
    let blocks = told.columns.div_ceil(told.width.into()) * count.div_ceil(CHUNK);
    // SAFETY: all kernels take this struct, for these element types; the scratch memory has room
    // for a part's indices twice, of which those that lead nowhere are left out; updates have an
    // element for each index and column.
    unsafe {
        let shape = (count.div_ceil(RUN), MAX_THREADS);
        launcher.run_blocks((Family::Indexing, &sort), shape, count * SORTING, told)?;
        if told.sorted != told.runs {
            launcher.run((Family::Indexing, "merge_runs"), count, told)?;
        }
        launcher.run((Family::Indexing, &alone), told.columns * count, told)?;
        let shape = (blocks, MAX_THREADS);
        launcher.run_blocks((Family::Indexing, &together), shape, told.columns * count, told)
    }
}
