//! The outputs that a request asks for: whether they exist and can have the form asked for,
//! picking them out of what came back, and putting those away that go to shared memory. Nothing is
//! encoded here.

use std::{num::NonZeroU32, sync::Arc};

use quern_dispatcher::Found;
use quern_types::{ByteSize, DataType, Mismatch, Side, Tensor, TensorSpec, Violation};

use super::classes::{self, Choice, ClassError};
use crate::{
    Gateway,
    shared_memory::{Placement, PlacementError, RegionError, Regions, Slot},
};

/// Bytes that are copied into shared memory in the time in which one becomes JSON.
const COPIED_PER_WRITTEN: usize = 8;

/// One output as a request asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestedOutput {
    pub(crate) name: String,
    /// Whether it comes as binary data; none: as the whole request says.
    pub(crate) binary: Option<bool>,
    /// So many classes instead of the tensor.
    pub(crate) classes: Option<NonZeroU32>,
    /// Where to put it in shared memory; none: into the answer.
    pub(crate) place: Option<Placement>,
}

/// An output in the form that it is answered in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) tensor: Tensor,
    pub(crate) form: Form,
}

/// Where the data of an output go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// Into the JSON.
    Json,
    /// Behind the JSON, or into the message of gRPC.
    Binary,
    /// Into shared memory.
    Shared(Slot),
}

impl Form {
    pub(crate) fn of(binary: bool) -> Self {
        if binary { Self::Binary } else { Self::Json }
    }
}

/// Why outputs can't be had as asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum OutputError {
    /// There is no such output, or it is asked for twice.
    #[error("requested {0}")]
    Name(Mismatch),
    /// An output that JSON can't write.
    #[error(
        "output {name:?} is {dtype}, which has no form in JSON: ask for it as binary data, or name \
         the other outputs in \"outputs\""
    )]
    NoJson {
        /// The output.
        name: String,
        /// Its type.
        dtype: DataType,
    },
    /// Classes of what has none.
    #[error(transparent)]
    Classes(#[from] ClassError),
    /// There is no such place in shared memory, or it is too small.
    #[error(transparent)]
    Place(#[from] PlacementError),
}

/// What a request wants of the outputs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// In this order; empty: all.
    outputs: Vec<RequestedOutput>,
    /// The form of those that don't say theirs.
    binary: bool,
    /// Whether the first dimension counts rows, each of which has classes of its own.
    has_rows: bool,
    /// The labels of those whose classes are asked for, in the order of the outputs.
    labels: Vec<Option<Arc<[String]>>>,
    /// Where those go that are put into shared memory, in the order of the outputs.
    slots: Vec<Option<Slot>>,
    /// Bytes that the classes of one output may take.
    most_classes: ByteSize,
}

impl Wanted {
    /// Checks that the outputs exist, are named once, and can have the form asked for. Their places
    /// in shared memory are kept from now on.
    pub(crate) fn new(
        found: &Found,
        outputs: Vec<RequestedOutput>,
        binary: bool,
        gateway: &Gateway,
    ) -> Result<Self, OutputError> {
        let has_rows = found.max_rows().is_some();
        let labels = |output: &RequestedOutput| {
            output.classes.is_some().then(|| found.labels(&output.name)).flatten()
        };
        let labels = outputs.iter().map(labels).collect();
        let slots = slots(&outputs, &gateway.regions)?;
        let most_classes = gateway.limits().json_body;
        let wanted = Self { outputs, binary, has_rows, labels, slots, most_classes };
        wanted.check(found.signature().outputs())?;
        Ok(wanted)
    }

    /// Outputs that need no check.
    #[cfg(test)]
    pub(super) fn of(outputs: Vec<RequestedOutput>) -> Self {
        let (labels, slots) = (vec![None; outputs.len()], vec![None; outputs.len()]);
        let most_classes = ByteSize::mib(1);
        Self { outputs, binary: false, has_rows: false, labels, slots, most_classes }
    }

    fn check(&self, known: &[TensorSpec]) -> Result<(), OutputError> {
        for (position, output) in self.outputs.iter().enumerate() {
            let is_same = |other: &RequestedOutput| other.name == output.name;
            let violation = if !known.iter().any(|spec| *spec.name == *output.name) {
                let known = known.iter().map(|spec| format!("{:?}", spec.name));
                Violation::Unknown { known: known.collect::<Vec<_>>().join(", ") }
            } else if self.outputs[..position].iter().any(is_same) {
                Violation::Duplicate
            } else {
                continue;
            };
            let name = output.name.chars().take(80).collect::<String>().into();
            return Err(OutputError::Name(Mismatch { side: Side::Output, name, violation }));
        }
        known.iter().try_for_each(|spec| self.check_form(spec))
    }

