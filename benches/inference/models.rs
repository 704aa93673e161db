//! The models that are served, and one request for each in the forms that servers understand.
//! Never knows who answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use quern_gateway::protocol::{ModelInferRequest, model_infer_request::InferInputTensor};
use serde_json::{Value, json};

use crate::support::process::{peer, root};

/// A tensor of one row.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) content: Content,
    /// Without the rows.
    pub(crate) shape: &'static [u64],
}

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Content {
    /// FP32 between -1 and 1.
    Floats,
    /// INT64, numbers of words.
    Tokens,
    /// INT64, 1 for each word.
    Mask,
}

/// A model; `shape`s and names are those of its file.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) inputs: &'static [Port],
    pub(crate) output: Port,
}

pub(crate) static MLP: Model = Model {
    name: "mlp",
    title: "MLP",
    inputs: &[Port { name: "x", content: Content::Floats, shape: &[256] }],
    output: Port { name: "y", content: Content::Floats, shape: &[10] },
};

pub(crate) static LENET: Model = Model {
    name: "lenet",
    title: "LeNet",
    inputs: &[Port { name: "image", content: Content::Floats, shape: &[1, 28, 28] }],
    output: Port { name: "scores", content: Content::Floats, shape: &[10] },
};

pub(crate) static RESNET: Model = Model {
    name: "resnet18",
    title: "ResNet-18",
    inputs: &[Port { name: "image", content: Content::Floats, shape: &[3, 224, 224] }],
    output: Port { name: "scores", content: Content::Floats, shape: &[1000] },
};

pub(crate) static MINILM: Model = Model {
    name: "minilm",
    title: "MiniLM",
    inputs: &[
        Port { name: "tokens", content: Content::Tokens, shape: &[128] },
        Port { name: "mask", content: Content::Mask, shape: &[128] },
    ],
    output: Port { name: "embedding", content: Content::Floats, shape: &[384] },
};

/// Writes the files of all models.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let written = |command: &mut Command| -> Result<()> {
        let program = command.get_program().to_owned();
        let status = command.status().with_context(|| {
            format!("{} can't be run: `make bench-inference` builds it", program.display())
        })?;
        ensure!(status.success(), "{} failed", program.display());
        Ok(())
    };
    let mlp = Path::new(env!("CARGO_BIN_EXE_quern")).with_file_name("examples").join("mlp");
    written(Command::new(mlp).arg(MLP.file(folder)))?;
    written(Command::new(peer("python")).arg(root().join("benches/peers/models.py")).arg(folder))
}

/// How a request's tensors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON of the Open Inference Protocol.
    Json,
    /// Its binary tensors, both ways.
    Binary,
    /// JSON with base64 in place of numbers, for servers that read nothing else.
    Base64,
    /// One message of gRPC, tensors as raw contents.
    Grpc,
}

impl Form {
    /// What it is called in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Binary | Self::Base64 => "binary",
            Self::Grpc => "gRPC",
        }
    }
}

/// A request on the disk, where load generators read it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) form: Form,
    pub(crate) file: PathBuf,
    pub(crate) headers: Vec<String>,
}

