//! Keeps a function's secrets out of what is written down of its requests and of what their callers
//! are told of errors. What the function answers is its own.

use std::sync::Arc;

use http::Response;
use http_body_util::BodyExt;
use quern_sandbox::{Failure, Piece, Report};
use quern_types::{Body, BodyError, InvokeError, Redactor, Settings};

/// Bytes of the text of an error that are kept where secrets are looked for in it: a guest can make
/// it as long as its memory.
const MOST_TEXT: usize = 16 << 10;

/// Bytes to look at, once for each secret, above which that leaves the async threads.
const LONG: usize = 256 << 10;

/// What a piece of output counts for beside its bytes.
const PIECE: usize = 64;

/// Whether looking for secrets in a report takes so long that others should not wait for it.
pub(crate) fn is_long(settings: Option<&Settings>, report: &Report) -> bool {
    let Some(settings) = with_secrets(settings) else { return false };
    let pieces = report.output.pieces.iter().map(|piece| match piece {
        Piece::Printed { bytes, .. } => bytes.len() + PIECE,
        Piece::Logged { context, message, .. } => context.len() + message.len() + 2 * PIECE,
    });
    pieces.sum::<usize>().saturating_mul(settings.secrets.len()) > LONG
}

/// The report with keys in the place of the values of secrets.
pub(crate) fn report(settings: Option<&Settings>, mut report: Report) -> Report {
    let Some(settings) = with_secrets(settings) else { return report };
    let redactor = settings.redactor();
    let is_cut = report.output.dropped_bytes > 0;
    let pieces = report.output.pieces.len();
    for (piece, number) in report.output.pieces.iter_mut().zip(1..) {
        match piece {
            Piece::Printed { bytes, .. } => {
                if let Some(redacted) = redactor.redact(bytes, is_cut && number == pieces) {
                    *bytes = redacted;
                }
            }
            Piece::Logged { context, message, .. } => {
                for text in [context, message] {
                    *text = redactor.redact_text(std::mem::take(text), false);
                }
            }
        }
    }
    report.failure = report.failure.map(|Failure { error, detail }| Failure {
        error: redact(&redactor, error),
        detail: self::text(&redactor, detail),
    });
    report
}

/// The same of an error on its way to the caller.
pub(crate) fn error(settings: Option<&Settings>, error: InvokeError) -> InvokeError {
    match with_secrets(settings) {
        Some(settings) => redact(&settings.redactor(), error),
        None => error,
    }
}

/// The response, whose body may still end with an error in the guest's words.
pub(crate) fn response(
    settings: Option<Arc<Settings>>,
    response: Response<Body>,
) -> Response<Body> {
    let Some(settings) = settings.filter(|settings| !settings.secrets.is_empty()) else {
        return response;
    };
    let redacted = move |error| match error {
        BodyError::Function(text) => BodyError::Function(self::text(&settings.redactor(), text)),
        other => other,
    };
    response.map(|body| body.map_err(redacted).boxed_unsync())
}

fn with_secrets(settings: Option<&Settings>) -> Option<&Settings> {
    settings.filter(|settings| !settings.secrets.is_empty())
}

/// Only these have texts of the guest.
fn redact(redactor: &Redactor<'_>, error: InvokeError) -> InvokeError {
    let text = |text| self::text(redactor, text);
    match error {
        InvokeError::Guest { fault, message } => {
            InvokeError::Guest { fault, message: text(message) }
        }
        InvokeError::InvalidOutput { reason } => {
            InvokeError::InvalidOutput { reason: text(reason) }
        }
        InvokeError::Trap { reason, trace } => {
            InvokeError::Trap { reason: text(reason), trace: trace.into_iter().map(text).collect() }
        }
        other => other,
    }
}

