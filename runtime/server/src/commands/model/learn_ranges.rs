//! `quern model learn-ranges`: proposes ranges for a model's inputs from data. Changes nothing.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use quern_types::{DataType, QualifiedName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Session, npy, ranges::Seen};
use crate::{
    client::TensorMetadata,
    failure::{Failure, UsageError},
    inputs::{self, NamedValues},
    output,
};

/// Propose ranges of a model's inputs, as lines for its manifest
///
/// Reads every value of the data and prints the range that they lie in. A deployed model whose
/// manifest has these lines refuses calls with values outside of it.
#[derive(Debug, clap::Args)]
pub(crate) struct LearnRanges {
    /// The model: the name of a deployed one, or an ONNX file
    model: String,

    /// Data: requests of the Open Inference Protocol, one or more in a file (.json, .jsonl, or -
    /// for standard input); an input's values as NAME=FILE.npy, NAME=FILE.json or NAME=[…]; a
    /// FILE.npy alone where the model has one input
    #[arg(required = true)]
    data: Vec<String>,

    /// Widens each range on both sides by this part of its width, such as 0.1
    #[arg(long, default_value_t = 0.0, value_parser = parse_margin)]
    margin: f64,
}

/// A request, as far as it matters here.
#[derive(Deserialize)]
struct Request {
    inputs: Vec<RequestInput>,
}

#[derive(Deserialize)]
struct RequestInput {
    name: String,
    data: Value,
}

/// What was seen of each input that can have a range.
struct Learned {
    inputs: Vec<(TensorMetadata, Option<Seen>)>,
}

pub(crate) async fn run(session: &Session, command: LearnRanges) -> Result<()> {
    let LearnRanges { model, data, margin } = command;
    let mut learned = Learned::new(signature(session, &model).await?)?;
    let read = move || -> Result<Learned> {
        for source in &data {
            learned.read(source).with_context(|| shortened(source))?;
        }
        Ok(learned)
    };
    let learned = tokio::task::spawn_blocking(read).await??;
    if session.json {
        output::json(&learned.json(margin))?;
        return Ok(());
    }
    let ranges = learned.toml(margin);
    if ranges.is_empty() {
        return Err(Failure {
            message: "the data have no values of an input that can have a range".into(),
            hint: "inputs of BOOL and BYTES have none; are the data of this model?".into(),
        }
        .into());
    }
    output::line(ranges.trim_end())?;
    Ok(())
}

/// The inputs of an ONNX file, or of a model that is deployed.
async fn signature(session: &Session, model: &str) -> Result<Vec<TensorMetadata>> {
    let path = PathBuf::from(model);
    if !path.is_file() && !model.ends_with(".onnx") {
        let name: QualifiedName = model.parse().map_err(|error| {
            UsageError(format!("{model:?} is neither a file nor a model's name: {error}"))
        })?;
        return Ok(session.client.metadata(&name, None).await?.parsed.inputs);
    }
    let onnx = std::fs::read(&path).with_context(|| format!("can't read {model}"))?;
    let outline = tokio::task::spawn_blocking(move || quern_host_gpu::inspect(&onnx)).await?;
    let signature = outline.with_context(|| model.to_owned())?.signature;
    let input = |spec: &quern_types::TensorSpec| TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.dtype.to_string(),
        shape: spec.shape.clone(),
    };
    Ok(signature.inputs().iter().map(input).collect())
}

impl Learned {
    fn new(signature: Vec<TensorMetadata>) -> Result<Self> {
        let seen = |spec: &TensorMetadata| match spec.datatype.parse::<DataType>() {
            Ok(DataType::Bool | DataType::Bytes) => Ok(None),
            Ok(dtype) => Ok(Some(Seen::new(dtype))),
            Err(()) => Err(UsageError(format!(
                "input {:?} has the datatype {:?}, which is not known here",
                spec.name, spec.datatype
            ))),
        };
        let with_seen = |spec: TensorMetadata| Ok((spec.clone(), seen(&spec)?));
        Ok(Self { inputs: signature.into_iter().map(with_seen).collect::<Result<_>>()? })
    }

    fn read(&mut self, source: &str) -> Result<()> {
        if source == "-" {
            return self.read_requests(io::stdin().lock());
        }
        match source.split_once('=') {
            Some((name, values)) if !Path::new(source).exists() => {
                let input = self.position(name)?;
                match values.ends_with(".npy") {
                    true => self.read_npy(input, Path::new(values)),
                    false => self.read_values(input, source),
                }
            }
            _ if source.ends_with(".npy") => match self.inputs.len() {
                1 => self.read_npy(0, Path::new(source)),
                _ => Err(UsageError(format!(
                    "say whose values these are: NAME={source}, with a NAME of {}",
                    self.names()
                ))
                .into()),
            },
            _ if source.ends_with(".npz") => Err(UsageError(
                "this is an archive: unpack it, and give its files as NAME=FILE.npy".into(),
            )
            .into()),
            _ => self.read_requests(BufReader::new(File::open(source)?)),
        }
    }

