//! Calls of functions that serve HTTP: the request's body streams in, the response's streams out,
//! while the guest runs in a task of its own.

mod bodies;
mod exchange;
mod handler;
mod incoming;

use std::sync::Arc;

use ::http::{Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Body as _;
use http_body_util::BodyExt;
use quern_types::{Body, Call, Exceeded, GuestFault, InvokeError};
use tokio::{sync::oneshot, task::JoinHandle};
use wasmtime_wasi_http::{WasiBody, handler::Proxy};

use self::{
    bodies::{GuestBody, RequestBody},
    exchange::Exchange,
};
use crate::{
    Report, budget::Budget, function::HttpFunction, instances::Instance, report::Reporter,
};

/// The head of a response with the end of its body, or why a guest has none.
type Head = Result<Response<WasiBody>, String>;

impl HttpFunction {
    /// Calls the function. Resolves with the head of its response once the body begins, or is slow
    /// to; the guest goes on while the body is read. `report` is called when the guest has ended,
    /// however it did. Dropping the future, or the response's body before its end, cancels the
    /// guest.
    pub async fn call(
        self: &Arc<Self>,
        call: Call,
        request: Request<Body>,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<Response<Body>, InvokeError> {
        let limits = self.instances.setting.limits;
        if request.body().size_hint().lower() > limits.request.0 {
            return Err(InvokeError::Limit(Exceeded::Request(limits.request)));
        }
        let to_head = request.method() == Method::HEAD;
        let passed_on = self.instances.setting.metrics.response_bytes.clone();
        let exchange = Arc::new(Exchange::new(limits.response, passed_on));
        let request = request.map(|body| RequestBody::new(body, limits.request, exchange.clone()));
        let (instance, reporter) = self.instances.begin(&call, report);
        let (head, answered) = oneshot::channel();
        let run =
            Run { function: self.clone(), call, instance, reporter, exchange: exchange.clone() };
        let guest = self.instances.setting.sorter.clone().sort(run.guest(request, head));
        let mut guest = Guest::new(tokio::spawn(guest), exchange.clone());
        let answer = answered.await;
        let head = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok());
        let has_body = head.is_some_and(|head| !to_head && allows_body(head.status()));
        let declared = head.filter(|_| has_body).and_then(declared_length);
        if declared.is_some_and(|length| length > limits.response.0) {
            exchange.exceed(Exceeded::Response(limits.response));
        }
        // A body that is too long explains whatever the guest made of it. It ends the guest, which
        // is reported.
        if let Some(limit) = exchange.exceeded() {
            guest.release();
            return Err(InvokeError::Limit(limit));
        }
        // So does one that never came.
        if let Some(error @ InvokeError::RequestBody(_)) = exchange.failure() {
            return Err(error.clone());
        }
        match answer {
            Ok(Ok(response)) => {
                let mut response =
                    response.map(|body| GuestBody::new(body, declared, guest, exchange));
                if has_body {
                    response.body_mut().begin().await?;
                } else {
                    response.body_mut().release();
                }
                Ok(response.map(BodyExt::boxed_unsync))
            }
            Ok(Err(code)) => Err(InvokeError::Guest {
                fault: GuestFault::Internal,
                message: format!("the function gave up on its response: {code}"),
            }),
            Err(_) => Err(guest.ended().await),
        }
    }
}

/// One invocation on its way. The reporter gives its place to another: it goes after the instance.
struct Run {
    function: Arc<HttpFunction>,
    call: Call,
    instance: Instance<Proxy>,
    reporter: Reporter,
    exchange: Arc<Exchange>,
}

impl Run {
    /// Runs the guest to its end; returns why there is no response, should none have been sent.
    async fn guest(
        self,
        request: Request<RequestBody>,
        head: oneshot::Sender<Head>,
    ) -> InvokeError {
        // In the order in which they go, from the last.
        let Self { function, call, exchange, mut reporter, mut instance } = self;
        let setting = &function.instances.setting;
        let guest = async {
            let (store, guest) = function.instances.ready(&mut instance, &call).await?;
            match guest {
                Proxy::P2(guest) => incoming::run(guest, store, request, head, &exchange).await,
                Proxy::P3(guest) => handler::run(guest, store, request, head, &exchange).await,
            }
        };
        let guest = exchange.unless_exceeded(guest);
        let (ending, cpu) = Budget::new(guest, setting.limits.cpu.0, call.deadline).await;
        if exchange.is_deserted() {
            // However it ended: it was about to be ended, and is reported as that.
            reporter.used(cpu, &instance.store);
            return InvokeError::NoResponse;
        }
        let mut error = reporter.ended(ending, cpu, setting, &instance.store);
        if error.is_none() {
            // A guest may see that its body is no longer taken, and end, before it is ended.
            error = exchange.exceeded().map(|limit| reporter.exceeded(limit));
        }
        if error.is_none() {
            // Dropping the store would end the body as if the guest had finished it.
            let detail = if instance.store.data_mut().has_unfinished_body() {
                Some("function returned without finishing its response's body")
            } else if !exchange.is_answered() {
                Some("function returned without a response")
            } else {
                None
            };
            error = detail.map(|detail| match instance.store.data().allowance.refused() {
                // That is why: some engines make an exception of it.
                Some(refused) => reporter.refused(refused.clone()),
                None => reporter.failed(InvokeError::NoResponse, detail.into()),
            });
        }
        match error {
            Some(error) => {
                // Before the store is dropped, which ends the response's body.
                exchange.fail(error.clone());
                error
            }
            None => {
                function.instances.take_back(instance, &mut reporter);
                InvokeError::NoResponse
            }
        }
    }
}

/// The task of a guest; dropping this cancels it.
struct Guest {
    task: Option<JoinHandle<InvokeError>>,
    exchange: Arc<Exchange>,
}

impl Guest {
    fn new(task: JoinHandle<InvokeError>, exchange: Arc<Exchange>) -> Self {
        Self { task: Some(task), exchange }
    }

    /// Waits for a guest that gave no response, and tells why.
    async fn ended(&mut self) -> InvokeError {
        let Some(task) = &mut self.task else { return InvokeError::NoResponse };
        let ended = task.await;
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "the host failed while it ran a guest");
            InvokeError::Trap { reason: "the host failed".into(), trace: Vec::new() }
        })
    }

    /// Lets the guest go on to its own end, which its deadline bounds.
    fn release(&mut self) {
        if self.task.take().is_some() {
            self.exchange.deliver();
        }
    }

    /// Whether it has to end with what holds it.
    fn is_held(&self) -> bool {
        self.task.is_some()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Whether a response of this status may have a body.
fn allows_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length that a response declares, if it does.
fn declared_length<B>(response: &Response<B>) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
