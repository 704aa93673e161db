//! The paths of asynchronous calls, who may ask for them, and what they are counted as.

use quern_types::InvocationId;

use super::{Route, RouteError, methods::Methods, shorten};
use crate::{access::Needs, metrics::Traffic};

/// An operation on asynchronous calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackgroundRoute {
    /// `GET /v1/invocations`
    List,
    /// `GET /v1/invocations/{id}`
    Show(InvocationId),
    /// `GET /v1/invocations/{id}/result`
    Result(InvocationId),
    /// `DELETE /v1/invocations/{id}`
    Cancel(InvocationId),
    /// `GET /v1/dead-letters`
    DeadLetters,
    /// `POST /v1/dead-letters/{id}/replay`
    Replay(InvocationId),
    /// `DELETE /v1/dead-letters/{id}`
    Drop(InvocationId),
}

/// What there is below an area of `/v1`.
pub(super) fn find(area: &str, rest: &[&str]) -> Result<Option<Methods>, RouteError> {
    use BackgroundRoute as To;
    let route = Route::Background;
    Ok(match (area, rest) {
        ("invocations", []) => Some(Methods::get(route(To::List))),
        ("invocations", [id]) => {
            let id = parse_id(id)?;
            Some(Methods::get(route(To::Show(id))).and_delete(route(To::Cancel(id))))
        }
        ("invocations", [id, "result"]) => Some(Methods::get(route(To::Result(parse_id(id)?)))),
        ("dead-letters", []) => Some(Methods::get(route(To::DeadLetters))),
        ("dead-letters", [id]) => Some(Methods::delete(route(To::Drop(parse_id(id)?)))),
        ("dead-letters", [id, "replay"]) => Some(Methods::post(route(To::Replay(parse_id(id)?)))),
        _ => None,
    })
}

fn parse_id(text: &str) -> Result<InvocationId, RouteError> {
    text.parse().map_err(|_| RouteError::Invocation { id: shorten(text) })
}

impl BackgroundRoute {
    pub(super) fn needs(&self) -> Needs {
        match self {
            Self::List | Self::Show(_) | Self::Result(_) | Self::Cancel(_) | Self::DeadLetters => {
                Needs::INVOKER
            }
            Self::Replay(_) | Self::Drop(_) => Needs::DEPLOYER,
        }
    }

    /// Its path with its names left out.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::List => "/v1/invocations",
            Self::Show(_) | Self::Cancel(_) => "/v1/invocations/{id}",
            Self::Result(_) => "/v1/invocations/{id}/result",
            Self::DeadLetters => "/v1/dead-letters",
            Self::Replay(_) => "/v1/dead-letters/{id}/replay",
            Self::Drop(_) => "/v1/dead-letters/{id}",
        }
    }

    /// Its name in the OpenAPI document.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::List => "listInvocations",
            Self::Show(_) => "showInvocation",
            Self::Result(_) => "readResult",
            Self::Cancel(_) => "cancelInvocation",
            Self::DeadLetters => "listDeadLetters",
            Self::Replay(_) => "replayDeadLetter",
            Self::Drop(_) => "dropDeadLetter",
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::List | Self::Show(_) | Self::Result(_) | Self::DeadLetters => Traffic::Inspect,
            Self::Cancel(_) | Self::Replay(_) | Self::Drop(_) => Traffic::Change,
        }
    }
}