    fn check_form(&self, spec: &TensorSpec) -> Result<(), OutputError> {
        let wanted = self.outputs.iter().find(|output| *output.name == *spec.name);
        if wanted.is_none() && !self.outputs.is_empty() {
            return Ok(());
        }
        let (name, dtype) = (spec.name.to_string(), spec.dtype);
        if wanted.is_some_and(|output| output.classes.is_some()) {
            return match classes::has_order(dtype) {
                true => Ok(()),
                false => Err(ClassError::NoOrder { name, dtype }.into()),
            };
        }
        let binary = wanted.and_then(|output| output.binary).unwrap_or(self.binary);
        let is_shared = wanted.is_some_and(|output| output.place.is_some());
        match dtype {
            DataType::Fp16 | DataType::Bf16 if !binary && !is_shared => {
                Err(OutputError::NoJson { name, dtype })
            }
            _ => Ok(()),
        }
    }

    /// The bytes of the outputs that take work: those which become classes or JSON, and a part of
    /// those which are copied into shared memory. Others are passed on as they are, or not at all.
    pub(crate) fn work(&self, given: &[Tensor]) -> usize {
        let work = |tensor: &Tensor| {
            let bytes = tensor.data().len();
            let wanted = self.outputs.iter().find(|output| *output.name == **tensor.name());
            let takes_work = match wanted {
                Some(output) if output.place.is_some() => return bytes / COPIED_PER_WRITTEN,
                Some(output) => output.classes.is_some() || !output.binary.unwrap_or(self.binary),
                None => self.outputs.is_empty() && !self.binary,
            };
            if takes_work { bytes } else { 0 }
        };
        given.iter().map(work).sum()
    }

    /// The outputs in the order and form asked for.
    pub(crate) fn select(&self, given: Vec<Tensor>) -> Result<Vec<Output>, OutputError> {
        if self.outputs.is_empty() {
            let output = |tensor| Output { tensor, form: Form::of(self.binary) };
            return Ok(given.into_iter().map(output).collect());
        }
        let find = |(position, wanted): (usize, &RequestedOutput)| -> Result<_, OutputError> {
            // Missing only if another version, with another signature, went live meanwhile.
            let found = given.iter().find(|tensor| **tensor.name() == *wanted.name);
            let tensor = found.ok_or_else(|| {
                let (name, violation) = (wanted.name.as_str().into(), Violation::Missing);
                OutputError::Name(Mismatch { side: Side::Output, name, violation })
            })?;
            let tensor = match wanted.classes {
                Some(count) => {
                    let (labels, most) = (self.labels[position].clone(), self.most_classes);
                    let choice = Choice { count, labels, most };
                    classes::classify(tensor, self.has_rows, &choice)?
                }
                None => tensor.clone(),
            };
            let in_answer = || Form::of(wanted.binary.unwrap_or(self.binary));
            let form = self.slots[position].clone().map_or_else(in_answer, Form::Shared);
            Ok(Output { tensor, form })
        };
        self.outputs.iter().enumerate().map(find).collect()
    }
}

/// The places in shared memory that outputs are to be put into.
fn slots(
    outputs: &[RequestedOutput],
    regions: &Regions,
) -> Result<Vec<Option<Slot>>, PlacementError> {
    let slot = |(position, output): (usize, &RequestedOutput)| {
        let slot = output.place.as_ref().map(|place| regions.slot(place)).transpose();
        slot.map_err(|error| refused(position, error))
    };
    outputs.iter().enumerate().map(slot).collect()
}

fn refused(position: usize, error: RegionError) -> PlacementError {
    PlacementError::Region { tensor: format!("outputs[{position}]"), error }
}

