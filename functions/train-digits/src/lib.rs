//! Trains a small convolutional network to read handwritten digits, on the host's device, and
//! answers with it as an ONNX file that Quern serves:
//!
//!     curl -X POST 'http://127.0.0.1:7700/f/train-digits/' -o digits-cnn.onnx
//!     quern model deploy digits-cnn.onnx --name digits-cnn
//!
//! | parameter | what | default |
//! |---|---|---|
//! | `epochs` | how often it sees all images, 1 to 100 | 12 |
//! | `batch` | images of a step, 1 to 1,000 | 32 |
//! | `rate` | how far the first steps of Adam go; the last ones go least far | 0.003 |
//! | `seed` | what the first weights and the order of the images follow from | 1 |
//!
//! After each epoch it prints the mean loss and the accuracy on the images that it is not trained
//! on: `quern logs train-digits --follow`. The last ones are headers of the answer, `digits-loss`
//! and `digits-accuracy`.

mod dice;
mod digits;
mod network;
mod onnx;
mod training;

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use quern_sdk::{Error, Request, Response, gpu::Session};

use crate::{digits::Digits, training::Training};

quern_sdk::http!(train);

const EPOCHS: RangeInclusive<u32> = 1..=100;
const BATCH: RangeInclusive<u64> = 1..=1_000;
const RATE: RangeInclusive<f64> = 1e-6..=1.0;

fn train(request: Request) -> Result<Response, Error> {
    if request.method() != "POST" {
        return Ok(Response::text("POST to train a network\n")
            .with_status(405)
            .with_header("allow", "POST"));
    }
    let epochs = parameter(&request, "epochs", 12, EPOCHS)?;
    let batch = parameter(&request, "batch", 32, BATCH)?;
    let rate = parameter(&request, "rate", 0.003, RATE)?;
    let seed = parameter(&request, "seed", 1, 0..=u64::MAX)?;

    let session = Session::open()?;
    println!("training on {} for {epochs} epochs, seed {seed}", session.device());
    let (train, held_out) = Digits::load()?;
    let mut training = Training::new(&session, &train, batch, rate, seed)?;
    let held_out = held_out.upload(&session)?;
    let (mut loss, mut accuracy) = (0.0, 0.0);
    for epoch in 1..=epochs {
        // Steps become shorter, from one epoch to the next.
        loss = training.epoch(1.0 - f64::from(epoch - 1) / f64::from(epochs))?;
        accuracy = training.network().accuracy(&held_out)?;
        println!("epoch {epoch}: loss {loss:.4}, held-out accuracy {accuracy:.4}");
    }
    Ok(Response::bytes("application/octet-stream", training.network().to_onnx()?)
        .with_header("digits-loss", format!("{loss:.4}"))
        .with_header("digits-accuracy", format!("{accuracy:.4}")))
}

fn parameter<T: FromStr + PartialOrd + Display>(
    request: &Request,
    name: &str,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Error> {
    let Some(text) = request.query(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = range.into_inner();
        Error::invalid_input(format!("{name}: {text:?} is no number from {least} to {most}"))
    })
}
