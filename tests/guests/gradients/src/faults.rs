//! What the library refuses, and in which words.

use std::collections::BTreeMap;

use quern_sdk::{
    autograd::{Parameters, Variable},
    gpu::{Error, Session, Tensor},
};

pub(crate) fn messages() -> Result<BTreeMap<&'static str, String>, Error> {
    let session = Session::open()?;
    let pair = session.tensor([2], &[1.0f32, 2.0])?;
    let leaf = Variable::leaf(pair)?;
    let said = |outcome: Result<(), Error>| match outcome {
        Ok(()) => "nothing".to_owned(),
        Err(error) => format!("{:?}: {}", error.kind(), error.message()),
    };
    let mut parameters = Parameters::new(&session, 1);
    let parameter = parameters.full("weight", [2], 1.0)?;
    let wrong = Variable::computed(
        session.scalar(1.0f32)?,
        [leaf.edge(|gradient: &Tensor| Ok(gradient.clone()))],
    )?;
    let detached = leaf.detach().sum_all()?;
    Ok(BTreeMap::from([
        ("several-elements", said(leaf.backward().map(drop))),
        ("constant", said(detached.backward().map(drop))),
        ("gradient-of-another-shape", said(leaf.backward_from(session.scalar(1.0f32)?).map(drop))),
        ("product-of-another-shape", said(wrong.backward().map(drop))),
        ("no-axis", said(leaf.flatten(2).map(drop))),
        ("name-given-twice", said(parameters.full("weight", [2], 0.0).map(drop))),
        ("value-of-another-shape", said(parameter.set(session.scalar(1.0f32)?))),
    ]))
}
