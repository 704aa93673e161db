//! Convolutions of images and their gradients: what they take and give.

use serde::{Deserialize, Serialize};

use super::{
    Check, Plan,
    sliding::{Padding, Sliding, images},
};
use crate::{Accepts, Description, OperatorError};

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
        let work = self.work(&output, &weights);
        Ok(check.plan(output, work.max(output.shape.elements())))
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

    /// What is multiplied and added for results of such a shape.
    fn work(&self, output: &Description, weights: &Description) -> u64 {
        let each = weights.shape.dims()[1..].iter().product::<u64>();
        output.shape.elements().saturating_mul(each)
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
        // Each element looks at all weights of its channel, also where strides leave it out.
        let each = [made / u64::from(convolution.groups), height, width];
        let each = each.iter().fold(1u64, |each, dim| each.saturating_mul(*dim));
        let work = shape.elements().saturating_mul(each).max(shape.elements());
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
        let work = convolution.work(&gradient, &output);
        Ok(check.plan(output, work.max(shape.elements())))
    }
}

fn same_floats(check: &Check) -> Result<[Description; 2], OperatorError> {
    let [left, right] = check.inputs()?;
    check.accepts(left.dtype, Accepts::Floats)?;
    check.same(left.dtype, right.dtype)?;
    Ok([left, right])
}
