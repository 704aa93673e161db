//! How an invocation went: delivered exactly once, whatever ends it.

use std::{sync::Arc, time::Duration};

use quern_types::{Exceeded, InvokeError};
use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap, WasmBacktrace, component::ResourceTableError,
};
use wasmtime_wasi_http::FieldMapError;

use crate::{
    budget::Ending,
    error::text,
    function::Setting,
    held::HeldTooMuch,
    metrics::Metrics,
    output::{Capture, GuestOutput},
    state::{MAX_FIELDS, State},
    ticker::Running,
};

/// How one invocation went.
#[derive(Debug)]
pub struct Report {
    /// What the guest printed.
    pub output: GuestOutput,
    /// Why it has no answer, if so.
    pub failure: Option<Failure>,
    /// Whether the client has left: the guest was ended, or saw it and ended itself.
    pub cancelled: bool,
    /// Processor time that the guest used.
    pub cpu: Duration,
    /// Linear memory that it had at its end, in bytes.
    pub memory_bytes: u64,
    /// Whether its instance had served before.
    pub reused: bool,
}

/// Why an invocation failed, for its caller and for the function's owner.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For the caller.
    pub error: InvokeError,
    /// For the log: with the guest's stack, where it trapped.
    pub detail: String,
}

/// A limit that is enforced outside the guest, and has ended it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Overrun(pub(crate) Exceeded);

/// Collects the report of one invocation and delivers it when dropped, so that a cancelled
/// invocation is reported too.
pub(crate) struct Reporter {
    deliver: Option<Box<dyn FnOnce(Report) + Send>>,
    capture: Capture,
    /// What the guest printed, if its instance may be serving another request by now.
    output: Option<GuestOutput>,
    metrics: Arc<Metrics>,
    failure: Option<Failure>,
    ended: bool,
    cpu: Duration,
    memory_bytes: u64,
    reused: bool,
    _running: Running,
}

impl Reporter {
    pub(crate) fn new(
        capture: Capture,
        metrics: Arc<Metrics>,
        running: Running,
        deliver: Box<dyn FnOnce(Report) + Send>,
    ) -> Self {
        Self {
            deliver: Some(deliver),
            capture,
            output: None,
            metrics,
            failure: None,
            ended: false,
            cpu: Duration::ZERO,
            memory_bytes: 0,
            reused: false,
            _running: running,
        }
    }

    /// Takes down how the guest's run ended; returns the failure for the caller.
    pub(crate) fn ended(
        &mut self,
        ending: Ending<wasmtime::Result<()>>,
        cpu: Duration,
        setting: &Setting,
        store: &Store<State>,
    ) -> Option<InvokeError> {
        self.ended = true;
        self.used(cpu, store);
        match ending {
            Ending::Guest(Ok(())) => None,
            Ending::Guest(Err(error)) => {
                let invoke_error = classify(&error, setting, store);
                let detail = match error.downcast_ref() {
                    Some(Overrun(limit)) => limit.to_string(),
                    None => format!("{invoke_error}{}", stack(&error)),
                };
                Some(self.failed(invoke_error, detail))
            }
            Ending::Cpu => Some(self.exceeded(Exceeded::Cpu(setting.limits.cpu))),
            Ending::Deadline => Some(self.exceeded(Exceeded::Timeout(setting.limits.timeout))),
        }
    }

    /// Takes down what the guest has used.
    pub(crate) fn used(&mut self, cpu: Duration, store: &Store<State>) {
        self.cpu = cpu;
        self.memory_bytes = store.data().allowance.memory_bytes();
    }

    /// Takes down that the instance had served before.
    pub(crate) fn reuses(&mut self) {
        self.reused = true;
    }

    /// Takes down what the guest has printed. What is printed after this is another request's.
    pub(crate) fn close(&mut self) {
        self.output = Some(self.capture.take());
    }

    /// Takes down that a limit ended the run.
    pub(crate) fn exceeded(&mut self, limit: Exceeded) -> InvokeError {
        self.refused(InvokeError::Limit(limit))
    }

    /// Takes down that the run needed what it was refused.
    pub(crate) fn refused(&mut self, error: InvokeError) -> InvokeError {
        let detail = error.to_string();
        self.failed(error, detail)
    }

    /// Takes down a failure that isn't one of the run itself.
    pub(crate) fn failed(&mut self, error: InvokeError, detail: String) -> InvokeError {
        self.metrics.failures.with_label_values(&[reason(&error)]).inc();
        self.failure = Some(Failure { error: error.clone(), detail });
        error
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            let reason = "the host failed".to_owned();
            let error = InvokeError::Trap { reason: reason.clone(), trace: Vec::new() };
            self.failed(error, reason);
            self.ended = true;
        }
        self.metrics.cpu_seconds.observe(self.cpu.as_secs_f64());
        self.metrics.memory_bytes.observe(self.memory_bytes as f64);
        if let Some(deliver) = self.deliver.take() {
            deliver(Report {
                output: self.output.take().unwrap_or_else(|| self.capture.take()),
                failure: self.failure.take(),
                cancelled: !self.ended,
                cpu: self.cpu,
                memory_bytes: self.memory_bytes,
                reused: self.reused,
            });
        }
    }
}