impl Model {
    /// Its file in the folder of all.
    pub(crate) fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.onnx", self.name))
    }

    /// Numbers in its output.
    pub(crate) fn outputs(&self) -> usize {
        self.output.elements()
    }

    /// Writes a request in one form into a folder; `target` is the name that a message of gRPC
    /// calls it by, `timeout_us` the time after which the caller is gone, if it says so.
    pub(crate) fn request(
        &self,
        form: Form,
        target: &str,
        timeout_us: Option<u64>,
        folder: &Path,
    ) -> Result<Request> {
        let mut headers = vec![];
        let body = match form {
            Form::Json | Form::Base64 => {
                headers.push("Content-Type: application/json".to_owned());
                serde_json::to_vec(&self.json(form, timeout_us))?
            }
            Form::Binary => {
                let head = serde_json::to_vec(&self.json(form, timeout_us))?;
                headers.push("Content-Type: application/octet-stream".to_owned());
                headers.push(format!("Inference-Header-Content-Length: {}", head.len()));
                let tensors = self.inputs.iter().flat_map(Port::bytes);
                head.iter().copied().chain(tensors).collect()
            }
            Form::Grpc => self.frame(target)?,
        };
        let file = folder.join(format!("{target}-{form:?}-{}", timeout_us.unwrap_or(0)));
        fs::write(&file, body)?;
        Ok(Request { form, file, headers })
    }

    fn json(&self, form: Form, timeout_us: Option<u64>) -> Value {
        let inputs: Vec<_> = self.inputs.iter().map(|port| port.json(form)).collect();
        let mut parameters = json!({});
        if form == Form::Binary {
            parameters["binary_data_output"] = json!(true);
        }
        if let Some(timeout_us) = timeout_us {
            parameters["timeout"] = json!(timeout_us);
        }
        // Some peers refuse empty parameters.
        if parameters == json!({}) {
            return json!({ "inputs": inputs });
        }
        json!({ "inputs": inputs, "parameters": parameters })
    }

    /// The message behind its prefix: not compressed, and its length.
    fn frame(&self, target: &str) -> Result<Vec<u8>> {
        let tensor = |port: &Port| -> Result<InferInputTensor> {
            let shape = port.row().into_iter().map(i64::try_from).collect::<Result<_, _>>()?;
            Ok(InferInputTensor {
                name: port.name.to_owned(),
                datatype: port.datatype().to_owned(),
                shape,
                ..InferInputTensor::default()
            })
        };
        let message = ModelInferRequest {
            model_name: target.to_owned(),
            inputs: self.inputs.iter().map(tensor).collect::<Result<_>>()?,
            raw_input_contents: self.inputs.iter().map(|port| port.bytes().into()).collect(),
            ..ModelInferRequest::default()
        };
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len())?.to_be_bytes();
        Ok([&[0][..], &length, &message].concat())
    }
}

impl Port {
    pub(crate) fn datatype(&self) -> &'static str {
        match self.content {
            Content::Floats => "FP32",
            Content::Tokens | Content::Mask => "INT64",
        }
    }

    /// The shape of one row.
    fn row(&self) -> Vec<u64> {
        [&[1][..], self.shape].concat()
    }

    fn elements(&self) -> usize {
        self.shape.iter().product::<u64>() as usize
    }

    fn json(&self, form: Form) -> Value {
        let mut tensor =
            json!({ "name": self.name, "shape": self.row(), "datatype": self.datatype() });
        match form {
            Form::Json => {
                tensor["data"] = match self.content {
                    Content::Floats => self.floats().collect::<Vec<_>>().into(),
                    Content::Tokens | Content::Mask => self.integers().collect::<Vec<_>>().into(),
                }
            }
            Form::Base64 => tensor["base64"] = BASE64_STANDARD.encode(self.bytes()).into(),
            Form::Binary | Form::Grpc => {
                tensor["parameters"] = json!({ "binary_data_size": self.bytes().len() });
            }
        }
        tensor
    }

    fn bytes(&self) -> Vec<u8> {
        match self.content {
            Content::Floats => self.floats().flat_map(|x| (x as f32).to_le_bytes()).collect(),
            Content::Tokens | Content::Mask => self.integers().flat_map(i64::to_le_bytes).collect(),
        }
    }

    /// Floats with the six decimals that a client would send.
    fn floats(&self) -> impl Iterator<Item = f64> {
        (0..self.elements()).map(|index| ((index as f64 * 0.7).sin() * 1e6).round() / 1e6)
    }

    fn integers(&self) -> impl Iterator<Item = i64> {
        let step = if self.content == Content::Mask { 0 } else { 7919 };
        (0..self.elements() as i64).map(move |index| (1 + index * step) % 30_522)
    }
}
