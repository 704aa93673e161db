//! Spans: what a part of a request did, from when to when. One that is not recorded costs nothing
//! but the question.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Sampler, SpanId, TraceContext, TraceId};

/// Links of one span that are kept, as many as OpenTelemetry allows by default; more are counted.
const MOST_LINKS: usize = 128;
/// Bytes of a text that says why something failed.
const MOST_FAILURE_BYTES: usize = 1_024;

/// Whose work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Answering somebody else's request.
    Server,
    /// Waiting for somebody else's answer.
    Client,
    /// Neither.
    Internal,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A number.
    Integer(i64),
    /// Yes or no.
    Flag(bool),
}

/// Names a span of another trace that has to do with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLink {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanRecord {
    /// The trace that it is of.
    pub trace: TraceId,
    /// Itself.
    pub span: SpanId,
    /// The span that it is a part of; none for the first of a trace.
    pub parent: Option<SpanId>,
    /// Whether that is a span of another system.
    pub parent_is_remote: bool,
    /// What other systems keep of the trace.
    pub state: Option<Arc<str>>,
    /// Whose work it is.
    pub kind: SpanKind,
    /// What it is; one of few.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// Spans of other traces that have to do with it.
    pub links: Vec<SpanLink>,
    /// Links that there was no room for.
    pub dropped_links: u32,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Names spans, and takes those that have ended. Inverts the edge from everything that makes spans
/// to whatever sends them.
pub trait Spans: Send + Sync + 'static {
    /// A name that no trace has.
    fn trace_id(&self) -> TraceId;

    /// A name that no span has.
    fn span_id(&self) -> SpanId;

    /// Takes a span; never waits.
    fn record(&self, span: SpanRecord);
}

/// Begins the traces of requests, or takes part in those of their callers.
pub struct Tracer {
    sampler: Sampler,
    spans: Arc<dyn Spans>,
}

/// Where a request, or a part of it, stands in a trace. Without one it is empty, and costs nothing.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Place>>);

struct Place {
    context: TraceContext,
    /// None: it is not recorded.
    spans: Option<Arc<dyn Spans>>,
}

/// A span under way; recorded when it is dropped. Of a request that is not recorded there is
/// nothing in it.
pub struct Span {
    /// Of its parts: its own place, or its request's where it is not recorded.
    trace: Trace,
    open: Option<Box<Open>>,
}

struct Open {
    begun: Instant,
    record: SpanRecord,
}

/// What a span is from its beginning on, beside its place.
struct New {
    parent: Option<SpanId>,
    parent_is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
}

impl Tracer {
    /// A tracer that records what the sampler says.
    pub fn new(sampler: Sampler, spans: Arc<dyn Spans>) -> Self {
        Self { sampler, spans }
    }

    /// The span of a request that is answered here; `caller` is what its headers say. The name is
    /// only asked for if the request is recorded.
    pub fn server(&self, caller: Option<TraceContext>, name: impl FnOnce() -> String) -> Span {
        self.begin(caller, SpanKind::Server, || name().into())
    }

    /// The span of work that no request waits for, which begins a trace.
    pub fn work(&self, name: &'static str) -> Span {
        self.begin(None, SpanKind::Internal, || name.into())
    }

    fn begin(
        &self,
        caller: Option<TraceContext>,
        kind: SpanKind,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> Span {
        let trace = caller.as_ref().map_or_else(|| self.spans.trace_id(), |caller| caller.trace);
        let sampled = self.sampler.samples(trace, caller.as_ref());
        let parent = caller.as_ref().map(|caller| caller.span);
        let state = caller.and_then(|caller| caller.state);
        let context = TraceContext { trace, span: self.spans.span_id(), sampled, state };
        if !sampled {
            let place = Place { context, spans: None };
            return Span { trace: Trace(Some(Arc::new(place))), open: None };
        }
        let new = New { parent, parent_is_remote: parent.is_some(), kind, name: name() };
        Span::begin(context, self.spans.clone(), new)
    }
}

impl Trace {
    /// What those who come after are told; none without a trace.
    pub fn context(&self) -> Option<&TraceContext> {
        self.0.as_deref().map(|place| &place.context)
    }

