//! The calls of batch scoring: their paths, who may make them, and what they are counted as.

use quern_scoring::{BatchId, InvalidBatchId};

use super::{Route, methods::Methods};
use crate::{access::Needs, metrics::Traffic};

/// An operation on batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BatchRoute {
    /// `POST /v1/batches`
    Create,
    /// `GET /v1/batches`
    List,
    /// `GET /v1/batches/{id}`
    Show(BatchId),
    /// `GET /v1/batches/{id}/events`
    Events(BatchId),
    /// `GET /v1/batches/{id}/results`
    Results(BatchId),
    /// `DELETE /v1/batches/{id}`
    Remove(BatchId),
}

/// What a path below `/v1/batches` takes, if it is one.
pub(super) fn find(rest: &[&str]) -> Result<Option<Methods>, InvalidBatchId> {
    let route = |route| Route::Batches(route);
    Ok(match *rest {
        [] => Some(Methods::get(route(BatchRoute::List)).and_post(route(BatchRoute::Create))),
        [id] => {
            let id = id.parse()?;
            Some(
                Methods::get(route(BatchRoute::Show(id))).and_delete(route(BatchRoute::Remove(id))),
            )
        }
        [id, "events"] => Some(Methods::get(route(BatchRoute::Events(id.parse()?)))),
        [id, "results"] => Some(Methods::get(route(BatchRoute::Results(id.parse()?)))),
        _ => None,
    })
}

impl BatchRoute {
    /// Who may ask for it: to score a file is to call what scores it.
    pub(super) fn needs(&self) -> Needs {
        Needs::INVOKER
    }

    /// Its name in the OpenAPI document.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Create => "createBatch",
            Self::List => "listBatches",
            Self::Show(_) => "showBatch",
            Self::Events(_) => "followBatch",
            Self::Results(_) => "readBatchResults",
            Self::Remove(_) => "removeBatch",
        }
    }

    /// Its path with its names left out.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Create | Self::List => "/v1/batches",
            Self::Show(_) | Self::Remove(_) => "/v1/batches/{id}",
            Self::Events(_) => "/v1/batches/{id}/events",
            Self::Results(_) => "/v1/batches/{id}/results",
        }
    }

    /// What it is counted as.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Create | Self::Remove(_) => Traffic::Change,
            Self::List | Self::Show(_) => Traffic::Inspect,
            Self::Events(_) | Self::Results(_) => Traffic::Logs,
        }
    }
}
