//! What server and worker say to each other: small messages, in the compact binary form of
//! postcard, for both ends are always the same program. Tensors and models never pass through
//! here: they lie in shared memory, and messages say where.

use std::{path::PathBuf, sync::Arc};

use quern_types::{Confinement, DataType, Engine};
use serde::{Deserialize, Serialize};

pub(super) use quern_process::socket::MAX_MESSAGE;

use crate::process::region::Part;

/// A model of this server, in all workers that it ever starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ModelId(pub(super) u64);

/// What the server tells a worker that has just started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Channels that compute, one after the other; each is a lane.
    pub(crate) lanes: u32,
    /// Channels that load models, after the lanes.
    pub(crate) loaders: u32,
    pub(super) ort_library: Option<PathBuf>,
    /// What the worker's memory is limited to.
    pub(super) memory_bytes: Option<u64>,
}

/// What a worker says once it can compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The version of ONNX Runtime's library, if one was given.
    pub(super) ort_version: Option<String>,
    pub(super) confinement: Vec<Confinement>,
}

/// What the server asks on a channel; it is answered there before the next is asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Loads a model from the memory that comes along.
    Load(Load),
    Unload {
        model: ModelId,
    },
    /// Computes once. Memory that comes along replaces what this channel had.
    Run {
        model: ModelId,
        inputs: Vec<Placed>,
        room: Part,
    },
    /// Puts the outputs for which there was no room into the memory that comes along.
    Collect,
}

/// A model that is to be loaded.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) model: ModelId,
    pub(super) engine: Engine,
    /// It runs on the first so many lanes.
    pub(super) lanes: u32,
    pub(super) inputs: Vec<Port>,
}

/// An input of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) dtype: DataType,
}

/// A tensor of a run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub(super) dtype: DataType,
    pub(super) shape: Vec<u64>,
    pub(super) part: Part,
}

/// What the worker answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The model is loaded, or unloaded.
    Done,
    /// The engine refused a model, or failed on its inputs.
    Failed {
        reason: String,
    },
    /// The engine of the model is absent.
    Absent {
        reason: String,
    },
    Ran {
        compute_ns: u64,
        outputs: Vec<Placed>,
    },
    /// A run whose outputs are kept until there is memory for them.
    NoRoom {
        bytes: u64,
    },
    /// The request makes no sense. The server never makes such a request.
    Refused {
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::Started;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let part = Part { offset: 64, length: 12 };
        let placed = || Placed { dtype: DataType::Bf16, shape: vec![0, u64::MAX], part };
        let port = Port { name: "x".into(), dtype: DataType::Fp32 };
        let (model, engine) = (ModelId(7), Engine::Tract);
        let load = Load { model, engine, lanes: 2, inputs: vec![port] };
        let requests = [
            Request::Load(load),
            Request::Unload { model: ModelId(u64::MAX) },
            Request::Run { model: ModelId(0), inputs: vec![placed()], room: part },
            Request::Collect,
        ];
        for request in requests {
            let bytes = postcard::to_stdvec(&request).expect("encodes");
            assert_eq!(postcard::from_bytes(&bytes), Ok(request));
        }
        let replies = [
            Reply::Done,
            Reply::Failed { reason: "é".into() },
            Reply::Ran { compute_ns: 1, outputs: vec![placed()] },
            Reply::NoRoom { bytes: 1 << 40 },
        ];
        for reply in replies {
            let bytes = postcard::to_stdvec(&reply).expect("encodes");
            assert_eq!(postcard::from_bytes(&bytes), Ok(reply));
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // A length that is claimed and not there must not take memory.
            let _ = postcard::from_bytes::<Reply>(&bytes);
            let _ = postcard::from_bytes::<Started<Ready>>(&bytes);
            let _ = postcard::from_bytes::<Request>(&bytes);
        }
    }
}
