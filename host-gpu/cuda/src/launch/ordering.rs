//! Elements along an axis in order: runs of a line are sorted by a block each, then merged two by
//! two in memory that the step has for a while.

use quern_kernels::{Operand, Step};
use quern_operators::{Dtype, Kernel, LaneError, Layout};

use super::{Launcher, MAX_THREADS, movement::size_suffix, parameters, space::Space, suffix};
use crate::source::Family;

/// Memory that is enough for lines side by side to keep a device busy; one line may need more.
const ENOUGH_BYTES: u64 = 16 << 20;

/// Entries that a thread merges; as in ordering.cu.
const MERGED: u64 = 8;

/// A tensor as lines along an axis, and how they are cut.
struct Lines {
    axis: usize,
    descending: bool,
    count: u64,
    lines: u64,
    length: u64,
    /// Whether keys and places need 64 bits each.
    wide: bool,
    /// Elements that a block sorts, a power of 2.
    elements: u64,
    runs: u64,
    /// Entries that are kept of a run.
    run: u64,
}

impl Lines {
    /// Those of a step that puts elements in order; none if it does something else.
    fn of(step: &Step) -> Option<Self> {
        let (axis, descending) = match step.kernel() {
            Kernel::Sort(sort) => (sort.axis, sort.descending),
            Kernel::TopK(top) => (top.axis, top.largest),
            _ => return None,
        };
        let axis = usize::from(axis);
        let (x, out) = (&step.inputs()[0], &step.outputs()[0]);
        let dims = x.layout().shape().dims();
        let (length, count) = (dims[axis], out.layout().shape().dims()[axis]);
        let lines = out.layout().shape().elements().checked_div(count).unwrap_or(0);
        Some(Self::new(axis, descending, (lines, length, count), x.dtype()))
    }

    fn new(
        axis: usize,
        descending: bool,
        (lines, length, count): (u64, u64, u64),
        dtype: Dtype,
    ) -> Self {
        // The last word of narrow entries comes after all of them.
        let wide = dtype.size() > 4 || length >= u32::MAX.into();
        let most = if wide { 1024 } else { 2048 };
        let elements = most.min(length.max(1).next_power_of_two());
        let (runs, run) = (length.div_ceil(elements), elements.min(count));
        Self { axis, descending, count, lines, length, wide, elements, runs, run }
    }

    fn entry_bytes(&self) -> u64 {
        if self.wide { 16 } else { 8 }
    }

    /// Entries of a line that are kept when its runs are sorted; no merge has more.
    fn room(&self) -> u64 {
        let before = self.runs.saturating_sub(1);
        before * self.run + self.run.min(self.length - before * self.elements)
    }

    /// Bytes of entries of a line: merges go from one half to the other.
    fn line_bytes(&self) -> u64 {
        let bytes = self.room().saturating_mul(2 * self.entry_bytes());
        if self.runs > 1 { bytes } else { 0 }
    }

    /// Lines that are put in order at a time.
    fn at_a_time(&self) -> u64 {
        match self.line_bytes() {
            0 => self.lines,
            bytes => (ENOUGH_BYTES / bytes).clamp(1, self.lines.max(1)),
        }
    }

    /// What kernels are told of the lines, with all that does not change from launch to launch.
    fn told(&self, launcher: &Launcher, x: &Operand, outputs: &[Operand; 2]) -> parameters::Order {
        let (axis, whole) = (self.axis, Layout::dense(*outputs[0].layout().shape()));
        let without = |all: &[u64]| [&all[..axis], &all[axis + 1..]].concat();
        let (dims, strides) = (x.layout().shape().dims(), x.layout().strides());
        let (around, from, to) = (without(dims), without(strides), without(whole.strides()));
        let space = Space::new(&around, [&from, &to]);
        parameters::Order {
            first: 0,
            lines: self.lines,
            length: self.length,
            count: self.count,
            room: self.room(),
            runs: self.runs,
            elements: self.elements,
            run: self.run,
            merged: 0,
            rank: space.rank,
            descending: self.descending.into(),
            dims: space.dims,
            strides: space.strides[0],
            out_strides: space.strides[1],
            stride: strides[axis],
            out_stride: whole.strides()[axis],
            data: launcher.at(x),
            values: launcher.at(&outputs[0]),
            places: launcher.at(&outputs[1]),
            from: 0,
            to: launcher.workspace_at,
        }
    }
}

