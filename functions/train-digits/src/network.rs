//! The network: two convolutions, a pooling, one layer. As it is computed here, and as a file.

use quern_sdk::{
    autograd::{Conv2d, Linear, Parameter, Parameters, Variable},
    gpu::{Dtype, Error, Pool, Tensor},
};

use crate::{
    digits::{BRIGHTEST, OnDevice, SIDE},
    onnx::{Attribute, Graph},
};

const CHANNELS: (u64, u64) = (16, 32);
const CLASSES: u64 = 10;
/// Pixels that each side of a convolution's window reaches beyond its centre.
const REACH: u32 = 1;
const POOL: u32 = 2;

pub(crate) struct Network {
    first: Conv2d,
    second: Conv2d,
    scores: Linear,
}

impl Network {
    pub(crate) fn new(parameters: &mut Parameters) -> Result<Self, Error> {
        let (few, many) = CHANNELS;
        let side = u64::from(2 * REACH + 1);
        let pooled = SIDE / u64::from(POOL);
        Ok(Self {
            first: Conv2d::new(parameters, "first", (1, few), side)?.padding(REACH),
            second: Conv2d::new(parameters, "second", (few, many), side)?.padding(REACH),
            scores: Linear::new(parameters, "scores", many * pooled * pooled, CLASSES)?,
        })
    }

    /// Logits N×10 of images N×1×8×8.
    pub(crate) fn forward(&self, images: &Variable) -> Result<Variable, Error> {
        let hidden = self.first.forward(images)?.relu()?;
        let hidden = self.second.forward(&hidden)?.relu()?.max_pool(Pool::squares(POOL))?;
        self.scores.forward(&hidden.flatten(1)?)
    }

    /// The share of the images that it reads right.
    pub(crate) fn accuracy(&self, digits: &OnDevice) -> Result<f32, Error> {
        let logits = self.forward(&Variable::constant(digits.images.clone()))?.detach();
        let right = logits.value().arg_max(-1)?.eq(&digits.labels)?;
        right.cast(Dtype::Fp32)?.mean_all()?.item()
    }

    /// As a model that takes raw pixels, `image` of N×64 from 0 to 16, and gives `probabilities`.
    pub(crate) fn to_onnx(&self) -> Result<Vec<u8>, Error> {
        let mut graph = Graph::default();
        graph.floats("brightest", &[], &[BRIGHTEST]);
        graph.integers("square", &[0, 1, SIDE as i64, SIDE as i64]);
        let layers = [
            (&self.first.weight, &self.first.bias),
            (&self.second.weight, &self.second.bias),
            (&self.scores.weight, &self.scores.bias),
        ];
        for parameter in layers.into_iter().flat_map(|(weight, bias)| [weight, bias]) {
            write(&mut graph, parameter)?;
        }
        graph.node("Div", &["image", "brightest"], "scaled", &[]);
        graph.node("Reshape", &["scaled", "square"], "pixels", &[]);
        let reach = [i64::from(REACH); 4];
        let pads = [Attribute::Integers("pads", &reach)];
        graph.node("Conv", &["pixels", "first.weight", "first.bias"], "first", &pads);
        graph.node("Relu", &["first"], "first.relu", &[]);
        graph.node("Conv", &["first.relu", "second.weight", "second.bias"], "second", &pads);
        graph.node("Relu", &["second"], "second.relu", &[]);
        let window = [i64::from(POOL); 2];
        let pool =
            [Attribute::Integers("kernel_shape", &window), Attribute::Integers("strides", &window)];
        graph.node("MaxPool", &["second.relu"], "pooled", &pool);
        graph.node("Flatten", &["pooled"], "flat", &[]);
        // The weights are outputs × inputs.
        let turned = [Attribute::Integer("transB", 1)];
        graph.node("Gemm", &["flat", "scores.weight", "scores.bias"], "scores", &turned);
        graph.node("Softmax", &["scores"], "probabilities", &[]);
        Ok(graph.file("digits-cnn", ("image", SIDE * SIDE), ("probabilities", CLASSES)))
    }
}

fn write(graph: &mut Graph, parameter: &Parameter) -> Result<(), Error> {
    let value: Tensor = parameter.value();
    graph.floats(parameter.name(), value.shape()?, &value.to_vec()?);
    Ok(())
}
