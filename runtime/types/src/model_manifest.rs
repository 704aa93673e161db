//! The optional manifest of a model: how it is served, and what its ONNX file can't say of its
//! tensors. Never looks into the file itself; unknown keys are errors.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::{
    Engine, Labels, ManifestError, Period, Range, Signature, WarmUp, manifest::parse_error,
};

/// Longest that a manifest may have calls wait for others.
const MAX_DELAY: Period = Period::from_millis(1_000);
/// Longest time that a manifest may allow a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The manifest of a model, checked as far as that can be done without the model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelManifest {
    /// The engine to pin; none: the best that this server has.
    pub engine: Option<Engine>,
    /// Most rows in one batch; none: the server's default.
    pub max_batch: Option<u32>,
    /// Longest that a call waits for others to share its run while a lane is idle; none: it never
    /// does.
    pub max_delay: Option<Period>,
    /// How long a call that names no time of its own may take; none: the server's default.
    pub timeout: Option<Period>,
    /// Most batches at the same time; none: one for each lane of the device.
    pub lanes: Option<NonZeroU32>,
    /// What is computed before the first call; none: nothing.
    pub warm_up: Option<WarmUp>,
    /// Ranges of values by input.
    pub inputs: Vec<InputRange>,
    /// Labels by output.
    pub outputs: Vec<OutputLabels>,
}

/// The values that one input of a model accepts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRange {
    /// The input.
    pub name: String,
    /// Its values.
    pub range: Range,
}

/// What the places of an output's last dimension stand for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLabels {
    /// The output.
    pub name: Arc<str>,
    /// A label for each place.
    pub labels: Vec<String>,
}