/// Bytes that a step needs beside its inputs and outputs.
pub(super) fn workspace_bytes(step: &Step) -> u64 {
    let lines = Lines::of(step).filter(|lines| lines.lines > 0);
    lines.map_or(0, |lines| lines.at_a_time().saturating_mul(lines.line_bytes()))
}

pub(super) fn order(launcher: &mut Launcher, step: &Step) -> Result<(), LaneError> {
    let lines = Lines::of(step).expect("asked for by steps that order");
    let (x, outputs) = (&step.inputs()[0], step.outputs());
    let outputs = outputs.as_array().expect("planned for values and places");
    if lines.lines == 0 {
        return Ok(());
    }
    let width = if lines.wide { "wide" } else { "narrow" };
    let sort = format!("sort_runs_{}_{width}", suffix(x.dtype()));
    let merge = format!("merge_runs_{width}");
    let pick = format!("pick_{}_{width}", size_suffix(x.dtype()));
    let half = lines.at_a_time() * lines.line_bytes() / 2;
    let whole = lines.told(launcher, x, outputs);
    for first in (0..lines.lines).step_by(lines.at_a_time() as usize) {
        let now = lines.at_a_time().min(lines.lines - first);
        let mut told = parameters::Order { first, lines: now, ..whole };
        let threads = (lines.elements / 2).clamp(32, MAX_THREADS.into()) as u32;
        let (blocks, work) = (now * lines.runs, now * lines.length);
        // SAFETY: the kernel takes this struct, for this element type; layouts don't lead out of
        // their buffers, outputs have an element for each that comes out of a line, and entries
        // have their room, where there are several runs.
        unsafe {
            launcher.run_blocks((Family::Ordering, &sort), (blocks, threads), work, &told)?;
        }
        while told.runs > 1 {
            let other = if told.to == whole.to { whole.to + half } else { whole.to };
            (told.from, told.to) = (told.to, other);
            told.merged = (2 * told.run).min(lines.count);
            let pairs = told.runs.div_ceil(2);
            let jobs = now * pairs * told.merged.div_ceil(MERGED);
            // SAFETY: the kernel takes this struct; merged, runs are not longer than before, and
            // begin where one of them did.
            unsafe { launcher.run((Family::Ordering, &merge), jobs, &told) }?;
            (told.runs, told.elements, told.run) = (pairs, 2 * told.elements, told.merged);
        }
        if lines.runs > 1 {
            told.from = told.to;
            // SAFETY: as with the first kernel; the one run that is left has as many entries as
            // come out of a line, whose places lie within it.
            unsafe { launcher.run((Family::Ordering, &pick), now * lines.count, &told) }?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_merging_is_bounded_and_enough_for_a_line() {
        let table = [
            // Lines, elements, how many come out: bytes.
            ((5, 2048, 2048), 0),
            ((1, 2049, 2049), 2 * 8 * 2049),
            ((3, 5000, 10), 3 * 2 * 8 * 30),
            ((1, 1 << 26, 1 << 26), 16 << 26),
            ((1 << 20, 4096, 4096), ENOUGH_BYTES),
        ];
        for ((lines, length, count), bytes) in table {
            let lines = Lines::new(0, false, (lines, length, count), Dtype::Fp32);
            assert_eq!(lines.at_a_time() * lines.line_bytes(), bytes, "{length}");
        }
    }

    #[test]
    fn entries_are_wide_where_keys_or_places_are() {
        let wide = |length, dtype| Lines::new(0, false, (1, length, 1), dtype).wide;
        assert!(!wide(u64::from(u32::MAX) - 1, Dtype::Fp32));
        assert!(wide(u32::MAX.into(), Dtype::Uint8) && wide(1, Dtype::Int64));
    }
}