/// Puts outputs into shared memory, if all that go there fit: none is written before.
pub(crate) fn put_away(outputs: &[Output]) -> Result<(), OutputError> {
    let shared = || {
        let outputs = outputs.iter().enumerate();
        outputs.filter_map(|(position, Output { tensor, form })| match form {
            Form::Shared(slot) => Some((position, tensor, slot)),
            Form::Json | Form::Binary => None,
        })
    };
    for (position, tensor, slot) in shared() {
        let (bytes, byte_size) = (tensor.data().len(), slot.byte_size());
        if bytes > byte_size {
            let output = tensor.name().to_string();
            return Err(PlacementError::Small { output, bytes, byte_size }.into());
        }
        slot.has_room(bytes).map_err(|error| refused(position, error))?;
    }
    for (position, tensor, slot) in shared() {
        slot.write(tensor.data()).map_err(|error| refused(position, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DataType) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: vec![-1], range: None }
    }

    fn output(name: &str, binary: Option<bool>, classes: u32) -> RequestedOutput {
        let classes = NonZeroU32::new(classes);
        RequestedOutput { name: name.into(), binary, classes, place: None }
    }

    fn wanted(outputs: &[RequestedOutput], binary: bool) -> Wanted {
        Wanted { binary, ..Wanted::of(outputs.to_vec()) }
    }

    #[test]
    fn only_outputs_that_exist_and_can_be_written_are_asked_for() {
        let half = "output \"half\" is FP16, which has no form in JSON: ask for it as binary data, \
                    or name the other outputs in \"outputs\"";
        let cases: [(&[RequestedOutput], bool, Option<&str>); 11] = [
            (&[output("label", None, 0)], false, None),
            (&[], true, None),
            (&[], false, Some(half)),
            (&[output("half", None, 0)], false, Some(half)),
            (&[output("half", Some(false), 0)], true, Some(half)),
            (&[output("half", Some(true), 0)], false, None),
            (&[output("half", None, 2), output("label", None, 1)], false, None),
            (
                &[output("words", None, 1)],
                false,
                Some("output \"words\" is BYTES: only outputs of numbers have a classification"),
            ),
            (
                &[output("flag", Some(true), 1)],
                false,
                Some("output \"flag\" is BOOL: only outputs of numbers have a classification"),
            ),
            (
                &[output("label", None, 0), output("logits", None, 0)],
                false,
                Some(
                    "requested output \"logits\" is not in the signature, which has \"label\", \
                     \"half\", \"words\", \"flag\"",
                ),
            ),
            (
                &[output("label", None, 0), output("label", Some(true), 0)],
                false,
                Some("requested output \"label\" is given more than once"),
            ),
        ];
        let known = [
            spec("label", DataType::Int64),
            spec("half", DataType::Fp16),
            spec("words", DataType::Bytes),
            spec("flag", DataType::Bool),
        ];
        for (outputs, binary, message) in cases {
            let error = wanted(outputs, binary).check(&known).err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), message, "{outputs:?}");
        }
    }

    #[test]
    fn only_what_becomes_json_or_classes_takes_work() {
        let given = [("a", 2), ("b", 30)].map(|(name, bytes)| {
            Tensor::new(name, DataType::Uint8, vec![bytes as u64], vec![7; bytes]).expect("bytes")
        });
        let cases: [(&[RequestedOutput], bool, usize); 7] = [
            (&[], false, 32),
            (&[], true, 0),
            (&[output("a", None, 0)], false, 2),
            (&[output("a", None, 0)], true, 0),
            (&[output("a", Some(false), 0), output("b", None, 0)], true, 2),
            (&[output("a", Some(true), 0), output("b", Some(true), 1)], false, 30),
            (&[output("c", None, 0)], false, 0),
        ];
        for (outputs, binary, bytes) in cases {
            assert_eq!(wanted(outputs, binary).work(&given), bytes, "{outputs:?} {binary}");
        }
    }

    #[test]
    fn outputs_come_in_the_order_and_form_asked_for() {
        let tensor = |name: &str| {
            Tensor::new(name, DataType::Uint8, vec![2], vec![7, 9]).expect("two bytes")
        };
        let given = || vec![tensor("a"), tensor("b")];
        let of = |name: &str, binary| Output { tensor: tensor(name), form: Form::of(binary) };
        let select = |outputs: &[RequestedOutput], binary| wanted(outputs, binary).select(given());
        assert_eq!(select(&[], true), Ok(vec![of("a", true), of("b", true)]));
        let outputs = [output("b", None, 0), output("a", Some(true), 0)];
        assert_eq!(select(&outputs, false), Ok(vec![of("b", false), of("a", true)]));
        let outputs = [output("b", Some(false), 0)];
        assert_eq!(select(&outputs, true), Ok(vec![of("b", false)]));
        let best = select(&[output("a", Some(true), 1)], false).expect("has classes");
        assert_eq!(best[0].tensor.strings().collect::<Vec<_>>(), [b"9:1"]);
        assert_eq!(best[0].form, Form::Binary);
        let error = select(&[output("c", None, 0)], false).expect_err("not given");
        assert_eq!(error.to_string(), "requested output \"c\" is missing");
    }
}