/// What is kept of the text of an error.
fn text(redactor: &Redactor<'_>, mut text: String) -> String {
    let is_cut = text.len() > MOST_TEXT;
    if is_cut {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
    }
    redactor.redact_text(text, is_cut)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use quern_sandbox::{GuestOutput, OutputStream};
    use quern_types::{GuestFault, LogLevel, Secret, SecretValue};

    use super::*;

    const VALUE: &str = "correct horse battery";

    fn settings() -> Settings {
        let mut settings = Settings::default();
        let value = SecretValue::new(VALUE.into()).ok();
        let secret = Secret { value, changed: SystemTime::UNIX_EPOCH };
        settings.secrets.insert("password".parse().expect("a key"), secret);
        settings
    }

    fn errors(text: &str) -> [InvokeError; 3] {
        let (message, reason) = (text.to_owned(), text.to_owned());
        [
            InvokeError::Guest { fault: GuestFault::Input, message },
            InvokeError::InvalidOutput { reason: reason.clone() },
            InvokeError::Trap { reason, trace: vec![text.to_owned()] },
        ]
    }

    #[test]
    fn nothing_that_is_kept_of_a_request_has_a_secret_in_it() {
        let text = format!("it is {VALUE}!");
        let printed = |stream, text: &str| Piece::Printed { stream, bytes: text.into() };
        let output = GuestOutput {
            pieces: vec![
                printed(OutputStream::Stdout, &text),
                Piece::Logged {
                    level: LogLevel::Info,
                    context: text.clone(),
                    message: text.clone(),
                },
                printed(OutputStream::Stderr, &text[..text.len() - 4]),
            ],
            dropped_bytes: 4,
        };
        for error in errors(&text) {
            let report = Report {
                output: GuestOutput { pieces: output.pieces.clone(), ..output },
                failure: Some(Failure { error, detail: text.clone() }),
                cancelled: false,
                reused: false,
                cpu: Duration::ZERO,
                memory_bytes: 0,
            };
            let kept = format!("{:?}", self::report(Some(&settings()), report).failure);
            assert!(kept.contains("[secret password]") && !kept.contains("correct"), "{kept}");
        }
        let report = Report {
            output,
            failure: None,
            cancelled: false,
            reused: false,
            cpu: Duration::ZERO,
            memory_bytes: 0,
        };
        let pieces = self::report(Some(&settings()), report).output.pieces;
        let whole = "it is [secret password]!";
        let (context, message) = (whole.to_owned(), whole.to_owned());
        let expected = [
            printed(OutputStream::Stdout, whole),
            Piece::Logged { level: LogLevel::Info, context, message },
            printed(OutputStream::Stderr, "it is [secret password]"),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn the_text_of_an_error_is_cut_and_none_of_a_secret_left_at_its_end() {
        let before = "é".repeat((MOST_TEXT - 8) / 2);
        let [error, ..] = errors(&format!("{before}{VALUE} and so on, {VALUE}"));
        let [expected, ..] = errors(&format!("{before}[secret password]"));
        assert_eq!(self::error(Some(&settings()), error), expected);
    }

    #[test]
    fn what_takes_long_is_what_has_many_bytes_for_its_secrets() {
        let bytes =
            |length| Piece::Printed { stream: OutputStream::Stdout, bytes: vec![0; length] };
        let report_of = |pieces| Report {
            output: GuestOutput { pieces, dropped_bytes: 0 },
            failure: None,
            cancelled: false,
            reused: false,
            cpu: Duration::ZERO,
            memory_bytes: 0,
        };
        let is_long = |pieces| self::is_long(Some(&settings()), &report_of(pieces));
        assert!(!is_long(vec![bytes(LONG - PIECE)]) && is_long(vec![bytes(LONG)]));
        assert!(is_long((0..=LONG / PIECE).map(|_| bytes(0)).collect()));
        assert!(!self::is_long(None, &report_of(vec![bytes(2 * LONG)])), "without secrets");
        assert!(!self::is_long(Some(&Settings::default()), &report_of(vec![bytes(2 * LONG)])));
    }

    #[test]
    fn callers_are_told_no_secret_and_everything_else() {
        let told = format!("it is {VALUE}");
        for (error, expected) in errors(&told).into_iter().zip(errors("it is [secret password]")) {
            assert_eq!(self::error(Some(&settings()), error), expected);
        }
        let [error, ..] = errors(&told);
        assert_eq!(self::error(None, error.clone()), error);
        assert_eq!(
            self::error(Some(&settings()), InvokeError::NoResponse),
            InvokeError::NoResponse
        );
    }
}
