//! Copies of requests to functions that serve HTTP: a copy is sent once its caller has been
//! answered, and what comes back is compared by its status and body.

use std::time::Instant;

use ::http::{HeaderName, HeaderValue, Request, Response, request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use quern_types::{Body, InvocationId, InvokeError};

use super::{
    Shadows, Shown, Verdict,
    bodies::{CopiedBody, Heard, HeardBody, Listener, SharedCopy},
    is_of_input,
    record::Compared,
};
use crate::{outcomes::Ending, ready::VersionKey};

/// Tells a function that nobody waits for its answer.
const SHADOW: HeaderName = HeaderName::from_static("quern-shadow");

/// A copy of a request, made while it is served.
#[derive(Debug)]
pub(crate) struct HttpCopy {
    id: InvocationId,
    head: request::Parts,
    body: SharedCopy,
    started: Instant,
}

impl Shadows {
    /// The request, and its copy for a version that is its shadow if there is room for one.
    pub(crate) fn copy_http(
        &self,
        shadow: &VersionKey,
        id: InvocationId,
        request: Request<Body>,
    ) -> (Request<Body>, Option<HttpCopy>) {
        let Some(place) = self.place(shadow) else { return (request, None) };
        let (head, body) = request.into_parts();
        let mut copied = head.clone();
        copied.headers.insert(SHADOW, HeaderValue::from(shadow.version.get()));
        let (body, copy) = CopiedBody::new(body, place);
        let copy = HttpCopy { id, head: copied, body: copy, started: Instant::now() };
        (Request::from_parts(head, body.boxed_unsync()), Some(copy))
    }
}

impl HttpCopy {
    /// Passes the answer on, and sends the copy once all of it has passed.
    pub(crate) fn follow<F>(
        self,
        outcome: Result<Response<Body>, InvokeError>,
        send: impl FnOnce(Request<Body>) -> F + Send + 'static,
    ) -> Result<Response<Body>, InvokeError>
    where
        F: Future<Output = Result<Response<Body>, InvokeError>> + Send + 'static,
    {
        match outcome {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let (body, heard) = HeardBody::new(body, head.status);
                tokio::spawn(async move {
                    // An answer that broke off can't be compared.
                    if let Ok(answer) = heard.await {
                        self.send(Ok(answer), send).await;
                    }
                });
                Ok(Response::from_parts(head, body.boxed_unsync()))
            }
            // That there was no room for the request says nothing about the versions.
            Err(error) if Ending::of(&error) == Ending::Rejected => Err(error),
            Err(error) => {
                let reason = error.to_string();
                tokio::spawn(self.send(Err(reason), send));
                Err(error)
            }
        }
    }

    async fn send<F>(self, answer: Result<Heard, String>, send: impl FnOnce(Request<Body>) -> F)
    where
        F: Future<Output = Result<Response<Body>, InvokeError>>,
    {
        let Self { id, head, body, started } = self;
        let Some((body, place)) = body.take() else { return };
        let (took, shadow_started) = (started.elapsed(), Instant::now());
        let shadow = async { listen(send(Request::from_parts(head, full(body))).await?).await };
        let shadow = match shadow.await {
            // Nor does that there was none for the copy.
            Err(error) if Ending::of(&error) == Ending::Rejected && !is_of_input(&error) => return,
            shadow => shadow.map_err(|error| error.to_string()),
        };
        let (verdict, shown) = compare(answer, shadow);
        let shadow_took = shadow_started.elapsed();
        place.record(id, Compared { verdict, shown, took, shadow_took });
    }
}

/// Hears a response to its end.
async fn listen(response: Response<Body>) -> Result<Heard, InvokeError> {
    let (head, mut body) = response.into_parts();
    let mut listener = Listener::new(head.status);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(InvokeError::RequestBody)?;
        if let Some(data) = frame.data_ref() {
            listener.hear(data);
        }
    }
    Ok(listener.end())
}

fn compare(answer: Result<Heard, String>, shadow: Result<Heard, String>) -> (Verdict, Shown) {
    let error = |error: String| format!("failed: {error}");
    match (answer, shadow) {
        (Ok(one), Ok(other)) if one == other => (Verdict::Same, None),
        (Ok(one), Ok(other)) => (Verdict::Different(None), Some((one.text(), other.text()))),
        (Ok(one), Err(reason)) => (Verdict::Failed, Some((one.text(), error(reason)))),
        (Err(reason), Ok(other)) => (Verdict::Different(None), Some((error(reason), other.text()))),
        (Err(_), Err(_)) => (Verdict::Same, None),
    }
}

fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
