//! Convolutions of images and their gradients: what they take and give.

use serde::{Deserialize, Serialize};

use super::{
    Check, Plan, cost,
    sliding::{Padding, Sliding, images},
};
use crate::{Accepts, Description, OperatorError};

/// Places that devices compute at a time, and lines of what windows see that they sum up at a time.
const PLACES: u64 = 256;
const LINES: u64 = 24;

/// How weights go over images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Convolution {
    /// How far it is to the next place, in rows and in columns.
    pub strides: [u32; 2],
    /// How far apart the pixels are that are looked at, in rows and in columns.
    pub dilations: [u32; 2],
    /// What lies around the images.
    pub padding: Padding,
    /// Into how many groups the channels are divided, each of which sees only its own.
    pub groups: u32,
}

impl Default for Convolution {
    /// Every place, pixels that are neighbours, no padding, one group.
    fn default() -> Self {
        Self { strides: [1; 2], dilations: [1; 2], padding: Padding::default(), groups: 1 }
    }
}

/// The gradient of a convolution by its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvolutionInputGradient {
    /// The convolution.
    pub convolution: Convolution,
    /// Rows and columns of the images: with strides, several sizes have one result.
    pub image: [u64; 2],
}

/// The gradient of a convolution by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvolutionWeightGradient {
    /// The convolution.
    pub convolution: Convolution,
    /// Rows and columns of the weights: with strides, several sizes have one result.
    pub window: [u64; 2],
}

impl Convolution {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x, weights] = same_floats(check)?;
        let [count, channels, rows, columns] = images(&x, check)?;
        let [made, seen, height, width] = self.weights(&weights, check)?;
        if seen.checked_mul(self.groups.into()) != Some(channels) {
            let groups = self.groups;
            return Err(check.shapes(format!(
                "{groups} groups of {seen} channels are not the {channels} of the images"
            )));
        }
        let [down, across] = self.places([rows, columns], [height, width], check)?;
        let output = Description::new(x.dtype, check.shape(&[count, made, down, across])?);
        let lowered = Lowered {
            places: cost::times(&[count, down, across]),
            groups: self.groups.into(),
            made,
            depth: cost::times(&[seen, height, width]),
        };
        Ok(check.plan(output, lowered.work().saturating_add(output.shape.elements())))
    }

    /// The dimensions of weights: channels made, channels seen, rows and columns.
    fn weights(&self, weights: &Description, check: &Check) -> Result<[u64; 4], OperatorError> {
        let dims = weights.shape.dims().try_into();
        let dims: [u64; 4] = dims.map_err(|_| {
            check.shapes(format!("{} has not the four dimensions of weights", weights.shape))
        })?;
        self.divides(dims[0], check)?;
        Ok(dims)
    }

    fn divides(&self, made: u64, check: &Check) -> Result<(), OperatorError> {
        let groups = self.groups;
        if groups == 0 {
            return Err(check.attribute("0 groups have no channels".to_owned()));
        }
        if !made.is_multiple_of(groups.into()) {
            let problem = format!("{made} channels can't be divided into {groups} groups");
            return Err(check.shapes(problem));
        }
        Ok(())
    }

    fn places(
        &self,
        image: [u64; 2],
        window: [u64; 2],
        check: &Check,
    ) -> Result<[u64; 2], OperatorError> {
        let Self { strides, dilations, padding, .. } = *self;
        Sliding { window, strides, dilations, padding }.places(image, check)
    }

    /// An error unless a gradient is shaped as what comes out.
    fn check_gradient(
        &self,
        gradient: &Description,
        expected: [u64; 4],
        check: &Check,
    ) -> Result<(), OperatorError> {
        if gradient.shape.dims() == expected {
            return Ok(());
        }
        let expected = check.shape(&expected)?;
        Err(check.shapes(format!("the gradient should be {expected}")))
    }
}

impl ConvolutionInputGradient {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [gradient, weights] = same_floats(check)?;
        let convolution = &self.convolution;
        let [count, ..] = images(&gradient, check)?;
        let [made, seen, height, width] = convolution.weights(&weights, check)?;
        let [down, across] = convolution.places(self.image, [height, width], check)?;
        convolution.check_gradient(&gradient, [count, made, down, across], check)?;
        let channels = seen.saturating_mul(convolution.groups.into());
        let [rows, columns] = self.image;
        let shape = check.shape(&[count, channels, rows, columns])?;
        let output = Description::new(gradient.dtype, shape);
        // Each pixel looks at all weights of its channel, also where strides leave it out.
        let lowered = Lowered {
            places: cost::times(&[count, rows, columns]),
            groups: convolution.groups.into(),
            made: channels,
            depth: cost::times(&[made / u64::from(convolution.groups), height, width]),
        };
        let work = lowered.work().saturating_add(shape.elements());
        Ok(check.plan(output, work))
    }
}

impl ConvolutionWeightGradient {
    pub(super) fn plan(&self, check: &Check) -> Result<Plan, OperatorError> {
        let [x, gradient] = same_floats(check)?;
        let convolution = &self.convolution;
        let [count, channels, rows, columns] = images(&x, check)?;
        let [_, made, ..] = images(&gradient, check)?;
        convolution.divides(made, check)?;
        let groups = u64::from(convolution.groups);
        if !channels.is_multiple_of(groups) {
            let problem = format!("{channels} channels can't be divided into {groups} groups");
            return Err(check.shapes(problem));
        }
        let [down, across] = convolution.places([rows, columns], self.window, check)?;
        convolution.check_gradient(&gradient, [count, made, down, across], check)?;
        let [height, width] = self.window;
        let shape = check.shape(&[made, channels / groups, height, width])?;
        let output = Description::new(x.dtype, shape);
        let lowered = Lowered {
            places: cost::times(&[count, down, across]),
            groups,
            made,
            depth: cost::times(&[channels / groups, height, width]),
        };
        Ok(check.plan(output, lowered.weights_work().saturating_add(shape.elements())))
    }
}

/// What windows see as matrices, one for each group, that weights or gradients are multiplied with.
struct Lowered {
    /// Windows of all images.
    places: u64,
    groups: u64,
    /// Channels of the other factor, of all groups.
    made: u64,
    /// What a window sees in a group.
    depth: u64,
}

impl Lowered {
    /// What it takes to multiply it by weights: they are loaded for some places at a time.
    fn work(&self) -> u64 {
        let tiles = self.places.div_ceil(PLACES);
        cost::sum(&[
            self.products(),
            cost::times(&[tiles, self.made, self.depth, cost::LOADED]),
            cost::times(&[tiles, self.groups, cost::BEGUN]),
        ])
    }

    /// What it takes to multiply it by gradients: they are loaded for some lines at a time.
    fn weights_work(&self) -> u64 {
        let (tiles, blocks) = (self.places.div_ceil(PLACES), self.depth.div_ceil(LINES));
        cost::sum(&[
            self.products(),
            cost::times(&[self.places, self.made, blocks, cost::LOADED]),
            cost::times(&[tiles, self.groups, blocks, cost::BEGUN]),
        ])
    }

    /// Products, and the pixels that are looked up for them.
    fn products(&self) -> u64 {
        cost::sum(&[
            cost::times(&[self.places, self.made, self.depth]),
            cost::times(&[self.places, self.groups, self.depth, cost::LOADED]),
        ])
    }
}

fn same_floats(check: &Check) -> Result<[Description; 2], OperatorError> {
    let [left, right] = check.inputs()?;
    check.accepts(left.dtype, Accepts::Floats)?;
    check.same(left.dtype, right.dtype)?;
    Ok([left, right])
}
