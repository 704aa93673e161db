//! Gives back the tensors it gets, in the opposite order.

use quern_sdk::{Error, Inputs, Outputs};

quern_sdk::inference!(echo);

fn echo(inputs: Inputs) -> Result<Outputs, Error> {
    let mut tensors: Vec<_> = inputs.into_iter().collect();
    tensors.reverse();
    Ok(tensors.into())
}
