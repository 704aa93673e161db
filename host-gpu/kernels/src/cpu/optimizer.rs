//! Steps of optimizers: each element is read once and written once.

use bytemuck::Pod;
use pulp::NullaryFnOnce;

use super::{
    element::Element,
    elementwise::compute,
    float::Float,
    launch::{Launch, with_float},
    source::Scratch,
    threads::Lines,
    vector::{self, BLOCK},
};
use quern_operators::{Adam, Sgd};

/// One step of gradient descent; without momentum there is no velocity.
pub(super) fn sgd(launch: &Launch, sgd: &Sgd, parameter: &mut [u8], velocity: Option<&mut [u8]>) {
    with_float!(launch.description(0).dtype, T => {
        type C = <T as Element>::Compute;
        let rule = Descent::<C> {
            rate: C::of_f64(sgd.rate),
            momentum: C::of_f64(sgd.momentum),
            decay: C::of_f64(sgd.weight_decay),
            nesterov: sgd.nesterov,
        };
        let parameter = bytemuck::cast_slice_mut(parameter);
        match velocity {
            None => each::<T, 0>(launch, parameter, [], rule),
            Some(velocity) => {
                each::<T, 1>(launch, parameter, [bytemuck::cast_slice_mut(velocity)], rule);
            }
        }
    });
}

/// One step of Adam.
pub(super) fn adam(launch: &Launch, adam: &Adam, parameter: &mut [u8], moments: [&mut [u8]; 2]) {
    with_float!(launch.description(0).dtype, T => {
        type C = <T as Element>::Compute;
        let unbiased = adam.betas.map(|beta| 1.0 - beta.powf(adam.step as f64));
        let (coupled, decoupled) = match adam.decoupled {
            true => (0.0, adam.rate * adam.weight_decay),
            false => (adam.weight_decay, 0.0),
        };
        let rule = Moments::<C> {
            rate: C::of_f64(adam.rate / unbiased[0]),
            betas: adam.betas.map(C::of_f64),
            rest: adam.betas.map(|beta| C::of_f64(1.0 - beta)),
            scale: C::of_f64(unbiased[1].sqrt().recip()),
            epsilon: C::of_f64(adam.epsilon),
            decay: C::of_f64(coupled),
            kept: C::of_f64(1.0 - decoupled),
        };
        let moments = moments.map(bytemuck::cast_slice_mut);
        each::<T, 2>(launch, bytemuck::cast_slice_mut(parameter), moments, rule);
    });
}

/// How a parameter and what is kept for it change, one element of each at a time.
trait Rule<C, const N: usize>: Copy + Send + Sync {
    fn apply(self, parameter: C, gradient: C, kept: [C; N]) -> (C, [C; N]);
}

#[derive(Clone, Copy)]
struct Descent<C> {
    rate: C,
    momentum: C,
    decay: C,
    nesterov: bool,
}

impl<C: Float> Rule<C, 0> for Descent<C> {
    #[inline(always)]
    fn apply(self, parameter: C, gradient: C, _: [C; 0]) -> (C, [C; 0]) {
        let gradient = gradient.add(self.decay.mul(parameter));
        (parameter.sub(self.rate.mul(gradient)), [])
    }
}

impl<C: Float> Rule<C, 1> for Descent<C> {
    #[inline(always)]
    fn apply(self, parameter: C, gradient: C, [velocity]: [C; 1]) -> (C, [C; 1]) {
        let gradient = gradient.add(self.decay.mul(parameter));
        let velocity = self.momentum.mul(velocity).add(gradient);
        let ahead = gradient.add(self.momentum.mul(velocity));
        let along = if self.nesterov { ahead } else { velocity };
        (parameter.sub(self.rate.mul(along)), [velocity])
    }
}

#[derive(Clone, Copy)]
struct Moments<C> {
    rate: C,
    betas: [C; 2],
    /// What `betas` leave.
    rest: [C; 2],
    scale: C,
    epsilon: C,
    decay: C,
    /// How much of the parameter stays.
    kept: C,
}

impl<C: Float> Rule<C, 2> for Moments<C> {
    #[inline(always)]
    fn apply(self, parameter: C, gradient: C, [first, second]: [C; 2]) -> (C, [C; 2]) {
        let gradient = gradient.add(self.decay.mul(parameter));
        let first = self.betas[0].mul(first).add(self.rest[0].mul(gradient));
        let second = self.betas[1].mul(second).add(self.rest[1].mul(gradient.mul(gradient)));
        let size = second.sqrt().mul(self.scale).add(self.epsilon);
        let step = self.rate.mul(first).div(size);
        (self.kept.mul(parameter).sub(step), [first, second])
    }
}

/// Has a rule change a block in its place.
struct Change<'a, C, R, const N: usize> {
    parameters: &'a mut [C],
    gradients: &'a [C],
    kept: [&'a mut [C]; N],
    rule: R,
}

impl<C: Pod, R: Rule<C, N>, const N: usize> NullaryFnOnce for Change<'_, C, R, N> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let length = self.parameters.len();
        let (parameters, gradients) = (self.parameters, &self.gradients[..length]);
        let kept = self.kept.map(|kept| &mut kept[..length]);
        for place in 0..length {
            let before: [C; N] = std::array::from_fn(|number| kept[number][place]);
            let (parameter, after) = self.rule.apply(parameters[place], gradients[place], before);
            parameters[place] = parameter;
            for number in 0..N {
                kept[number][place] = after[number];
            }
        }
    }
}

/// Applies a rule to the parameter, the gradient and what is kept, which are the inputs.
fn each<T: Element, const N: usize>(
    launch: &Launch,
    parameter: &mut [T],
    kept: [&mut [T::Compute]; N],
    rule: impl Rule<T::Compute, N>,
) {
    let (old, gradient) = (launch.source::<T>(0), launch.source::<T>(1));
    let old_kept: [_; N] = std::array::from_fn(|number| launch.source::<T::Compute>(2 + number));
    let lines = (Lines::new(parameter, 1), kept.map(|kept| Lines::new(kept, 1)));
    launch.threads.together(lines, 1 + N, |start, (parameter, mut kept)| {
        let (mut scratch, mut results) = ((Scratch::new(), Scratch::new()), Vec::new());
        for (number, block) in parameter.elements.chunks_mut(BLOCK).enumerate() {
            let (at, length) = (start + number * BLOCK, block.len());
            let kept = kept.each_mut().map(|kept| &mut kept.elements[number * BLOCK..][..length]);
            let mut sources = old_kept.iter();
            let kept = kept.map(|kept| {
                sources.next().into_iter().for_each(|source| source.copy(at, kept));
                kept
            });
            let parameters = old.load(at, length, &mut scratch.0);
            let gradients = gradient.load(at, length, &mut scratch.1);
            compute(block, &mut results, |out| {
                out.copy_from_slice(parameters);
                vector::run(Change { parameters: out, gradients, kept, rule });
            });
        }
    });
}
