//! What graphs keep on the device, and for how long.

use std::collections::BTreeMap;

use quern_sdk::{
    autograd::Variable,
    gpu::{Error, Session},
};

/// So many that dropping them one within the other would overflow the stack.
const SUMS: u64 = 5_000;
const SINES: u64 = 1_000;

/// How many tensors there are after each of these.
pub(crate) fn leftovers() -> Result<BTreeMap<&'static str, u64>, Error> {
    let session = Session::open()?;
    let (value, zero) = (session.tensor([2], &[0.1f32, 0.2])?, session.scalar(0.0f32)?);
    let zero = Variable::constant(zero);
    type Step<'a> = &'a dyn Fn(&Variable) -> Result<Variable, Error>;
    let chain = |length: u64, first: &Variable, step: Step<'_>| {
        (0..length).try_fold(first.clone(), |last, _| step(&last))
    };
    let before = session.usage().tensors;
    let more = || session.usage().tensors - before;

    let constants = chain(SINES, &value.clone().into(), &|x| x.sin())?;
    let of_constants = more();
    drop(constants);

    let leaf = Variable::leaf(value)?;
    let sums = chain(SUMS, &leaf, &|x| x.add(&zero))?;
    let of_sums = more();
    let gradients = sums.sum_all()?.backward()?;
    let gradient = gradients.get(&leaf).map(|gradient| gradient.to_vec::<f32>()).transpose()?;
    let right = u64::from(gradient == Some(vec![1.0; 2]));
    drop((gradients, sums));

    let sines = chain(SINES, &leaf, &|x| x.sin())?;
    let of_sines = more();
    drop(sines);
    Ok(BTreeMap::from([
        ("of-constants", of_constants),
        ("of-sums", of_sums),
        ("of-sines", of_sines),
        ("right-gradients", right),
        ("after", more()),
    ]))
}

/// The gradient by weights that a batch of 64 shares, in a session that has no room for 64 of them.
pub(crate) fn weights() -> Result<BTreeMap<&'static str, f32>, Error> {
    let session = Session::with_memory(320 << 10)?;
    let batch = Variable::constant(session.full([64, 8, 32], 1.0f32)?);
    let weights = Variable::leaf(session.full([32, 32], 0.5f32)?)?;
    let gradients = batch.matmul(&weights)?.sum_all()?.backward()?;
    let gradient = gradients.get(&weights).expect("the sum depends on them");
    let [least, most] = [gradient.min_along(&[0, 1])?, gradient.max_along(&[0, 1])?];
    Ok(BTreeMap::from([("least", least.item()?), ("most", most.item()?)]))
}
