//! Steps of optimizers.

use quern_kernels::Operand;
use quern_operators::{Adam, LaneError, Sgd};

use super::{
    Launcher,
    parameters::{Optimizer, View},
    space::Space,
    suffix,
};
use crate::source::Family;

/// The kernel for a rule, and what it is told of it.
struct Rule {
    name: &'static str,
    values: [f64; 9],
}

pub(super) fn sgd(
    launcher: &mut Launcher,
    sgd: &Sgd,
    inputs: &[Operand],
    outputs: &[Operand],
) -> Result<(), LaneError> {
    let (rate, decay, momentum) = (sgd.rate, sgd.weight_decay, sgd.momentum);
    match inputs {
        [parameter, gradient] => {
            let values = [rate, decay, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            step(launcher, Rule { name: "descent", values }, [parameter, gradient], outputs)
        }
        [parameter, gradient, velocity] => {
            let ahead = if sgd.nesterov { 1.0 } else { 0.0 };
            let values = [rate, decay, momentum, ahead, 0.0, 0.0, 0.0, 0.0, 0.0];
            let inputs = [parameter, gradient, velocity];
            step(launcher, Rule { name: "momentum", values }, inputs, outputs)
        }
        _ => unreachable!("planned for two or three inputs"),
    }
}

pub(super) fn adam(
    launcher: &mut Launcher,
    adam: &Adam,
    inputs: &[Operand],
    outputs: &[Operand],
) -> Result<(), LaneError> {
    let [parameter, gradient, first, second] = inputs else {
        unreachable!("planned for four inputs")
    };
    let unbiased = adam.betas.map(|beta| 1.0 - beta.powf(adam.step as f64));
    let (decay, stays) = match adam.decoupled {
        true => (0.0, 1.0 - adam.rate * adam.weight_decay),
        false => (adam.weight_decay, 1.0),
    };
    let values = [
        adam.rate / unbiased[0],
        adam.betas[0],
        1.0 - adam.betas[0],
        adam.betas[1],
        1.0 - adam.betas[1],
        unbiased[1].sqrt().recip(),
        adam.epsilon,
        decay,
        stays,
    ];
    let inputs = [parameter, gradient, first, second];
    step(launcher, Rule { name: "adam", values }, inputs, outputs)
}

fn step<const N: usize>(
    launcher: &mut Launcher,
    rule: Rule,
    inputs: [&Operand; N],
    outputs: &[Operand],
) -> Result<(), LaneError> {
    let space = Space::of(inputs);
    let mut told = Optimizer {
        count: space.count,
        first: 0,
        rank: space.rank,
        vector: 0,
        dims: space.dims,
        inputs: [View::default(); 4],
        outputs: [0; 3],
        values: rule.values,
    };
    let mut vector = space.rank == 1;
    for ((told, operand), strides) in told.inputs.iter_mut().zip(inputs).zip(space.strides) {
        *told = View { data: launcher.at(operand), strides };
        vector &= told.is_in_packs();
    }
    told.vector = vector.into();
    for (told, operand) in told.outputs.iter_mut().zip(outputs) {
        *told = launcher.at(operand);
    }
    let name = format!("{}_{}", rule.name, suffix(inputs[0].dtype()));
    // SAFETY: the kernel takes this struct, for these element types; the inputs have one shape, and
    // their layouts don't lead out of their buffers; an output is as long as the input of its kind.
    unsafe { launcher.run((Family::Optimizer, &name), told.count, &told) }
}
