//! Models called with tensors of a device, beside the same calls with tensors of the function.

use quern_sdk::{
    Model,
    gpu::{Outputs, Session, Tensor, Usage},
};
use serde_json::{Value, json};

use crate::{Fault, Outcome};

const MODEL: &str = "digits-mlp";

/// Images that look like digits to nobody.
fn pixels(rows: u64) -> Vec<f32> {
    (0..rows * 64).map(|place| (place * 7 % 17) as f32).collect()
}

fn in_use(session: &Session) -> Value {
    let Usage { bytes, tensors } = session.usage();
    json!({ "bytes": bytes, "tensors": tensors })
}

/// What the model says of images that lie on the device as they were uploaded, as a part of others,
/// and turned: all must be what it says of the function's own.
pub(crate) fn classify(rows: u64) -> Outcome {
    let (session, model) = (Session::open()?, Model::open(MODEL)?);
    let images = session.tensor([rows, 64], &pixels(rows))?;
    let expected = model.infer(images.export("image")?)?.take("probabilities")?.to_f32()?;
    let all = session.tensor([rows + 2, 64], &[vec![3.0; 128], pixels(rows)].concat())?;
    let part = all.narrow(0, 2..rows + 2)?;
    let turned = images.transpose()?.copy()?.transpose()?;
    let before = in_use(&session);
    let mut same = Vec::new();
    for images in [&images, &part, &turned] {
        let probabilities = session.infer(&model, &[("image", images)])?.take("probabilities")?;
        same.push(probabilities.to_vec::<f32>()? == expected);
    }
    // Nothing is left of the calls but what the function holds.
    let after = in_use(&session);
    let outputs = session.infer(&model, &[("image", &images)])?;
    let names: Vec<_> =
        outputs.iter().map(|(name, tensor)| format!("{name}: {tensor:?}")).collect();
    let best = outputs.get("probabilities")?.arg_max(-1)?.to_vec::<i64>()?.len();
    Ok(json!({ "same": same, "left": before == after, "outputs": names, "best": best }))
}

/// Calls with so many images, so many times, and keeps what the last one answered.
pub(crate) fn repeat(rows: u64, times: u64) -> Outcome {
    let (session, model) = (Session::open()?, Model::open(MODEL)?);
    let images = session.tensor([rows, 64], &pixels(rows))?;
    let mut last: Option<Outputs> = None;
    for _ in 0..times {
        last = Some(session.infer(&model, &[("image", &images)])?);
    }
    let usage = in_use(&session);
    let shape = last.map(|outputs| outputs.get("probabilities")?.shape().map(<[u64]>::to_vec));
    Ok(json!({ "shape": shape.transpose()?, "usage": usage }))
}

/// Calls that can't be made, by name.
pub(crate) fn refused(name: &str) -> Outcome {
    // Of the smaller one an image takes all.
    let session = Session::with_memory(if name == "outputs" { 256 } else { 8 << 20 })?;
    let model = Model::open(MODEL)?;
    let images = session.tensor([1, 64], &pixels(1))?;
    let call = |inputs: &[(&str, &Tensor)]| session.infer(&model, inputs).map(drop);
    match name {
        "name" => call(&[("picture", &images)])?,
        "twice" => call(&[("image", &images), ("image", &images)])?,
        "none" => call(&[])?,
        "type" => call(&[("image", &session.tensor([1, 64], &[1i32; 64])?)])?,
        "shape" => call(&[("image", &session.tensor([1, 63], &[1f32; 63])?)])?,
        "rows" => call(&[("image", &images.narrow(0, 0..0)?)])?,
        "foreign" => {
            let other = Session::with_memory(4_096)?;
            call(&[("image", &other.tensor([1, 64], &pixels(1))?)])?;
        }
        "stretched" => {
            // A view that shows the same 256 bytes as more than the session may have.
            call(&[("image", &images.broadcast([1 << 15, 64])?)])?;
        }
        "outputs" => call(&[("image", &images)])?,
        "index" => {
            let place = session.tensor([1], &[7i64])?;
            call(&[("image", &images.gather(0, &place)?)])?;
        }
        _ => return Err(Fault::unknown(name)),
    }
    Ok(Value::Null)
}

/// After a call that was refused the session goes on.
pub(crate) fn goes_on() -> Outcome {
    let (session, model) = (Session::open()?, Model::open(MODEL)?);
    let images = session.tensor([1, 64], &pixels(1))?;
    let refused = session.infer(&model, &[("picture", &images)]).is_err();
    let before = in_use(&session);
    let answered = session.infer(&model, &[("image", &images)]).is_ok();
    Ok(json!({ "refused": refused, "answered": answered, "left": before == in_use(&session) }))
}
