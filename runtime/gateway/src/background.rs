//! Asynchronous calls over HTTP: taken in where a request prefers that, asked for, and carried out
//! later by the same way as others. What is kept of them is not known here.

mod calls;
mod carry_out;
mod enqueue;
mod options;
mod prefer;
mod query;

use http::HeaderMap;
use quern_types::Caller;

pub(crate) use self::{
    calls::{CallList, CallView},
    enqueue::enqueue,
    options::OptionError,
    query::{CallFilter, DeadLetterFilter},
};
use crate::{
    Gateway,
    body::Reply,
    errors::Failure,
    route::{BackgroundRoute, Route},
};

/// Whether a request is to be carried out later.
pub(crate) fn is_asked(route: &Route, headers: &HeaderMap) -> bool {
    matches!(route, Route::Call(_) | Route::Infer(_)) && prefer::is_async(headers)
}

/// Answers what is asked about asynchronous calls.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: BackgroundRoute,
    query: Option<&str>,
) -> Result<Reply, Failure> {
    match route {
        BackgroundRoute::List => calls::list(gateway, caller, query).await,
        BackgroundRoute::Show(id) => calls::show(gateway, caller, id).await,
        BackgroundRoute::Result(id) => calls::result(gateway, caller, id).await,
        BackgroundRoute::Cancel(id) => calls::cancel(gateway, caller, id).await,
        BackgroundRoute::DeadLetters => calls::dead_letters(gateway, caller, query).await,
        BackgroundRoute::Replay(id) => calls::replay(gateway, caller, id).await,
        BackgroundRoute::Drop(id) => calls::drop_dead(gateway, caller, id).await,
    }
}
