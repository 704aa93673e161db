//! Windows that slide over images: how many places they have. Images are the two innermost
//! dimensions of four, rows before columns.

use serde::{Deserialize, Serialize};

use super::Check;
use crate::{Description, OperatorError};

/// Pixels of value 0 around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Padding {
    /// Rows above it.
    pub top: u32,
    /// Rows below it.
    pub bottom: u32,
    /// Columns before it.
    pub left: u32,
    /// Columns after it.
    pub right: u32,
}

impl Padding {
    /// So many on all four sides.
    pub fn even(pixels: u32) -> Self {
        Self { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }

    /// What lies before and after, of rows and of columns.
    pub fn sides(&self) -> [(u64, u64); 2] {
        let sides = [(self.top, self.bottom), (self.left, self.right)];
        sides.map(|(before, after)| (before.into(), after.into()))
    }
}

/// What becomes of images of one size.
pub(super) struct Sliding {
    /// Rows and columns of a window.
    pub(super) window: [u64; 2],
    pub(super) strides: [u32; 2],
    pub(super) dilations: [u32; 2],
    pub(super) padding: Padding,
}

impl Sliding {
    /// The places of the window on images of such rows and columns.
    pub(super) fn places(&self, image: [u64; 2], check: &Check) -> Result<[u64; 2], OperatorError> {
        if self.strides.contains(&0) {
            return Err(check.attribute("a stride of 0 goes nowhere".to_owned()));
        }
        if self.dilations.contains(&0) {
            return Err(check.attribute("a dilation of 0 looks nowhere".to_owned()));
        }
        if self.window.contains(&0) {
            return Err(check.attribute("the window has no pixel".to_owned()));
        }
        let sides = self.padding.sides();
        let mut places = [0; 2];
        for axis in 0..2 {
            if image[axis] == 0 {
                return Err(check.shapes("the images have no pixel".to_owned()));
            }
            let (before, after) = sides[axis];
            let padded = image[axis].saturating_add(before).saturating_add(after);
            let reach = (self.window[axis] - 1)
                .saturating_mul(self.dilations[axis].into())
                .saturating_add(1);
            let Some(room) = padded.checked_sub(reach) else {
                let problem = format!("a window over {reach} pixels is larger than {padded}");
                return Err(check.shapes(problem));
            };
            places[axis] = room / u64::from(self.strides[axis]) + 1;
        }
        Ok(places)
    }
}

/// The dimensions of an input of images: how many, of how many channels, rows and columns.
pub(super) fn images(x: &Description, check: &Check) -> Result<[u64; 4], OperatorError> {
    let four = x.shape.dims().try_into();
    four.map_err(|_| check.shapes(format!("{} has not the four dimensions of images", x.shape)))
}
