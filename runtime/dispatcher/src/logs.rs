//! Turns the report of an invocation into records of its function's log.

use std::time::SystemTime;

use quern_sandbox::{OutputStream, Piece, Report};
use quern_store::{FunctionLogs, LogRecord, LogStream};
use quern_types::{Call, InvocationId, InvokeError, Name, TenantId, TraceId, VersionNumber};

/// Whose output it is.
pub(crate) struct Author {
    pub(crate) tenant: TenantId,
    pub(crate) function: Name,
    pub(crate) version: VersionNumber,
    pub(crate) invocation: InvocationId,
    pub(crate) trace: Option<TraceId>,
}

impl Author {
    pub(crate) fn new(
        tenant: TenantId,
        function: Name,
        version: VersionNumber,
        call: &Call,
    ) -> Self {
        Self { tenant, function, version, invocation: call.id, trace: call.trace.id() }
    }
}

/// Writes down what a guest printed and why it failed, if so.
pub(crate) fn write(logs: &FunctionLogs, author: Author, report: Report) {
    let output = &report.output;
    if output.pieces.is_empty() && output.dropped_bytes == 0 && report.failure.is_none() {
        return;
    }
    let time = SystemTime::now();
    let append = |stream, text: String| {
        logs.append(LogRecord {
            tenant: author.tenant.clone(),
            function: author.function.clone(),
            version: author.version,
            invocation: author.invocation,
            trace: author.trace,
            time,
            stream,
            text,
        });
    };
    for piece in report.output.pieces {
        match piece {
            Piece::Printed { stream, bytes } => {
                let text = String::from_utf8_lossy(&bytes);
                for part in parts(text.strip_suffix('\n').unwrap_or(&text)) {
                    append(printed(stream), part.to_owned());
                }
            }
            Piece::Logged { level, context, message } => {
                append(LogStream::Log { level, context }, message);
            }
        }
    }
    if report.output.dropped_bytes > 0 {
        let dropped = report.output.dropped_bytes;
        append(LogStream::System, format!("{dropped} bytes beyond limits.log were not kept"));
    }
    if let Some(failure) = report.failure
        && is_news(&failure.error)
    {
        append(LogStream::System, failure.detail);
    }
}

/// Whether a failure says something about the function: that a request found no room does not.
fn is_news(error: &InvokeError) -> bool {
    !matches!(error, InvokeError::Busy { .. } | InvokeError::MemoryFull { .. })
}

fn printed(stream: OutputStream) -> LogStream {
    match stream {
        OutputStream::Stdout => LogStream::Stdout,
        OutputStream::Stderr => LogStream::Stderr,
        OutputStream::System => LogStream::System,
    }
}

/// A text in parts that each fit a record, at the ends of lines where that is possible.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.len() <= LogRecord::MAX_TEXT {
            return rest.take();
        }
        let fits = text.floor_char_boundary(LogRecord::MAX_TEXT);
        let (part, after) = match text[..fits].rfind('\n') {
            Some(line) => (&text[..line], &text[line + 1..]),
            None => text.split_at(fits),
        };
        rest = Some(after);
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use quern_types::ByteSize;

    use super::*;

    #[test]
    fn that_a_request_found_no_room_is_no_news_of_the_function() {
        let limit = ByteSize(1);
        assert!(!is_news(&InvokeError::Busy { scope: "server", limit: 1 }));
        assert!(!is_news(&InvokeError::MemoryFull { scope: "server", limit }));
        assert!(is_news(&InvokeError::NoResponse));
    }

    #[test]
    fn long_texts_are_parted_at_the_ends_of_lines() {
        const MAX: usize = LogRecord::MAX_TEXT;
        let line = |length: usize| "x".repeat(length);
        let cases = [
            (String::new(), vec![0]),
            (line(MAX), vec![MAX]),
            (line(MAX + 1), vec![MAX, 1]),
            (format!("{}\n{}", line(10), line(MAX)), vec![10, MAX]),
            (format!("{}\n{}\n{}", line(10), line(10), line(MAX)), vec![21, MAX]),
            ("é".repeat(MAX / 2) + "é", vec![MAX, 2]),
        ];
        for (text, expected) in cases {
            let lengths: Vec<_> = parts(&text).map(str::len).collect();
            assert_eq!(lengths, expected, "{} bytes", text.len());
        }
    }
}
