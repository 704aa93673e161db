//! The way of elements between host and device: through a few pieces of pinned memory in turns,
//! so that one is filled while another is on its way.

use std::ops::Range;

use cudarc::driver::{CudaEvent, CudaStream};
use quern_kernels::LaneError;

use crate::{
    device::Core,
    driver::{self, Pinned},
    progress::Progress,
};

/// Bytes of a piece: much less than the second-level cache of a processor, much more than what
/// the device takes to begin with a copy.
pub(crate) const PIECE_BYTES: usize = 512 << 10;

const PIECES: usize = 4;

/// Pinned memory in turns.
pub(crate) struct Staging {
    pieces: Vec<Piece>,
    next: usize,
}

struct Piece {
    memory: Pinned,
    done: CudaEvent,
    under_way: bool,
}

impl Staging {
    pub(crate) fn new(core: &Core) -> Result<Self, LaneError> {
        let piece = |_| {
            let memory = Pinned::new(&core.context, PIECE_BYTES);
            Ok(Piece {
                memory: core.check("taking pinned memory", memory)?,
                done: core.check("making an event", core.context.new_event(None))?,
                under_way: false,
            })
        };
        Ok(Self { pieces: (0..PIECES).map(piece).collect::<Result<_, _>>()?, next: 0 })
    }

    /// Waits until no piece is under way.
    pub(crate) fn rest(&mut self, core: &Core, progress: &mut Progress) -> Result<(), LaneError> {
        self.pieces.iter_mut().try_for_each(|piece| piece.wait(core, progress))
    }

    /// Copies bytes to memory of the stream's, which is as long. They are read before this
    /// returns.
    pub(crate) fn upload(
        &mut self,
        (core, stream): (&Core, &CudaStream),
        progress: &mut Progress,
        bytes: &[u8],
        to: u64,
    ) -> Result<(), LaneError> {
        for (number, part) in bytes.chunks(PIECE_BYTES).enumerate() {
            let piece = &mut self.pieces[self.next];
            piece.wait(core, progress)?;
            piece.memory.bytes_mut()[..part.len()].copy_from_slice(part);
            let at = to + (number * PIECE_BYTES) as u64;
            // SAFETY: the caller's memory is as long as all parts; the piece is not touched
            // before its event has come.
            let copied = unsafe { driver::copy_in(stream, at, &piece.memory, part.len()) };
            core.check("copying to the device", copied)?;
            piece.begin(core, stream)?;
            self.next = (self.next + 1) % PIECES;
        }
        Ok(())
    }

    /// Fills bytes part by part: `issue` has the stream write a part, from so many bytes on, to
    /// pinned memory.
    pub(crate) fn download(
        &mut self,
        (core, stream): (&Core, &CudaStream),
        progress: &mut Progress,
        bytes: &mut [u8],
        mut issue: impl FnMut(Range<usize>, &mut Pinned) -> Result<(), LaneError>,
    ) -> Result<(), LaneError> {
        let total = bytes.len();
        let part = |number: usize| number * PIECE_BYTES..total.min((number + 1) * PIECE_BYTES);
        let parts = total.div_ceil(PIECE_BYTES);
        // Each turn takes out what the piece was given a round before, and gives it the next part.
        for turn in 0..parts + PIECES {
            let piece = &mut self.pieces[turn % PIECES];
            piece.wait(core, progress)?;
            if let Some(landed) = turn.checked_sub(PIECES) {
                let landed = &mut bytes[part(landed)];
                landed.copy_from_slice(&piece.memory.bytes()[..landed.len()]);
            }
            if turn < parts {
                issue(part(turn), &mut piece.memory)?;
                piece.begin(core, stream)?;
            }
        }
        Ok(())
    }
}

impl Piece {
    /// Waits until its memory may be touched.
    fn wait(&mut self, core: &Core, progress: &mut Progress) -> Result<(), LaneError> {
        if self.under_way {
            progress.reach(core, &self.done)?;
            self.under_way = false;
        }
        Ok(())
    }

    /// Its memory is used by what the stream was asked for until now.
    fn begin(&mut self, core: &Core, stream: &CudaStream) -> Result<(), LaneError> {
        self.under_way = true;
        core.check("marking a copy", self.done.record(stream))
    }
}
