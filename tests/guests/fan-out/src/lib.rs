//! Calls the model once for each row of its input, all calls under way at once, and takes the
//! answers as they come.

use quern_sdk::{Error, Inputs, Model, Outputs, Tensor, wait_any};

quern_sdk::inference!(fan_out);

fn fan_out(inputs: Inputs) -> Result<Outputs, Error> {
    let model = Model::open("digits-mlp")?;
    let pixels = inputs.get("image")?.to_f32()?;
    let rows = pixels.len() / 64;

    let (mut calls, mut row_of_call) = (Vec::new(), Vec::new());
    for (row, image) in pixels.chunks(64).enumerate() {
        calls.push(model.start(Tensor::f32("image", [1, 64], image)?));
        row_of_call.push(row);
    }

    let mut probabilities = vec![0.0; rows * 10];
    while let Some(ended) = wait_any(&calls) {
        let (call, row) = (calls.swap_remove(ended), row_of_call.swap_remove(ended));
        let answer = call.wait()?.get("probabilities")?.to_f32()?;
        probabilities[row * 10..][..10].copy_from_slice(&answer);
    }
    Ok(Tensor::f32("probabilities", [rows as u64, 10], &probabilities)?.into())
}