    /// The trace, recorded or not.
    pub fn id(&self) -> Option<TraceId> {
        self.context().map(|context| context.trace)
    }

    /// Whether spans are recorded.
    pub fn is_recorded(&self) -> bool {
        self.recording().is_some()
    }

    /// The span that this is the place of, if it is recorded.
    pub fn link(&self) -> Option<SpanLink> {
        let (context, _) = self.recording()?;
        Some(SpanLink { trace: context.trace, span: context.span })
    }

    /// A part of what is done here.
    pub fn begin(&self, kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Span {
        let Some((context, spans)) = self.recording() else {
            return Span { trace: self.clone(), open: None };
        };
        let parent = Some(context.span);
        let context = TraceContext { span: spans.span_id(), ..context.clone() };
        let new = New { parent, parent_is_remote: false, kind, name: name.into() };
        Span::begin(context, spans.clone(), new)
    }

    /// Work that others share, in a trace of its own. Without a record of this one there is none of
    /// that.
    pub fn begin_apart(&self, name: &'static str) -> Span {
        let Some((_, spans)) = self.recording() else { return Span::none() };
        let (trace, span) = (spans.trace_id(), spans.span_id());
        let context = TraceContext { trace, span, sampled: true, state: None };
        let (kind, name) = (SpanKind::Internal, name.into());
        Span::begin(
            context,
            spans.clone(),
            New { parent: None, parent_is_remote: false, kind, name },
        )
    }

    fn recording(&self) -> Option<(&TraceContext, &Arc<dyn Spans>)> {
        let place = self.0.as_deref()?;
        Some((&place.context, place.spans.as_ref()?))
    }
}

impl Span {
    /// Of a request without a trace.
    pub fn none() -> Self {
        Self { trace: Trace::default(), open: None }
    }

    fn begin(context: TraceContext, spans: Arc<dyn Spans>, new: New) -> Self {
        let New { parent, parent_is_remote, kind, name } = new;
        let record = SpanRecord {
            trace: context.trace,
            span: context.span,
            parent,
            parent_is_remote,
            state: context.state.clone(),
            kind,
            name,
            start: SystemTime::now(),
            took: Duration::ZERO,
            attributes: Vec::new(),
            links: Vec::new(),
            dropped_links: 0,
            failure: None,
        };
        let trace = Trace(Some(Arc::new(Place { context, spans: Some(spans) })));
        Self { trace, open: Some(Box::new(Open { begun: Instant::now(), record })) }
    }