impl ModelManifest {
    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|error| parse_error(text, &error))?;
        if manifest.max_batch == Some(0) {
            return Err(ManifestError("max_batch is zero: nothing could run".into()));
        }
        if let Some(delay) = manifest.max_delay.filter(|delay| *delay > MAX_DELAY) {
            return Err(ManifestError(format!(
                "max_delay is {delay}, above its limit {MAX_DELAY}"
            )));
        }
        if let Some(timeout) = manifest.timeout
            && !(Duration::from_millis(1)..=MAX_TIMEOUT).contains(&timeout.0)
        {
            return Err(ManifestError(format!("timeout is {timeout}: write 1ms to 24h")));
        }
        if let Some(warm_up) = &manifest.warm_up {
            warm_up.check().map_err(ManifestError)?;
        }
        Ok(manifest)
    }

    /// A model's signature with the ranges of this manifest.
    pub fn constrain(&self, signature: &Signature) -> Result<Signature, ManifestError> {
        let mut inputs = signature.inputs().to_vec();
        for (position, InputRange { name, range }) in self.inputs.iter().enumerate() {
            if self.inputs[..position].iter().any(|earlier| earlier.name == *name) {
                return Err(ManifestError(format!("input {name:?} has more than one range")));
            }
            let Some(input) = inputs.iter_mut().find(|input| *input.name == **name) else {
                let known = quoted(signature.inputs().iter().map(|input| &*input.name));
                return Err(ManifestError(format!(
                    "input {name:?} is not one of the model's, which are {known}"
                )));
            };
            input.range = Some(*range);
        }
        Signature::new(inputs, signature.outputs().to_vec()).map_err(ManifestError)
    }

    /// Checks the samples of the warm-up against a model's signature.
    pub fn check_warm_up(&self, signature: &Signature) -> Result<(), ManifestError> {
        let samples = self.warm_up.as_ref().map(|warm_up| warm_up.tensors(signature));
        samples.transpose().map(drop).map_err(ManifestError)
    }

    /// The labels of the outputs of a model with this signature.
    pub fn labels(&self, signature: &Signature) -> Result<Labels, ManifestError> {
        let mut all = Labels::new();
        for OutputLabels { name, labels } in &self.outputs {
            let Some(output) = signature.outputs().iter().find(|output| output.name == *name)
            else {
                let known = quoted(signature.outputs().iter().map(|output| &*output.name));
                return Err(ManifestError(format!(
                    "output {name:?} is not one of the model's, which are {known}"
                )));
            };
            let places = output.shape.last().copied().unwrap_or(1);
            if labels.is_empty() || (places >= 0 && labels.len() as u64 != places.unsigned_abs()) {
                return Err(ManifestError(format!(
                    "output {name:?} has {} labels, but its shape is {:?}: give one for each place \
                     of the last dimension",
                    labels.len(),
                    output.shape
                )));
            }
            if all.insert(name.clone(), labels.clone().into()).is_some() {
                return Err(ManifestError(format!("output {name:?} has labels more than once")));
            }
        }
        Ok(all)
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataType, TensorSpec};

    fn tensor(name: &str, dtype: DataType, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.to_vec(), range: None }
    }

    fn signature() -> Signature {
        let inputs = vec![tensor("x", DataType::Fp32, &[-1]), tensor("mask", DataType::Bool, &[])];
        let outputs = vec![
            tensor("scores", DataType::Fp32, &[-1, 2]),
            tensor("open", DataType::Fp32, &[-1, -1]),
        ];
        Signature::new(inputs, outputs).expect("valid")
    }

    #[test]
    fn every_key_is_optional_and_none_is_unknown() {
        assert_eq!(ModelManifest::parse(""), Ok(ModelManifest::default()));
        let manifest = ModelManifest::parse(
            "engine = 'tract'\nmax_batch = 8\nmax_delay = '500us'\ntimeout = '1s 500ms'\nlanes = 2\n\
             warm_up = { runs = 3 }\n[[inputs]]\nname = 'x'\nrange = [0, 1]\n\
             [[outputs]]\nname = 'y'\nlabels = ['cat', 'dog']",
        )
        .expect("valid");
        assert_eq!(manifest.engine, Some(Engine::Tract));
        assert_eq!(manifest.max_delay.map(|delay| delay.0.as_micros()), Some(500));
        assert_eq!(manifest.timeout, Some(Period::from_millis(1_500)));
        assert_eq!(manifest.lanes.map(NonZeroU32::get), Some(2));
        assert_eq!(manifest.warm_up, Some(WarmUp { runs: 3, inputs: vec![] }));
        assert_eq!(manifest.outputs[0].labels, ["cat", "dog"]);
        let cases = [
            ("engine = 'torch'", "unknown variant `torch`"),
            ("max_batch = 0", "max_batch is zero"),
            ("max_delay = '2s'", "max_delay is 2s, above its limit 1s"),
            ("timeout = '0s'", "timeout is 0s: write 1ms to 24h"),
            ("timeout = '25h'", "timeout is 1day 1h"),
            ("timeout = 5", "line 1: invalid type"),
            ("lanes = 0", "nonzero"),
            ("warm_up = 3", "line 1: invalid type"),
            ("warm_up = { runs = 0 }", "warm_up.runs is 0"),
            (
                "[[warm_up.inputs]]\nname = 'x'\nshape = [1]\ndata = [nan]",
                "warm_up: input \"x\" is not finite",
            ),
            ("warm_up = { rounds = 1 }", "unknown field `rounds`"),
            ("[[outputs]]\nname = 'y'\nlabel = ['cat']", "unknown field `label`"),
            ("batch = 1", "unknown field `batch`"),
        ];
        for (text, expected) in cases {
            let error = ModelManifest::parse(text).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn ranges_apply_to_inputs_that_exist() {
        let signature = signature();
        let constrained =
            |text: &str| ModelManifest::parse(text).expect("a manifest").constrain(&signature);
        let range = |name: &str| format!("[[inputs]]\nname = '{name}'\nrange = [0, 1]\n");
        let with_range = constrained(&range("x")).expect("x exists");
        assert!(with_range.inputs()[0].range.is_some() && with_range.inputs()[1].range.is_none());
        assert_eq!(constrained(""), Ok(signature.clone()));
        let cases = [
            (range("y"), "input \"y\" is not one of the model's, which are \"x\", \"mask\""),
            (range("x") + &range("x"), "input \"x\" has more than one range"),
            (range("mask"), "input \"mask\": BOOL can't have a range"),
        ];
        for (text, expected) in cases {
            assert_eq!(constrained(&text).expect_err(expected).to_string(), expected);
        }
    }

    #[test]
    fn labels_belong_to_outputs_and_fit_them() {
        let labelled = |text: &str| {
            let labels = ModelManifest::parse(text).expect("a manifest").labels(&signature());
            labels.map_err(|error| error.to_string())
        };
        let of =
            |name: &str, labels: &str| format!("[[outputs]]\nname = '{name}'\nlabels = {labels}\n");
        let two = labelled(&of("scores", "['cat', 'dog']")).expect("fits");
        assert_eq!(*two["scores"], ["cat", "dog"]);
        assert_eq!(labelled(&of("open", "['a', 'b', 'c']")).expect("any number")["open"].len(), 3);
        assert_eq!(labelled(""), Ok(Labels::new()));
        let cases = [
            (of("y", "['a']"), "output \"y\" is not one of the model's, which are \"scores\""),
            (of("scores", "['a']"), "output \"scores\" has 1 labels, but its shape is [-1, 2]"),
            (of("open", "[]"), "output \"open\" has 0 labels"),
            (of("open", "['a']").repeat(2), "output \"open\" has labels more than once"),
        ];
        for (text, expected) in cases {
            let error = labelled(&text).expect_err(expected);
            assert!(error.starts_with(expected), "{error:?} should begin with {expected:?}");
        }
    }
}
