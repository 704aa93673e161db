//! Gradients in FP16 of rows whose squares it can't hold, beside the same in FP32.

use std::collections::BTreeMap;

use quern_sdk::{
    autograd::Variable,
    gpu::{Dtype, Error, Session},
};

const ROWS: [f32; 8] = [500.0, -300.0, 400.0, 100.0, 1000.0, 20.0, -700.0, 60.0];
const SCALE: [f32; 4] = [1.0, 0.5, 2.0, -1.0];
const BIAS: [f32; 4] = [0.0, 1.0, -1.0, 0.5];
const WEIGHTS: [f32; 8] = [1.0, 2.0, -1.0, 0.5, -2.0, 1.5, 1.0, 3.0];

/// How far the gradients of both are from each other, as a share of the largest.
pub(crate) fn largest() -> Result<BTreeMap<&'static str, f64>, Error> {
    let session = Session::open()?;
    Ok(BTreeMap::from([
        ("layer-norm", apart(&session, |v| v[0].layer_norm(&v[1], &v[2], 1e-5))?),
        ("rms-norm", apart(&session, |v| v[0].rms_norm(&v[1], 1e-5))?),
    ]))
}

fn apart(
    session: &Session,
    function: impl Fn(&[Variable; 3]) -> Result<Variable, Error>,
) -> Result<f64, Error> {
    let [halves, singles] =
        [gradients(session, Dtype::Fp16, &function)?, gradients(session, Dtype::Fp32, &function)?];
    let mut largest: f64 = 0.0;
    for (half, single) in halves.iter().zip(&singles) {
        let scale = single.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (half, single) in half.iter().zip(single) {
            let distance = f64::from((half - single).abs() / scale.max(f32::MIN_POSITIVE));
            // A NaN is as far as can be.
            largest = if distance.is_nan() { f64::MAX } else { largest.max(distance) };
        }
    }
    Ok(largest)
}

/// Those by each input, of one number of all results; none by those that are not taken.
fn gradients(
    session: &Session,
    dtype: Dtype,
    function: impl Fn(&[Variable; 3]) -> Result<Variable, Error>,
) -> Result<Vec<Vec<f32>>, Error> {
    let leaf = |shape: &[u64], elements: &[f32]| {
        Variable::leaf(session.tensor(shape, elements)?.cast(dtype)?)
    };
    let leaves = [leaf(&[2, 4], &ROWS)?, leaf(&[4], &SCALE)?, leaf(&[4], &BIAS)?];
    let weights = session.tensor([2, 4], &WEIGHTS)?.cast(dtype)?;
    let gradients = function(&leaves)?.mul(&weights.into())?.sum_all()?.backward()?;
    let gradients = leaves.iter().filter_map(|leaf| gradients.get(leaf));
    gradients.map(|gradient| gradient.cast(Dtype::Fp32)?.to_vec::<f32>()).collect()
}
