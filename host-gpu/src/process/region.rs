//! Memory that server and worker share: laid out and sized by the server, with the tensors of one
//! run in it at a time. It can't be made smaller, which would crash who looks at it; but the worker
//! can write to all of it at any time, so the server copies out of it and never looks at it in
//! place.

use std::{io, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

/// What every tensor is aligned to: a cache line, and enough for any engine.
const ALIGNMENT: u64 = 64;

/// Most bytes that the tensors of one run have together.
pub(crate) const MAX_BYTES: u64 = 2 << 30;

/// What a lane keeps from run to run, at most; both sides let go of more than this.
pub(crate) const KEPT_BYTES: u64 = 8 << 20;

/// A piece of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A part that does not lie within its region, or a run that needs more than one can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misplaced {
    #[error("bytes {offset} to {offset} + {length} are not in {within} bytes of shared memory")]
    Outside { offset: u64, length: u64, within: u64 },
    #[error("its tensors take more than {} bytes together", MAX_BYTES)]
    TooLarge,
}

/// Gives each tensor of a run its part, one behind the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    used: u64,
}

impl Layout {
    /// A layout of tensors within `room`, which is a part of a region.
    pub(crate) fn behind(start: u64) -> Self {
        Self { used: start }
    }

    pub(crate) fn place(&mut self, length: u64) -> Result<Part, Misplaced> {
        let offset = self.used.checked_next_multiple_of(ALIGNMENT);
        let end = offset.and_then(|offset| offset.checked_add(length));
        let (Some(offset), Some(end @ ..=MAX_BYTES)) = (offset, end) else {
            return Err(Misplaced::TooLarge);
        };
        self.used = end;
        Ok(Part { offset, length })
    }

    /// Where the next tensor could begin.
    pub(crate) fn end(&self) -> u64 {
        self.used.next_multiple_of(ALIGNMENT)
    }
}

/// Memory that both processes have mapped.
pub(crate) struct Region {
    map: MmapRaw,
}

impl Region {
    /// New memory of zeros, for this process and for whoever gets the file.
    pub(crate) fn create(bytes: u64) -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("quern-tensors", flags)?;
        ftruncate(&file, bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file, bytes)?, file))
    }

    /// Maps what the server has created.
    pub(crate) fn open(file: &OwnedFd) -> io::Result<Self> {
        let bytes = u64::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
        Self::map(file, bytes)
    }

    fn map(file: &OwnedFd, bytes: u64) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        Ok(Self { map: MmapOptions::new().len(bytes).map_raw(file)? })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Copies `pieces`, which have the length of the part together, into it.
    pub(crate) fn write<P: AsRef<[u8]>>(&self, part: Part, pieces: &[P]) -> Result<(), Misplaced> {
        let (mut start, length) = self.checked(part)?;
        let pieces = pieces.iter().map(AsRef::as_ref);
        let given: usize = pieces.clone().map(<[u8]>::len).sum();
        if given != length {
            let (offset, length) = (part.offset, given as u64);
            return Err(Misplaced::Outside { offset, length, within: part.length });
        }
        for piece in pieces {
            // SAFETY: the pieces together are as long as the part, which lies within the mapping;
            // the mapping stays as long as `self`, and a sealed file keeps its pages. No reference
            // to this memory exists in this process: the server makes none, and a worker only to
            // the inputs of a run, never to where it is writing outputs.
            unsafe {
                let target = self.map.as_mut_ptr().add(start);
                target.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
            }
            start += piece.len();
        }
        Ok(())
    }

    /// A copy of a part, as it was at some time during the call.
    pub(crate) fn read(&self, part: Part) -> Result<Bytes, Misplaced> {
        let (start, length) = self.checked(part)?;
        let mut copy = Vec::<u8>::with_capacity(length);
        // SAFETY: the part lies within the mapping, which stays as long as `self`, and a sealed
        // file keeps its pages; `copy` has room for it, and is initialised by the copy. The other
        // process may write meanwhile: then it is its own bytes that are a mix of old and new.
        unsafe {
            copy.as_mut_ptr().copy_from_nonoverlapping(self.map.as_ptr().add(start), length);
            copy.set_len(length);
        }
        Ok(copy.into())
    }

    /// A part in place. Only for the worker, and only for inputs: the server does not write to
    /// them until the run is answered.
    pub(crate) fn window(self: &Arc<Self>, part: Part) -> Result<Bytes, Misplaced> {
        let (start, length) = self.checked(part)?;
        Ok(Bytes::from_owner(Window { region: self.clone(), start, length }))
    }

    /// Where a part begins and how long it is, if all of it lies within the mapping.
    fn checked(&self, part: Part) -> Result<(usize, usize), Misplaced> {
        let Part { offset, length } = part;
        let within = self.bytes();
        let outside = Misplaced::Outside { offset, length, within };
        if offset.checked_add(length).is_none_or(|end| end > within) {
            return Err(outside);
        }
        let start = usize::try_from(offset).map_err(|_| outside)?;
        Ok((start, usize::try_from(length).map_err(|_| outside)?))
    }
}