/// What an error of wasmtime means for the caller.
fn classify(error: &wasmtime::Error, setting: &Setting, store: &Store<State>) -> InvokeError {
    // A guest that was refused something goes on to trap in one way or another; that is why.
    if let Some(refused) = store.data().allowance.refused() {
        return refused.clone();
    }
    if let Some(&Overrun(limit)) = error.downcast_ref() {
        return InvokeError::Limit(limit);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return InvokeError::Busy { scope: "server", limit: setting.instances };
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return InvokeError::Limit(Exceeded::Handles(setting.limits.handles));
    }
    if error.is::<HeldTooMuch>() {
        return InvokeError::Limit(Exceeded::Memory(setting.limits.memory));
    }
    let too_big = matches!(error.downcast_ref(), Some(FieldMapError::TotalSizeTooBig));
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None if too_big => format!("its headers take more than {} KiB", MAX_FIELDS >> 10),
        None => error.root_cause().to_string(),
    };
    // These have no types of their own.
    if reason.contains("fuel allocated for hostcalls has been exhausted") {
        return InvokeError::Limit(Exceeded::HostCall(setting.limits.host_call));
    }
    if reason.contains("store handle limit exceeded") {
        return InvokeError::Limit(Exceeded::Handles(setting.limits.handles));
    }
    if reason.contains("instance count too high") {
        return InvokeError::Limit(Exceeded::Instances(setting.limits.instances));
    }
    InvokeError::Trap { reason, trace: trace(error) }
}

/// The guest's functions where it trapped, the innermost first, as far as the component names them.
fn trace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    // Its text has the names demangled, each line as "  0: 0x1f2 - module!function".
    let text = trace.to_string();
    let frame = |line: &str| line.split_once(" - ").map(|(_, frame)| frame.trim().to_owned());
    text.lines().filter_map(frame).collect()
}

/// The guest's stack where it trapped, one function a line; otherwise the error's causes.
fn stack(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<WasmBacktrace>() {
        Some(trace) => format!("\n{trace}"),
        None => format!(": {}", text(error)),
    }
}

fn reason(error: &InvokeError) -> &'static str {
    match error {
        InvokeError::Limit(limit) => limit.name(),
        InvokeError::Trap { .. } => "trap",
        InvokeError::NoResponse => "no-response",
        InvokeError::Busy { .. } | InvokeError::MemoryFull { .. } => "busy",
        InvokeError::InvalidOutput { .. } => "output",
        _ => "guest",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use quern_types::ByteSize;
    use wasmtime::Engine;

    use super::*;
    use crate::ticker::Ticker;

    fn reporter(capture: &Capture) -> (Reporter, mpsc::Receiver<Report>) {
        let metrics = Metrics::register(&prometheus::Registry::new()).expect("metrics");
        let ticker = Ticker::start(&Engine::default()).expect("a thread");
        let (sender, reported) = mpsc::channel();
        let deliver = Box::new(move |report| sender.send(report).expect("is awaited"));
        let running = ticker.activity().begin();
        (Reporter::new(capture.clone(), Arc::new(metrics), running, deliver), reported)
    }

    #[test]
    fn a_panic_of_the_host_is_not_taken_for_a_client_that_left() {
        let capture = Capture::new(ByteSize::mib(1));
        let (reporter, reported) = reporter(&capture);
        drop(reporter);
        let left = reported.recv().expect("a report");
        assert!(left.cancelled && left.failure.is_none());
        let (reporter, reported) = self::reporter(&capture);
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _reporter = reporter;
            panic!("a fault of the host");
        }));
        assert!(panics.is_err());
        let failed = reported.recv().expect("a report");
        assert!(!failed.cancelled);
        assert_eq!(failed.failure.expect("a failure").detail, "the host failed");
    }

    #[test]
    fn what_the_next_request_prints_is_not_in_the_report_of_the_last() {
        let capture = Capture::new(ByteSize::mib(1));
        let (mut reporter, reported) = reporter(&capture);
        capture.note("of the last");
        reporter.close();
        capture.note("of the next");
        drop(reporter);
        let output = |output: GuestOutput| format!("{:?}", output.pieces);
        let printed = |text: &str| {
            let capture = Capture::new(ByteSize::mib(1));
            capture.note(text);
            output(capture.take())
        };
        assert_eq!(output(reported.recv().expect("a report").output), printed("of the last"));
        assert_eq!(output(capture.take()), printed("of the next"));
    }
}
