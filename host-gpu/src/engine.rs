//! What an engine has to do; never knows of calls, batches or devices.

pub(crate) mod onnxruntime;
pub(crate) mod tract;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use quern_types::DataType;

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
fn shortened(reason: &str) -> String {
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
