//! Spans as the messages of OTLP have them. Knows nothing of how they are sent.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Link, SpanKind as MessageKind},
        status::StatusCode,
    },
};
use quern_types::{SpanKind, SpanRecord, SpanValue};

/// Flags of a span or link: whether it is remote is known, and whether it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

/// The server as its spans name it.
pub(crate) fn resource(attributes: &[(String, String)]) -> Resource {
    let text = |(key, value): &(String, String)| pair(key, Value::StringValue(value.clone()));
    Resource { attributes: attributes.iter().map(text).collect(), ..Resource::default() }
}

/// A request to the collector to take these spans.
pub(crate) fn request(
    resource: Resource,
    version: &str,
    spans: Vec<SpanRecord>,
) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "quern".into(),
        version: version.into(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(span).collect();
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(record: SpanRecord) -> Span {
    let start = record.start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let kind = match record.kind {
        SpanKind::Server => MessageKind::Server,
        SpanKind::Client => MessageKind::Client,
        SpanKind::Internal => MessageKind::Internal,
    };
    let remote = if record.parent_is_remote { IS_REMOTE } else { 0 };
    let status = record.failure.map(|message| Status { message, code: StatusCode::Error.into() });
    let links = record.links.into_iter().map(|link| Link {
        trace_id: link.trace.get().to_be_bytes().into(),
        span_id: link.span.get().to_be_bytes().into(),
        flags: SAMPLED | HAS_IS_REMOTE,
        ..Link::default()
    });
    Span {
        trace_id: record.trace.get().to_be_bytes().into(),
        span_id: record.span.get().to_be_bytes().into(),
        parent_span_id: record
            .parent
            .map(|span| span.get().to_be_bytes().into())
            .unwrap_or_default(),
        trace_state: record.state.as_deref().unwrap_or_default().into(),
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        name: record.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(start.saturating_add(record.took)),
        attributes: record.attributes.into_iter().map(attribute).collect(),
        links: links.collect(),
        dropped_links_count: record.dropped_links,
        status,
        ..Span::default()
    }
}

fn attribute((key, value): (&'static str, SpanValue)) -> KeyValue {
    let value = match value {
        SpanValue::Text(text) => Value::StringValue(text),
        SpanValue::Integer(number) => Value::IntValue(number),
        SpanValue::Flag(flag) => Value::BoolValue(flag),
    };
    pair(key, value)
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn nanos(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
