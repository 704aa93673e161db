//! Elements that have left the lane that they were computed by, for the host or for another lane.

use std::{any::Any, fmt};

use bytes::Bytes;

/// The elements of a tensor, little-endian and row-major.
pub struct Elements {
    bytes: Bytes,
    buffer: Option<Box<dyn Any + Send>>,
}

impl Elements {
    /// Elements in a whole buffer of a device, which its lanes know how to share.
    pub fn of_buffer(bytes: Bytes, buffer: Box<dyn Any + Send>) -> Self {
        Self { bytes, buffer: Some(buffer) }
    }

    /// The elements.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same for the host alone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The buffer that they are all of, if it is one of this kind; the elements themselves stay.
    pub fn take_buffer<T: 'static>(&mut self) -> Option<Box<T>> {
        self.buffer.take()?.downcast().ok()
    }
}

impl From<Vec<u8>> for Elements {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), buffer: None }
    }
}

impl From<Bytes> for Elements {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, buffer: None }
    }
}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}
