//! Traces: where a request stands in one, whether it is recorded, and the spans that say what it did.
//! Nothing here is sent anywhere; a request that is not recorded makes no span.

mod context;
mod sampler;
mod span;

pub use context::{InvalidTraceId, SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId};
pub use sampler::{InvalidSampler, Sampler};
pub use span::{Span, SpanKind, SpanLink, SpanRecord, SpanValue, Spans, Trace, Tracer};
