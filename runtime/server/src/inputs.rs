//! Tensors from the command line: turns `--input NAME=VALUES` into a request of the Open Inference
//! Protocol, with shapes taken from the nesting of the values or from the signature.

use serde_json::{Value, json};

use crate::client::TensorMetadata;

/// The values of one input, read but not checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedValues {
    pub(crate) name: String,
    pub(crate) values: Value,
}

impl NamedValues {
    /// Reads `NAME=FILE.json`, or `NAME=[…]` with the values themselves.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (name, source) = text
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| format!("--input {text:?}: write NAME=FILE.json or NAME=[…]"))?;
        let json = if source.starts_with('[') {
            source.to_owned()
        } else {
            std::fs::read_to_string(source)
                .map_err(|error| format!("--input {name}: can't read {source}: {error}"))?
        };
        let values = serde_json::from_str(&json)
            .map_err(|error| format!("--input {name}: not a JSON array: {error}"))?;
        Ok(Self { name: name.to_owned(), values })
    }
}

/// A request of the Open Inference Protocol with these inputs.
pub(crate) fn request(
    inputs: &[NamedValues],
    signature: &[TensorMetadata],
) -> Result<Value, String> {
    let tensor = |input: &NamedValues| {
        let name = &input.name;
        let spec = signature.iter().find(|spec| spec.name == *name).ok_or_else(|| {
            let known: Vec<_> = signature.iter().map(|spec| spec.name.as_str()).collect();
            format!("--input {name}: there is no such input, only {}", known.join(", "))
        })?;
        let shape =
            shape_of(&input.values, spec).map_err(|reason| format!("--input {name}: {reason}"))?;
        let TensorMetadata { datatype, .. } = spec;
        Ok(json!({"name": name, "shape": shape, "datatype": datatype, "data": input.values}))
    };
    let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, String>>()?;
    Ok(json!({"inputs": tensors}))
}

/// A command that would run a model or an inference function, with a file for each input.
pub(crate) fn example<'a>(target: &str, inputs: impl Iterator<Item = &'a str>) -> String {
    let inputs: String = inputs.map(|name| format!(" --input {name}={name}.json")).collect();
    format!("quern infer {target}{inputs}")
}

/// The shape that values have by their nesting; of flat values the one that the signature gives
/// them.
pub(crate) fn shape_of(values: &Value, spec: &TensorMetadata) -> Result<Vec<u64>, String> {
    let nested = nesting(values);
    if nested.is_empty() {
        return Err("the values must be a JSON array".into());
    }
    if nested.len() == spec.shape.len() {
        return Ok(nested);
    }
    match nested[..] {
        [count] => flat_shape(count, &spec.shape),
        _ => Err(format!(
            "the array is nested {} deep, but the shape {:?} has {} dimensions",
            nested.len(),
            spec.shape,
            spec.shape.len()
        )),
    }
}

/// The lengths of the first array of each depth; that all others agree is for the server to check.
fn nesting(values: &Value) -> Vec<u64> {
    let mut shape = Vec::new();
    let mut inner = Some(values);
    while let Some(Value::Array(elements)) = inner {
        shape.push(elements.len() as u64);
        inner = elements.first();
    }
    shape
}

fn flat_shape(count: u64, expected: &[i64]) -> Result<Vec<u64>, String> {
    let fixed = expected.iter().filter_map(|dim| u64::try_from(*dim).ok());
    let known = fixed.fold(1u64, u64::saturating_mul);
    let dynamic = expected.iter().filter(|dim| **dim < 0).count();
    let fits = match dynamic {
        0 => known == count,
        1 => known > 0 && count.is_multiple_of(known),
        _ => {
            return Err(format!(
                "the shape {expected:?} has several dynamic dimensions: nest the array to show them"
            ));
        }
    };
    if !fits {
        return Err(format!("{count} values do not fill the shape {expected:?}"));
    }
    Ok(expected.iter().map(|dim| u64::try_from(*dim).unwrap_or(count / known.max(1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[i64]) -> TensorMetadata {
        TensorMetadata { name: "x".into(), datatype: "FP32".into(), shape: shape.to_vec() }
    }

    #[test]
    fn shapes_come_from_the_nesting_or_the_signature() {
        let cases = [
            (json!([[1, 2], [3, 4]]), &[-1, 2][..], vec![2, 2]),
            (json!([1, 2, 3, 4]), &[-1, 2], vec![2, 2]),
            (json!([1, 2, 3, 4]), &[2, 2], vec![2, 2]),
            (json!([1, 2, 3]), &[-1], vec![3]),
            (json!([[1, 2, 3]]), &[-1, -1], vec![1, 3]),
            (json!([5]), &[], vec![]),
            (json!([]), &[-1, 2], vec![0, 2]),
        ];
        for (values, signature, expected) in cases {
            assert_eq!(shape_of(&values, &spec(signature)), Ok(expected), "{values}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (json!(3), &[-1, 2][..], "must be a JSON array"),
            (json!([1, 2, 3]), &[-1, 2], "3 values do not fill the shape [-1, 2]"),
            (json!([1, 2, 3]), &[-1, -1], "several dynamic dimensions"),
            (json!([[1], [2]]), &[-1], "nested 2 deep"),
            (json!([1, 2]), &[-1, 0], "2 values do not fill"),
        ];
        for (values, signature, expected) in cases {
            let reason = shape_of(&values, &spec(signature)).expect_err(expected);
            assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
        }
    }

    #[test]
    fn inputs_are_read_from_text_and_files() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[1, 2]").expect("written");
        for text in ["x=[1, 2]".to_owned(), format!("x={}", file.path().display())] {
            let expected = NamedValues { name: "x".into(), values: json!([1, 2]) };
            assert_eq!(NamedValues::read(&text), Ok(expected));
        }
        for bad in ["x", "=[1]", "x=", "x=[1", "x=/nowhere.json"] {
            assert!(NamedValues::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn examples_name_every_input() {
        assert_eq!(
            example("m", ["a", "b"].into_iter()),
            "quern infer m --input a=a.json --input b=b.json"
        );
    }

    #[test]
    fn requests_follow_the_protocol() {
        let input = NamedValues { name: "x".into(), values: json!([1, 2]) };
        let expected =
            json!({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]});
        assert_eq!(request(&[input], &[spec(&[-1, 2])]), Ok(expected));
        let unknown = NamedValues { name: "y".into(), values: json!([1]) };
        let reason = request(&[unknown], &[spec(&[1])]).expect_err("unknown");
        assert_eq!(reason, "--input y: there is no such input, only x");
    }
}
