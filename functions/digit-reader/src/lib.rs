//! Reads a handwritten digit from a PNG: `POST` it, and get `{"label": 7, "probabilities": […]}`.

mod picture;
mod pixels;

use quern_sdk::{Error, Model, Request, Response, Tensor};
use serde::Serialize;

quern_sdk::http!(read_digit);

/// Longest PNG that is read.
const MAX_PNG_BYTES: usize = 8 << 20;

#[derive(Serialize)]
struct Reading {
    label: usize,
    probabilities: Vec<f32>,
}

fn read_digit(mut request: Request) -> Result<Response, Error> {
    if request.method() != "POST" {
        return Ok(Response::text("POST a PNG of a handwritten digit\n")
            .with_status(405)
            .with_header("allow", "POST"));
    }
    let png = request.body().read_whole(MAX_PNG_BYTES)?;
    let pixels = pixels::of_digit(&picture::decode(&png)?);

    let image = Tensor::f32("image", [1, 64], &pixels)?;
    let answer = Model::open("digits-mlp")?.infer(image)?;

    let probabilities = answer.get("probabilities")?.to_f32()?;
    let label = (0..probabilities.len())
        .max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]))
        .ok_or_else(|| Error::internal("the model gave no probabilities"))?;
    Response::json(&Reading { label, probabilities })
}
