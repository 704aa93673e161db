//! Breaks its signature as its input chooses; 0 keeps to it. Written against the bare contract,
//! since the guest library does not let all of this through.

use quern::ml::tensors::{DataType, Error, Tensor};

wit_bindgen::generate!({ world: "inference-function", path: "../../../wit", generate_all });

struct WrongOutput;

impl exports::quern::ml::inference::Guest for WrongOutput {
    fn infer(inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let choice = inputs.first().and_then(|tensor| tensor.data.first()).copied();
        let right = Tensor {
            name: "y".into(),
            data_type: DataType::Fp32,
            shape: vec![2],
            data: vec![0; 8],
        };
        Ok(match choice {
            Some(0) => vec![right],
            Some(1) => vec![Tensor { name: "z".into(), ..right }],
            Some(2) => vec![Tensor { data_type: DataType::Int32, ..right }],
            Some(3) => vec![Tensor { shape: vec![1, 2], ..right }],
            Some(4) => vec![],
            Some(5) => vec![right.clone(), right],
            Some(6) => vec![Tensor { data: vec![0; 7], ..right }],
            Some(7) => vec![Tensor { shape: vec![u64::MAX, u64::MAX], ..right }],
            _ => return Err(Error::InvalidInput("choice is 0 to 7".into())),
        })
    }
}

export!(WrongOutput);