    fn read_requests(&mut self, source: impl Read) -> Result<()> {
        let requests = serde_json::Deserializer::from_reader(source).into_iter::<Request>();
        for (number, request) in (1..).zip(requests) {
            let position = || format!("request {number}");
            for input in request.with_context(position)?.inputs {
                let index = self.position(&input.name).with_context(position)?;
                self.take(index, &input.data).with_context(position)?;
            }
        }
        Ok(())
    }

    fn read_values(&mut self, input: usize, source: &str) -> Result<()> {
        let NamedValues { values, .. } = NamedValues::read(source).map_err(UsageError)?;
        let spec = &self.inputs[input].0;
        // Only to see whether they fit.
        inputs::shape_of(&values, spec)
            .map_err(|reason| UsageError(format!("input {:?}: {reason}", spec.name)))?;
        self.take(input, &values)
    }

    fn read_npy(&mut self, input: usize, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        let array = npy::Array::open(BufReader::new(file))?;
        let (spec, seen) = &mut self.inputs[input];
        if !fits(&array.shape, &spec.shape) {
            return Err(UsageError(format!(
                "the array has the shape {:?}, but input {:?} has {:?}",
                array.shape, spec.name, spec.shape
            ))
            .into());
        }
        if let Some(seen) = seen {
            array
                .each(|value| seen.take(value))
                .with_context(|| format!("input {:?}", spec.name))?;
        }
        Ok(())
    }

