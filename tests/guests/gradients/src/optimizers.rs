//! Steps of optimizers beside their formulas, in FP64: what they keep comes back to the next step.

use std::collections::BTreeMap;

use quern_sdk::{
    autograd::{Adam, Gradients, Parameters, Sgd},
    gpu::{self, Dtype, Error, Session},
};

const STEPS: i32 = 5;
const RATE: f64 = 0.1;
const START: [f64; 3] = [1.0, -2.0, 0.5];

/// For each optimizer how far parameters are from where they should be, at most.
pub(crate) fn largest() -> Result<BTreeMap<&'static str, f64>, Error> {
    let session = Session::open()?;
    let momentum = gpu::Sgd { rate: RATE, momentum: 0.9, weight_decay: 0.01, nesterov: false };
    let (mut sgd, mut with_momentum) = (Sgd::new(RATE), Sgd::with(momentum));
    let (mut adam, mut adam_w) = (Adam::new(RATE), Adam::new(RATE).weight_decay(0.01));
    Ok(BTreeMap::from([
        ("sgd", distance(&session, |p, g| sgd.step(p, g), |x| descended(x, 0.0, 0.0))?),
        (
            "momentum",
            distance(&session, |p, g| with_momentum.step(p, g), |x| descended(x, 0.9, 0.01))?,
        ),
        ("adam", distance(&session, |p, g| adam.step(p, g), |x| adapted(x, 0.0))?),
        ("adam-w", distance(&session, |p, g| adam_w.step(p, g), |x| adapted(x, 0.01))?),
    ]))
}

/// Minimises `Σ x⁴ / 4`, whose gradient is `x³`.
fn distance(
    session: &Session,
    mut step: impl FnMut(&Parameters, &Gradients) -> Result<(), Error>,
    expected: impl Fn(f64) -> f64,
) -> Result<f64, Error> {
    let mut parameters = Parameters::of(session, Dtype::Fp64, 1);
    let x = parameters.add("x", session.tensor([3], &START)?)?;
    // It has no gradient, and stays.
    let other = parameters.full("other", [1], 7.0)?;
    for _ in 0..STEPS {
        let loss = x.variable().square()?.square()?.mul_scalar(0.25)?.sum_all()?;
        step(&parameters, &loss.backward()?)?;
    }
    let reached = x.value().to_vec::<f64>()?;
    let distances = reached.iter().zip(START).map(|(x, start)| (x - expected(start)).abs());
    let moved = (other.value().item::<f64>()? - 7.0).abs();
    Ok(distances.fold(moved, f64::max))
}

/// Stochastic gradient descent as PyTorch has it.
fn descended(mut x: f64, momentum: f64, weight_decay: f64) -> f64 {
    let mut velocity = 0.0;
    for _ in 0..STEPS {
        velocity = momentum * velocity + x.powi(3) + weight_decay * x;
        x -= RATE * velocity;
    }
    x
}

/// Adam, with weight decay that is apart from the gradient.
fn adapted(mut x: f64, weight_decay: f64) -> f64 {
    let (mut first, mut second) = (0.0, 0.0);
    for step in 1..=STEPS {
        let gradient = x.powi(3);
        x -= RATE * weight_decay * x;
        first = 0.9 * first + 0.1 * gradient;
        second = 0.999 * second + 0.001 * gradient * gradient;
        let (mean, square) =
            (first / (1.0 - 0.9f64.powi(step)), second / (1.0 - 0.999f64.powi(step)));
        x -= RATE * mean / (square.sqrt() + 1e-8);
    }
    x
}
