//! Operators that look at the same elements in another way. Never copies anything itself.

use serde::{Deserialize, Serialize};

use super::Check;
use crate::{Description, Layout, OperatorError, Shape};

/// A part of a dimension: every `step`-th from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub start: u64,
    /// One more than the last may be; at most the size of the dimension.
    pub end: u64,
    /// How far to the next; not 0.
    pub step: u64,
}

impl Range {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.end.saturating_sub(self.start).div_ceil(self.step.max(1))
    }
}

/// Another way to look at a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// Its dimensions in another order; each is named once.
    Permute(Vec<u8>),
    /// The same elements in the same order under another shape.
    Reshape(Shape),
    /// Stretched to a shape that its own broadcasts to.
    Broadcast(Shape),
    /// A part of each dimension.
    Slice(Vec<Range>),
}

impl View {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Permute(_) => "permute",
            Self::Reshape(_) => "reshape",
            Self::Broadcast(_) => "broadcast",
            Self::Slice(_) => "slice",
        }
    }

    /// What is seen of the input, or why it can't be. A reshape that needs a copy gives what is
    /// seen of that copy, which is dense.
    pub fn plan(&self, inputs: &[(Description, Layout)]) -> Result<Seen, OperatorError> {
        let descriptions: Vec<_> = inputs.iter().map(|(description, _)| *description).collect();
        let check = Check::new(self.name(), &descriptions);
        let [x] = check.inputs()?;
        let layout = &inputs[0].1;
        let seen = match self {
            Self::Permute(axes) => {
                let axes: Vec<_> = axes.iter().map(|axis| usize::from(*axis)).collect();
                let problem = || check.shapes("the axes don't name each dimension once".to_owned());
                layout.permute(&axes).ok_or_else(problem)?
            }
            Self::Reshape(shape) if shape.elements() != x.shape.elements() => {
                return Err(check.shapes(format!("{shape} has not as many elements")));
            }
            Self::Reshape(shape) => match layout.reshape(*shape) {
                Some(layout) => layout,
                None => return Ok(Seen::OfCopy(Layout::dense(*shape))),
            },
            Self::Broadcast(shape) => {
                let problem = || check.shapes(format!("it does not broadcast to {shape}"));
                layout.broadcast(*shape).ok_or_else(problem)?
            }
            Self::Slice(ranges) => {
                let problem = "the ranges don't lie within the dimensions, or don't step";
                layout.slice(ranges).ok_or_else(|| check.shapes(problem.to_owned()))?
            }
        };
        Ok(Seen::Directly(seen))
    }
}

/// What a view sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Elements of the input's own buffer.
    Directly(Layout),
    /// Those of a dense copy.
    OfCopy(Layout),
}
