//! What an engine has to do; never knows of calls, batches or devices.

pub(crate) mod onnxruntime;
pub(crate) mod tract;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use quern_types::{DataType, DeviceError, Engine, EngineStatus};

use crate::{outline, wire};

/// A model ready to run on one lane. An engine makes one for each lane; they may share weights.
pub(crate) trait Program: Send {
    /// Runs the model once. Inputs are in the signature's order, and so are the outputs.
    fn run(&mut self, inputs: &[Input]) -> Result<Vec<Output>, String>;
}

/// One input of a run: the rows of its calls, which the engine puts end to end where it wants
/// them, so that they are copied once.
pub(crate) struct Input {
    pub(crate) name: Arc<str>,
    pub(crate) dtype: DataType,
    pub(crate) shape: Vec<usize>,
    /// Together exactly as long as dtype and shape say.
    pub(crate) parts: Vec<Bytes>,
}

/// One output of a run, as the engine gave it: not yet held against the signature.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) dtype: DataType,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Bytes,
}

impl Input {
    /// Copies the parts end to end into a buffer of exactly their length.
    pub(crate) fn copy_to(&self, buffer: &mut [u8]) {
        let mut start = 0;
        for part in &self.parts {
            buffer[start..start + part.len()].copy_from_slice(part);
            start += part.len();
        }
    }

    pub(crate) fn byte_length(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}

/// Loads a model on its engine, for each lane. Takes as long as the engine does: milliseconds to
/// seconds.
pub(crate) fn load(
    engine: Engine,
    onnx: &[u8],
    runtime: Option<&onnxruntime::Runtime>,
    lanes: usize,
) -> Result<Vec<Box<dyn Program>>, DeviceError> {
    let loaded = match (engine, runtime) {
        (Engine::Tract, _) => guarded(|| {
            let model = wire::decode(onnx).map_err(|error| error.to_string())?;
            tract::load(&model, outline::rows_agree(&model), lanes)
        }),
        (Engine::OnnxRuntime, Some(runtime)) => guarded(|| runtime.load(onnx, lanes)),
        (Engine::OnnxRuntime, None) => {
            return Err(DeviceError::EngineAbsent { engine, reason: absence() });
        }
    };
    loaded.map_err(|reason| DeviceError::Load { engine, reason })
}

/// All engines, of which tract is always present; `ort` is the version of ONNX Runtime's library.
pub(crate) fn statuses(ort: Option<&str>) -> Vec<EngineStatus> {
    let status = |engine, version: Option<&str>| EngineStatus {
        engine,
        version: version.map(str::to_owned),
        absent: version.is_none().then(absence),
    };
    vec![status(Engine::OnnxRuntime, ort), status(Engine::Tract, Some(tract::VERSION))]
}

/// The engine for models that don't ask for one: ONNX Runtime where it is present, since it is the
/// faster one on all but the smallest models.
pub(crate) fn preferred(ort_is_present: bool) -> Engine {
    if ort_is_present { Engine::OnnxRuntime } else { Engine::Tract }
}

fn absence() -> String {
    "no library was given: run `make ort`, or pass --ort-library".into()
}

/// Calls into an engine. A panic in there is an error of this call and nothing more: whatever
/// state the engine had is dropped by its caller.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(format!("the engine panicked: {}", message(&*panic))))
        .map_err(|reason| shortened(&reason))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Engines print whole graphs into their errors.
pub(crate) fn shortened(reason: &str) -> String {
    const MOST: usize = 600;
    match reason.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_quotes_it() {
        let panicking = |text: Option<String>| {
            guarded::<()>(|| match text {
                Some(text) => panic!("{text}"),
                None => std::panic::panic_any(7),
            })
        };
        let quoted = panicking(Some("no such kernel".into())).expect_err("it panics");
        assert_eq!(quoted, "the engine panicked: no such kernel");
        let silent = panicking(None).expect_err("it panics");
        assert_eq!(silent, "the engine panicked: without a message");
    }

    #[test]
    fn endless_errors_are_cut() {
        let error = guarded::<()>(|| Err("é".repeat(10_000))).expect_err("it fails");
        assert_eq!(error.chars().count(), 601);
    }
}
