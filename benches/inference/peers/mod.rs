//! The peers, each with the model in the way that serves it best on a CPU, as far as we could find:
//! what was chosen, and where it was tried, is in the file of each. Never measures.

pub(crate) mod fastapi;
pub(crate) mod litserve;
pub(crate) mod mlserver;
pub(crate) mod triton;

use crate::{
    models::{Form, Request},
    support::group::{Group, Sleeper},
    target::Target,
};

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    http: String,
    /// The origin that answers gRPC, if it does.
    grpc: Option<String>,
    /// Set for one that has to stand still while others are measured.
    sleeper: Option<Sleeper>,
    _group: Group,
}

impl Peer {
    /// As a target for a request to this path; of gRPC, to the service.
    pub(crate) fn target(&self, path: &str, request: &Request) -> Target {
        self.target_as(&self.name, path, request)
    }

    /// The same under another name.
    pub(crate) fn target_as(&self, name: &str, path: &str, request: &Request) -> Target {
        let url = match (&self.grpc, request.form) {
            (Some(grpc), Form::Grpc) => grpc.clone(),
            _ => format!("{}{path}", self.http),
        };
        Target::new(name, url, request, self.sleeper)
    }
}

/// How many of everything that computes a large model at the same time: as Quern has lanes.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