    /// The place of its parts.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether anything that is said of it is kept.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// Takes down what is known of it, which is only asked for if it is recorded.
    pub fn note<const N: usize>(
        &mut self,
        attributes: impl FnOnce() -> [(&'static str, SpanValue); N],
    ) {
        if let Some(open) = &mut self.open {
            open.record.attributes.extend(attributes());
        }
    }

    /// Takes down a span of another trace that has to do with it.
    pub fn link(&mut self, link: SpanLink) {
        let Some(open) = &mut self.open else { return };
        if open.record.links.len() < MOST_LINKS {
            open.record.links.push(link);
        } else {
            open.record.dropped_links += 1;
        }
    }

    /// Takes down that it failed, and why; what it says first holds.
    pub fn fail(&mut self, why: &dyn fmt::Display) {
        let Some(open) = &mut self.open else { return };
        if open.record.failure.is_none() {
            let mut why = why.to_string();
            why.truncate(why.floor_char_boundary(MOST_FAILURE_BYTES));
            open.record.failure = Some(why);
        }
    }

    /// The same for an outcome.
    pub fn outcome<T, E: fmt::Display>(&mut self, outcome: &Result<T, E>) {
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(Open { begun, mut record }) = self.open.take().map(|open| *open) else { return };
        record.took = begun.elapsed();
        if let Some((_, spans)) = self.trace.recording() {
            spans.record(record);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.context()).finish()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("trace", &self.trace).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("sampler", &self.sampler).finish_non_exhaustive()
    }
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SpanValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for SpanValue {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u64> for SpanValue {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for SpanValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Duration> for SpanValue {
    /// In microseconds.
    fn from(time: Duration) -> Self {
        Self::Integer(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// Numbers what it names, and keeps what it takes.
    #[derive(Default)]
    struct Kept {
        named: AtomicU64,
        spans: Mutex<Vec<SpanRecord>>,
    }

    impl Spans for Kept {
        fn trace_id(&self) -> TraceId {
            TraceId::new(self.named.fetch_add(1, Ordering::Relaxed) as u128 + 1).expect("not zero")
        }

        fn span_id(&self) -> SpanId {
            SpanId::new(self.named.fetch_add(1, Ordering::Relaxed) + 1).expect("not zero")
        }

        fn record(&self, span: SpanRecord) {
            self.spans.lock().expect("no panic").push(span);
        }
    }

    fn tracer(sampler: &str) -> (Tracer, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        (Tracer::new(Sampler::new(sampler, 1.0).expect("a sampler"), kept.clone()), kept)
    }

    fn caller(sampled: bool) -> TraceContext {
        let (trace, span) = (TraceId::new(77), SpanId::new(7));
        let state = Some("a=b".into());
        TraceContext { trace: trace.expect("an id"), span: span.expect("an id"), sampled, state }
    }

    #[test]
    fn parts_of_a_request_are_spans_below_its_own() {
        let (tracer, kept) = tracer("parentbased_always_off");
        let mut request = tracer.server(Some(caller(true)), || "GET /".into());
        request.note(|| [("http.request.method", "GET".into()), ("rows", 3_u32.into())]);
        let mut part = request.trace().begin(SpanKind::Internal, "part");
        let of_part = part.trace().begin(SpanKind::Client, "of-part");
        let told = of_part.trace().context().expect("a trace").clone();
        assert!(told.sampled && told.state.as_deref() == Some("a=b"));
        drop(of_part);
        part.fail(&"broken");
        part.fail(&"what follows");
        part.link(SpanLink { trace: caller(true).trace, span: caller(true).span });
        drop(part);
        drop(request);
        let spans = kept.spans.lock().expect("no panic");
        let [of_part, part, request] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(told.span, of_part.span);
        assert_eq!((of_part.parent, part.parent), (Some(part.span), Some(request.span)));
        assert_eq!((request.parent, request.parent_is_remote), (Some(caller(true).span), true));
        assert!(!part.parent_is_remote);
        assert!(spans.iter().all(|span| span.trace == caller(true).trace));
        assert_eq!((part.failure.as_deref(), part.links.len()), (Some("broken"), 1));
        assert_eq!(request.attributes[1], ("rows", SpanValue::Integer(3)));
        assert_eq!((request.name.as_ref(), request.kind), ("GET /", SpanKind::Server));
    }

    #[test]
    fn what_is_not_recorded_is_passed_on_and_never_described() {
        let (tracer, kept) = tracer("parentbased_always_on");
        let mut request = tracer.server(Some(caller(false)), || panic!("nobody asks"));
        request.note::<1>(|| panic!("nobody asks"));
        let part = request.trace().begin(SpanKind::Internal, "part");
        let told = part.trace().context().expect("a trace");
        assert_eq!((told.trace, told.sampled), (caller(false).trace, false));
        assert_ne!(told.span, caller(false).span, "it is this server that calls on");
        assert_eq!(part.trace().link(), None);
        assert!(!part.trace().begin_apart("apart").is_recorded());
        drop(part);
        drop(request);
        assert!(kept.spans.lock().expect("no panic").is_empty());
        let nothing = Trace::default();
        assert!(nothing.context().is_none());
        assert!(nothing.begin(SpanKind::Internal, "part").trace().context().is_none());
    }

    #[test]
    fn shared_work_has_a_trace_of_its_own() {
        let (tracer, kept) = tracer("always_on");
        let request = tracer.server(None, || "GET /".into());
        let mut shared = request.trace().begin_apart("run");
        for _ in 0..MOST_LINKS + 3 {
            shared.link(request.trace().link().expect("it is recorded"));
        }
        drop(shared);
        let spans = kept.spans.lock().expect("no panic");
        let run = &spans[0];
        assert_ne!(Some(run.trace), request.trace().id());
        assert_eq!((run.parent, run.links.len(), run.dropped_links), (None, MOST_LINKS, 3));
        assert_eq!(run.links[0], request.trace().link().expect("it is recorded"));
    }
}
