//! Turns the report of an invocation into records of its function's log.

use std::time::SystemTime;

use quern_sandbox::{OutputStream, Report};
use quern_store::{FunctionLogs, LogRecord, LogStream};
use quern_types::{InvocationId, InvokeError, Name, TenantId, VersionNumber};

/// Whose output it is.
pub(crate) struct Author {
    pub(crate) tenant: TenantId,
    pub(crate) function: Name,
    pub(crate) version: VersionNumber,
    pub(crate) invocation: InvocationId,
}

/// Writes down what a guest printed and why it failed, if so.
pub(crate) fn write(logs: &FunctionLogs, author: Author, report: Report) {
    if report.output.pieces.is_empty() && report.failure.is_none() {
        return;
    }
    let time = SystemTime::now();
    let append = |stream, text: String| {
        logs.append(LogRecord {
            tenant: author.tenant.clone(),
            function: author.function.clone(),
            version: author.version,
            invocation: author.invocation,
            time,
            stream,
            text,
        });
    };
    for (stream, bytes) in report.output.pieces {
        let stream = match stream {
            OutputStream::Stdout => LogStream::Stdout,
            OutputStream::Stderr => LogStream::Stderr,
            OutputStream::System => LogStream::System,
        };
        let text = String::from_utf8_lossy(&bytes);
        append(stream, text.strip_suffix('\n').unwrap_or(&text).to_owned());
    }
    if report.output.dropped_bytes > 0 {
        let dropped = report.output.dropped_bytes;
        append(LogStream::System, format!("{dropped} bytes beyond the limit were not kept"));
    }
    // A request that found no room is no news of the function.
    if let Some(failure) = report.failure
        && !matches!(failure.error, InvokeError::Busy { .. })
    {
        append(LogStream::System, failure.detail);
    }
}
