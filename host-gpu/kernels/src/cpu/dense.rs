//! Inputs as one slice to compute with: where they lie if that is possible, else copied to a
//! workspace, which counts as memory of the lane.

use std::ops::Deref;

use bytemuck::Pod;

use super::{
    element::Element,
    launch::Launch,
    memory::Workspace,
    number::Number,
    source::Scratch,
    vector::{self, BLOCK},
};
use crate::LaneError;

/// The elements of an input in row-major order, in the type they are computed in.
pub(super) enum Dense<'a, C> {
    There(&'a [C]),
    Copied(Workspace<'a, C>),
}

impl<'a, C: Number> Dense<'a, C> {
    pub(super) fn new<T: Element<Compute = C>>(
        launch: &Launch<'a>,
        input: usize,
    ) -> Result<Self, LaneError> {
        let count = launch.description(input).shape.elements() as usize;
        let source = launch.source::<T>(input);
        if T::DIRECT
            && let Some(there) = source.together(0, count)
        {
            return Ok(Self::There(bytemuck::cast_slice(there)));
        }
        let mut copied = launch.workspace(count)?;
        launch.threads.chunks(&mut copied[..], 1, |start, chunk| {
            let mut scratch = Scratch::new();
            for (number, block) in chunk.chunks_mut(BLOCK).enumerate() {
                let at = start + number * BLOCK;
                block.copy_from_slice(source.load(at, block.len(), &mut scratch));
            }
        });
        Ok(Self::Copied(copied))
    }
}

impl<C: Pod> Deref for Dense<'_, C> {
    type Target = [C];

    fn deref(&self) -> &[C] {
        match self {
            Self::There(there) => there,
            Self::Copied(copied) => copied,
        }
    }
}

/// Has results computed where they are kept, or in a workspace if they are kept in another type.
pub(super) fn compute<T: Element>(
    launch: &Launch,
    out: &mut [T],
    run: impl FnOnce(&mut [T::Compute]),
) -> Result<(), LaneError> {
    if T::DIRECT {
        run(bytemuck::cast_slice_mut(out));
        return Ok(());
    }
    let mut results = launch.workspace(out.len())?;
    run(&mut results);
    launch.threads.chunks(out, 1, |start, chunk| {
        vector::convert(&results[start..start + chunk.len()], chunk);
    });
    Ok(())
}