struct Window {
    region: Arc<Region>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the part was found to lie within the mapping, which stays as long as `region`;
        // until the run is answered and the window dropped, neither process writes to it.
        unsafe { std::slice::from_raw_parts(self.region.map.as_ptr().add(self.start), self.length) }
    }
}

/// A model's file, in memory that nobody can change any more.
pub(crate) fn sealed(onnx: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("quern-model", flags)?;
    let mut rest = onnx;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Maps a model's file, which must be sealed.
pub(crate) fn open_sealed(file: &OwnedFd) -> io::Result<Mmap> {
    let bytes = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
    Ok(MmapOptions::new().len(bytes).map_if_safe(file)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_never_overlap_and_are_aligned(
            lengths in prop::collection::vec(0u64..10_000, 0..20),
            start in 0u64..1_000,
        ) {
            let mut layout = Layout::behind(start);
            let mut end = start;
            for length in lengths {
                let part = layout.place(length).expect("small");
                prop_assert_eq!(part.length, length);
                prop_assert_eq!(part.offset % ALIGNMENT, 0);
                prop_assert!(part.offset >= end);
                end = part.offset + length;
                prop_assert!(layout.end() >= end);
            }
        }

        #[test]
        fn no_part_outside_is_read_or_written(
            offset in prop_oneof![0u64..5_000, any::<u64>()],
            length in prop_oneof![0u64..5_000, any::<u64>()],
        ) {
            let (region, _file) = Region::create(4096).expect("memory");
            let part = Part { offset, length };
            let inside = offset.checked_add(length).is_some_and(|end| end <= 4096);
            prop_assert_eq!(region.read(part).is_ok(), inside);
            let pieces = [Bytes::from(vec![0; length.min(5_000) as usize])];
            prop_assert_eq!(region.write(part, &pieces).is_ok(), inside);
            prop_assert_eq!(Arc::new(region).window(part).is_ok(), inside);
        }

        #[test]
        fn what_is_written_is_read_at_its_place_alone(
            pieces in prop::collection::vec(prop::collection::vec(1u8..=255, 0..50), 0..5),
            offset in 0u64..4000,
        ) {
            let (region, _file) = Region::create(4096).expect("memory");
            let joined = pieces.concat();
            let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let part = Part { offset, length: joined.len() as u64 };
            let end = offset + part.length;
            prop_assert_eq!(region.write(part, &pieces).is_ok(), end <= 4096);
            if end <= 4096 {
                prop_assert_eq!(&region.read(part).expect("inside")[..], &joined[..]);
                let all = region.read(Part { offset: 0, length: 4096 }).expect("inside");
                let others = all[..offset as usize].iter().chain(&all[end as usize..]);
                prop_assert!(others.into_iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_run_has_a_largest_size() {
        let mut layout = Layout::behind(1);
        assert_eq!(layout.place(MAX_BYTES), Err(Misplaced::TooLarge));
        assert_eq!(layout.place(u64::MAX), Err(Misplaced::TooLarge));
        assert!(layout.place(MAX_BYTES - ALIGNMENT).is_ok());
        assert_eq!(layout.place(1), Err(Misplaced::TooLarge));
    }

    #[test]
    fn pieces_of_another_length_than_their_part_are_refused() {
        let (region, _file) = Region::create(4096).expect("memory");
        for length in [3, 5] {
            let part = Part { offset: 0, length };
            assert!(region.write(part, &[Bytes::from_static(b"four")]).is_err());
        }
    }

    #[test]
    fn both_sides_see_the_same_memory_which_keeps_its_size() {
        let (near, file) = Region::create(4096).expect("memory");
        let far = Arc::new(Region::open(&file).expect("maps"));
        let part = Part { offset: 64, length: 2 };
        near.write(part, &[Bytes::from_static(b"hi")]).expect("inside");
        assert_eq!(&far.window(part).expect("inside")[..], b"hi");
        for bytes in [0, 8192] {
            assert!(ftruncate(&file, bytes).is_err(), "resized to {bytes}");
        }
    }

    #[test]
    fn a_models_memory_never_changes() {
        let file = sealed(b"a model").expect("memory");
        assert_eq!(&open_sealed(&file).expect("maps")[..], b"a model");
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err());
        assert!(ftruncate(&file, 1).is_err());
        let (_region, open) = Region::create(4096).expect("memory");
        assert!(open_sealed(&open).is_err(), "it may change");
    }
}