    /// Takes the numbers of an array in, however it is nested.
    fn take(&mut self, input: usize, values: &Value) -> Result<()> {
        let (spec, seen) = &mut self.inputs[input];
        let Some(seen) = seen else { return Ok(()) };
        each_number(values, &mut |value| seen.take(value))
            .map_err(|reason| UsageError(format!("input {:?}: {reason}", spec.name)))?;
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize, UsageError> {
        let found = self.inputs.iter().position(|(spec, _)| spec.name == name);
        found
            .ok_or_else(|| UsageError(format!("there is no input {name:?}, only {}", self.names())))
    }

    fn names(&self) -> String {
        let names = self.inputs.iter().map(|(spec, _)| spec.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    /// The inputs of which values were seen, with the range to propose.
    fn ranges(&self, margin: f64) -> impl Iterator<Item = (&str, &Seen, (f64, f64))> {
        self.inputs.iter().filter_map(move |(spec, seen)| {
            let seen = seen.as_ref()?;
            Some((spec.name.as_str(), seen, seen.range(margin)?))
        })
    }

    fn toml(&self, margin: f64) -> String {
        let ranges = self.ranges(margin).map(|(name, seen, (least, most))| {
            let name = toml::Value::from(name);
            let range = format!("[{}, {}]", seen.written(least), seen.written(most));
            format!("[[inputs]]\nname = {name}\nrange = {range}  # {} values\n\n", seen.values)
        });
        ranges.collect()
    }

    fn json(&self, margin: f64) -> Value {
        let ranges = self.ranges(margin).map(|(name, seen, (least, most))| {
            json!({"name": name, "range": [least, most], "values": seen.values,
                "seen": [seen.least, seen.most]})
        });
        json!({"inputs": ranges.collect::<Vec<_>>()})
    }
}

/// Whether an array has the shape of an input, or of one row of it.
fn fits(shape: &[u64], expected: &[i64]) -> bool {
    let agree = |expected: &[i64]| {
        let fits = |(actual, expected): (&u64, &i64)| {
            *expected < 0 || u64::try_from(*expected).is_ok_and(|expected| expected == *actual)
        };
        shape.len() == expected.len() && shape.iter().zip(expected).all(fits)
    };
    agree(expected) || expected.split_first().is_some_and(|(first, row)| *first < 0 && agree(row))
}

fn each_number(
    values: &Value,
    take: &mut impl FnMut(f64) -> Result<(), String>,
) -> Result<(), String> {
    match values {
        Value::Array(elements) => {
            elements.iter().try_for_each(|element| each_number(element, take))
        }
        Value::Number(number) => take(number.as_f64().unwrap_or(f64::NAN)),
        other => Err(format!("{} is not a number", shortened(&other.to_string()))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn parse_margin(text: &str) -> Result<f64, String> {
    let margin: f64 = text.parse().map_err(|_| "write a number, such as 0.1".to_owned())?;
    let fits = (0.0..=100.0).contains(&margin);
    fits.then_some(margin).ok_or_else(|| "write 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use quern_types::ModelManifest;

    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64]) -> TensorMetadata {
        TensorMetadata { name: name.into(), datatype: datatype.into(), shape: shape.to_vec() }
    }

    fn learned() -> Learned {
        let inputs = vec![
            input("pixels", "UINT8", &[-1, 2]),
            input("scale", "FP32", &[-1]),
            input("mask", "BOOL", &[-1]),
        ];
        Learned::new(inputs).expect("known types")
    }

    fn message(error: &anyhow::Error) -> String {
        format!("{error:#}")
    }

    #[test]
    fn ranges_are_learned_from_every_kind_of_data_and_fit_a_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path.display().to_string()
        };
        let requests = write(
            "calls.jsonl",
            b"{\"inputs\": [{\"name\": \"pixels\", \"shape\": [1, 2], \"datatype\": \"UINT8\", \
              \"data\": [3, 4]}, {\"name\": \"mask\", \"data\": [true]}]}\n\
              {\"inputs\": [{\"name\": \"pixels\", \"data\": [[1, 9]]}]}\n",
        );
        let array = write("pixels.npy", &npy::tests::file("'|u1'", "(2, 2)", &[0, 7, 7, 7]));
        let scales = write("scale.json", b"[0.5, -0.25]");
        let mut learned = learned();
        for source in
            [requests, format!("pixels={array}"), format!("scale={scales}"), "scale=[4]".into()]
        {
            learned.read(&source).expect(&source);
        }
        let toml = learned.toml(0.0);
        let expected = "[[inputs]]\nname = \"pixels\"\nrange = [0, 9]  # 8 values\n\n\
                        [[inputs]]\nname = \"scale\"\nrange = [-0.25, 4.0]  # 3 values\n\n";
        assert_eq!(toml, expected);
        assert_eq!(ModelManifest::parse(&toml).expect("a manifest").inputs.len(), 2);
        let json = learned.json(0.5);
        assert_eq!(json["inputs"][0]["range"], json!([0.0, 14.0]));
        assert_eq!(json["inputs"][0]["seen"], json!([0.0, 9.0]));
    }

    #[test]
    fn an_array_of_the_only_input_needs_no_name() {
        let file = tempfile::Builder::new().suffix(".npy").tempfile().expect("a file");
        std::fs::write(file.path(), npy::tests::file("'|u1'", "(2,)", &[1, 2])).expect("written");
        let path = file.path().display().to_string();
        let only = vec![input("x", "INT64", &[-1, 2])];
        let mut only = Learned::new(only).expect("a known type");
        only.read(&path).expect("one row");
        assert!(only.toml(0.0).contains("[1, 2]"));
        let several = learned().read(&path).expect_err("several inputs");
        assert!(message(&several).contains("NAME="), "{several}");
    }

    #[test]
    fn what_is_wrong_with_data_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path.display().to_string()
        };
        let wide = write("wide.npy", &npy::tests::file("'|u1'", "(1, 3)", &[1, 2, 3]));
        let second = b"{\"inputs\": []} {\"inputs\": [{\"name\": \"pixels\", \"data\": [\"a\"]}]}";
        let cases = [
            ("color=[1]".to_owned(), "there is no input \"color\", only pixels, scale, mask"),
            ("pixels=[[1, 256]]".to_owned(), "input \"pixels\": value 256 is no UINT8"),
            ("pixels=[1, 2, 3]".to_owned(), "3 values do not fill the shape [-1, 2]"),
            ("scale=[null]".to_owned(), "null is not a number"),
            (format!("pixels={wide}"), "the array has the shape [1, 3], but input \"pixels\""),
            ("pixels=/nowhere.npy".to_owned(), "can't read /nowhere.npy"),
            ("/nowhere.jsonl".to_owned(), "No such file"),
            ("data.npz".to_owned(), "unpack it"),
            (write("calls.jsonl", second), "request 2: input \"pixels\": \"a\" is not a number"),
            (write("cut.json", b"{\"inputs\": ["), "request 1: EOF"),
            (write("one.npy", b"text"), "NAME="),
        ];
        for (source, expected) in cases {
            let error = message(&learned().read(&source).expect_err(expected));
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
        assert!(Learned::new(vec![input("x", "FP8", &[])]).is_err());
        for (text, ok) in [("0", true), ("0.1", true), ("-1", false), ("101", false), ("x", false)]
        {
            assert_eq!(parse_margin(text).is_ok(), ok, "{text}");
        }
    }
}
