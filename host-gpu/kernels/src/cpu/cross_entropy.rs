//! The loss of a classification and its gradient in one go. Every label is checked before anything
//! is computed.

use super::{
    element::Element,
    float::Float,
    integers::Integers,
    launch::{Launch, with_float},
    number::CastTo,
    reduction::{AddUp, Largest},
    rows::{Row, SumOfExp},
    threads::Lines,
    vector::Function,
};
use crate::LaneError;
use quern_operators::CrossEntropy;

pub(super) fn cross_entropy(
    launch: &Launch,
    parameters: &CrossEntropy,
    name: &'static str,
    loss: &mut [u8],
    gradient: &mut [u8],
) -> Result<(), LaneError> {
    let classes = *launch.description(0).shape.dims().last().expect("rows have a length");
    let labels = Integers::new(launch, 1);
    labels.check(|label| match u64::try_from(label) {
        _ if parameters.ignored == Some(label) => Ok(()),
        Ok(found) if found < classes => Ok(()),
        _ => Err(LaneError::Index { operator: name, index: label, size: classes }),
    })?;
    with_float!(launch.description(0).dtype, T => {
        let (loss, gradient) = (bytemuck::cast_slice_mut(loss), bytemuck::cast_slice_mut(gradient));
        compute::<T>(launch, parameters, &labels, loss, gradient);
    });
    Ok(())
}

fn compute<T: Element<Compute: Float + CastTo<f64>>>(
    launch: &Launch,
    parameters: &CrossEntropy,
    labels: &Integers,
    loss: &mut [T],
    gradient: &mut [T],
) where
    f64: CastTo<T::Compute>,
{
    if loss.is_empty() {
        return;
    }
    let (source, classes) = (launch.source::<T>(0), gradient.len() / loss.len());
    let lines = (Lines::new(loss, 1), Lines::new(gradient, classes));
    launch.threads.together(lines, classes.saturating_mul(4), |start, (loss, gradient)| {
        let (mut row, mut labels) = (Row::new(&source, classes), labels.cursor());
        let lines = loss.elements.iter_mut().zip(gradient.elements.chunks_exact_mut(classes));
        for (number, (loss, gradient)) in lines.enumerate() {
            let label = labels.get(start + number);
            if parameters.ignored == Some(label) {
                *loss = T::zeroed();
                gradient.fill(T::zeroed());
                continue;
            }
            row.turn_to(start + number);
            let compared = Target::new(parameters, label as usize, classes);
            *loss = T::narrow(compared.with(&mut row, gradient));
        }
    });
}

/// What a row is compared with.
struct Target<C> {
    label: usize,
    classes: usize,
    /// The share of the label beyond what every class has.
    share: C,
    /// The share of every class.
    spread: C,
}

impl<C: Float + CastTo<f64>> Target<C>
where
    f64: CastTo<C>,
{
    fn new(parameters: &CrossEntropy, label: usize, classes: usize) -> Self {
        let smoothing = parameters.smoothing;
        let (share, spread) = ((1.0 - smoothing).cast(), (smoothing / classes as f64).cast());
        Self { label, classes, share, spread }
    }

    /// Writes the gradient of a row, and gives its loss.
    fn with<T: Element<Compute = C>>(&self, row: &mut Row<T>, gradient: &mut [T]) -> C {
        let max = row.fold(Largest, |left, right| left.larger(right));
        let sum = row.fold(SumOfExp { max }, |left, right| left.add(right));
        let function = Beyond { max, scale: sum.reciprocal(), spread: self.spread };
        row.write(gradient, function);
        let of_label = function.apply(row.get(self.label));
        gradient[self.label] = T::narrow(of_label.sub(self.share));
        // By differences from the largest, which are small where the loss is. What has no share
        // adds nothing, be it as far away as can be.
        let mut loss: f64 = sum.ln().cast();
        if self.share > C::ZERO {
            loss -= self.share.cast() * row.get(self.label).sub(max).cast();
        }
        if self.spread > C::ZERO {
            let total: f64 = row.total(AddUp) - self.classes as f64 * max.cast();
            loss -= self.spread.cast() * total;
        }
        loss.cast()
    }
}

/// How far the share of an exponential is beyond that of every class.
#[derive(Clone, Copy)]
struct Beyond<C> {
    max: C,
    scale: C,
    spread: C,
}

impl<C: Float> Function<C> for Beyond<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        x.sub(self.max).exp().mul(self.scale).sub(self.spread)
    }
}
