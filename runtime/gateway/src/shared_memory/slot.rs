//! A part of a registered region, for one tensor of one request: what is in it is copied out once
//! and looked at afterwards, as its client may change it at any time.

use std::{io, sync::Arc};

use bytes::Bytes;
use quern_types::TensorError;

use super::{Region, RegionError, Registration};
use crate::collect::{BodyRoom, Collected};

/// A part of a region, which it keeps open.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    region: Arc<Region>,
    /// Where it begins in the region, and then bytes.
    offset: u64,
    byte_size: usize,
}

/// Why a tensor is not to be had from shared memory, or not to be put there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlacementError {
    /// There is no such place.
    #[error("{tensor}.parameters.shared_memory_region: {error}")]
    Region {
        /// Where the tensor stands in the request.
        tensor: String,
        /// What is wrong with the region.
        error: RegionError,
    },
    /// What is there is no such tensor.
    #[error("{tensor}: shared memory of {error}")]
    Data {
        /// Where the tensor stands in the request.
        tensor: String,
        /// What is wrong with it.
        error: TensorError,
    },
    /// An output does not fit into its place.
    #[error(
        "output {output:?} has {bytes} bytes, which do not fit into the {byte_size} of its \
         shared_memory_byte_size"
    )]
    Small {
        /// The output's name.
        output: String,
        /// Bytes that it has.
        bytes: usize,
        /// Bytes that there are for it.
        byte_size: usize,
    },
}

impl Slot {
    pub(super) fn of(
        region: Arc<Region>,
        offset: u64,
        byte_size: u64,
    ) -> Result<Self, RegionError> {
        let Registration { name, byte_size: size, .. } = &region.registration;
        let is_inside = offset.checked_add(byte_size).is_some_and(|end| end <= *size);
        match usize::try_from(byte_size) {
            Ok(byte_size) if is_inside => Ok(Self { region, offset, byte_size }),
            _ => {
                let (region, size) = (name.clone(), *size);
                Err(RegionError::Outside { region, offset, byte_size, size })
            }
        }
    }

    /// The region's name.
    pub(crate) fn region(&self) -> &str {
        &self.region.registration.name
    }

    /// Where it begins in the region.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that it has.
    pub(crate) fn byte_size(&self) -> usize {
        self.byte_size
    }

    /// A copy of what is in it, which has its room until it is dropped.
    pub(crate) fn read(&self, room: &BodyRoom) -> Result<Bytes, RegionError> {
        let mut share = room.share(0);
        share.cover(self.byte_size)?;
        let mut content = vec![0; self.byte_size];
        let read = self.region.object.read(self.start(), &mut content);
        read.map_err(|error| self.failure(&error))?;
        Ok(Collected::new(content.into(), share).into_bytes())
    }

    /// Whether so many bytes can be written now.
    pub(crate) fn has_room(&self, bytes: usize) -> Result<(), RegionError> {
        let size = self.region.object.size().map_err(|error| self.failure(&error))?;
        // Writing beyond its end would make it longer again.
        match self.start().checked_add(bytes as u64) {
            Some(end) if end <= size => Ok(()),
            _ => Err(RegionError::Shrunk { region: self.region().to_owned() }),
        }
    }

    /// Copies bytes into it; no more than it has.
    pub(crate) fn write(&self, data: &[u8]) -> Result<(), RegionError> {
        let data = &data[..data.len().min(self.byte_size)];
        self.region.object.write(self.start(), data).map_err(|error| self.failure(&error))
    }

    /// Where it begins in the object. The region is in it, and the slot in the region.
    fn start(&self) -> u64 {
        self.region.registration.offset.saturating_add(self.offset)
    }

    fn failure(&self, error: &io::Error) -> RegionError {
        let region = self.region().to_owned();
        match error.kind() {
            io::ErrorKind::UnexpectedEof => RegionError::Shrunk { region },
            _ => RegionError::System { region, reason: error.to_string() },
        }
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.region, &other.region)
            && (self.offset, self.byte_size) == (other.offset, other.byte_size)
    }
}
