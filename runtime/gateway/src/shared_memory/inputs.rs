//! The inputs of a request that lie in shared memory: found, copied, and only then checked like
//! any other. It knows nothing of signatures.

use quern_types::{ByteSize, DataType, Tensor, TensorError, element_count};

use super::{Placement, PlacementError, RegionError, Regions, Slot};
use crate::{Gateway, body::ReadError, collect::BodyRoom, errors::Failure, v2::off_thread};

/// Copies above this leave the async threads: they take longer than 500 µs.
const LARGE_COPY: usize = 1 << 20;

/// An input without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedInput {
    /// Which of the request's inputs it is.
    pub(crate) position: usize,
    pub(crate) name: String,
    pub(crate) dtype: DataType,
    pub(crate) shape: Vec<u64>,
    pub(crate) place: Placement,
}

impl SharedInput {
    /// Where it lies, if there is as much as its shape asks for.
    fn find(&self, regions: &Regions) -> Result<Slot, PlacementError> {
        let slot = regions.slot(&self.place).map_err(|error| self.refused(error))?;
        let Self { name, dtype, shape, .. } = self;
        let (name, dtype, actual) = (name.as_str().into(), *dtype, self.place.byte_size);
        let Some(size) = dtype.size() else { return Ok(slot) };
        let bytes = element_count(shape).and_then(|elements| elements.checked_mul(size as u64));
        let error = match bytes {
            Some(expected) if expected == actual => return Ok(slot),
            Some(expected) => {
                TensorError::Length { name, shape: shape.clone(), dtype, expected, actual }
            }
            None => TensorError::TooLarge { name, shape: shape.clone() },
        };
        Err(PlacementError::Data { tensor: self.tensor(), error })
    }

    /// A copy of it.
    fn copy(self, slot: &Slot, room: &BodyRoom) -> Result<Tensor, PlacementError> {
        let data = slot.read(room).map_err(|error| self.refused(error))?;
        let tensor = self.tensor();
        let copied = Tensor::new(self.name, self.dtype, self.shape, data);
        copied.map_err(|error| PlacementError::Data { tensor, error })
    }

    fn tensor(&self) -> String {
        format!("inputs[{}]", self.position)
    }

    fn refused(&self, error: RegionError) -> PlacementError {
        PlacementError::Region { tensor: self.tensor(), error }
    }
}

/// All inputs of a request, in their order: those that came with it, and copies of those that lie
/// in shared memory, which together are no longer than a body may be.
pub(crate) async fn fetch(
    gateway: &Gateway,
    given: Vec<Tensor>,
    shared: Vec<SharedInput>,
) -> Result<Vec<Tensor>, Failure> {
    let find = |input: SharedInput| input.find(&gateway.regions).map(|slot| (input, slot));
    let found = shared.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let sizes = found.iter().map(|(_, slot)| slot.byte_size());
    let bytes = sizes.fold(0, usize::saturating_add);
    within(gateway.limits().json_body, bytes)?;
    let room = gateway.body_room.clone();
    let copy = move || place(given, found, &room);
    Ok(if bytes > LARGE_COPY { off_thread(copy).await?? } else { copy()? })
}

fn within(limit: ByteSize, bytes: usize) -> Result<(), RegionError> {
    if bytes as u64 <= limit.0 {
        return Ok(());
    }
    Err(ReadError::TooLarge { limit }.into())
}

/// Puts copies between the others, the first first, so that each position is as it was.
fn place(
    mut inputs: Vec<Tensor>,
    found: Vec<(SharedInput, Slot)>,
    room: &BodyRoom,
) -> Result<Vec<Tensor>, PlacementError> {
    for (input, slot) in found {
        let position = input.position.min(inputs.len());
        inputs.insert(position, input.copy(&slot, room)?);
    }
    Ok(inputs)
}
