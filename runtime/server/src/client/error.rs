//! Why a request to the server has no usable answer, and what to do about it.

use std::path::PathBuf;

use http::StatusCode;
use serde::Deserialize;

/// What a server says when it refuses or fails a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// The code of the error, as in the list of docs/api.md; none if it came from elsewhere.
    pub(crate) code: Option<String>,
    /// What is wrong.
    pub(crate) detail: String,
}

#[derive(Deserialize)]
struct ProblemBody {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    /// The Open Inference Protocol's only field.
    error: Option<String>,
}

impl Problem {
    /// Reads the body of an answer that is no success: problem JSON, the protocol's error
    /// object, or whatever something between here and the server has written.
    pub(crate) fn read(status: StatusCode, code: Option<&str>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let parsed = serde_json::from_slice::<ProblemBody>(body).ok();
        let (said, in_body) = match parsed {
            Some(body) => (body.detail.or(body.error).or(body.title), body.code),
            None => (Some(text.trim().chars().take(500).collect()), None),
        };
        let detail = match said {
            Some(said) if !said.is_empty() => said,
            _ => format!("the server answered {status}"),
        };
        Self { status, code: code.map(str::to_owned).or(in_body), detail }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no server answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{}", .0.detail)]
    Refused(Problem),
    #[error("connection to {url} broke off: {reason}")]
    Broken { url: String, reason: String },
    #[error("answer of {url} is not understood: {reason}")]
    NotUnderstood { url: String, reason: String },
    #[error("can't read {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
}

impl ClientError {
    /// The code of an error that the server answered.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => problem.code.as_deref(),
            _ => None,
        }
    }

    /// Whether the server says that the thing asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == StatusCode::NOT_FOUND)
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreachable { reason, .. } if reason.contains("peer certificate") => {
                "name the certificates that the server may be known by: --ca-file or QUERN_CA_FILE"
            }
            Self::Unreachable { .. } => {
                "start one with: quern serve (or name another with --url or QUERN_URL)"
            }
            Self::Broken { .. } => "see the server's log; if it still runs, try again",
            Self::NotUnderstood { .. } => "is this a Quern server, and of this version?",
            Self::File { .. } => return None,
            Self::Refused(problem) => next_step(problem.code.as_deref()?)?,
        };
        Some(hint.to_owned())
    }
}

/// What to do about an error by its code; none where its message says it already.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid-manifest" => "docs/api.md and `quern new` show what a manifest may contain",
        "not-a-component" => "build for wasm32-wasip2, as `quern deploy DIR` does",
        "missing-grant" => "add it to [grants] in quern.toml, and deploy again",
        "name-taken" => "choose another name, or remove the other one with: quern delete",
        "no-previous-version" => "see which versions are kept with: quern versions NAME",
        "not-found" => "see what is deployed with: quern list",
        "wrong-kind" => "http functions answer to: quern call; inference functions to: quern infer",
        "upload-too-large" => "start the server with a larger --max-upload",
        "engine-absent" => {
            "give the server its library (make ort, or quern serve --ort-library), or deploy the \
             model again with another --engine"
        }
        "trap" | "timeout" | "cpu-time-exceeded" | "out-of-memory" | "no-response" => {
            "see what it printed with: quern logs NAME"
        }
        "busy" | "device-lost" => "try again in a moment",
        "internal" => "see the server's log",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_read_in_every_form() {
        let cases: [(&[u8], Option<&str>, &str); 5] = [
            (br#"{"title":"Conflict","detail":"taken","code":"name-taken"}"#, None, "taken"),
            (br#"{"error":"input \"x\" is missing"}"#, Some("c"), "input \"x\" is missing"),
            (br#"{"title":"Conflict"}"#, None, "Conflict"),
            (b"<html>bad gateway</html>", None, "<html>bad gateway</html>"),
            (b"", None, "the server answered 409 Conflict"),
        ];
        for (body, code, detail) in cases {
            let problem = Problem::read(StatusCode::CONFLICT, code, body);
            assert_eq!(problem.detail, detail);
        }
    }

    #[test]
    fn the_header_or_the_body_names_the_code() {
        let body = br#"{"detail":"taken","code":"name-taken"}"#;
        for header in [None, Some("name-taken")] {
            let problem = Problem::read(StatusCode::CONFLICT, header, body);
            assert_eq!(problem.code.as_deref(), Some("name-taken"));
        }
    }

    #[test]
    fn errors_say_what_to_do_next() {
        let unreachable = ClientError::Unreachable { url: "u".into(), reason: "r".into() };
        assert!(unreachable.hint().expect("a hint").contains("quern serve"));
        let reason = "invalid peer certificate: UnknownIssuer".into();
        let unknown = ClientError::Unreachable { url: "u".into(), reason };
        assert!(unknown.hint().expect("a hint").contains("--ca-file"));
        let problem =
            Problem::read(StatusCode::NOT_FOUND, Some("not-found"), br#"{"detail":"no"}"#);
        let refused = ClientError::Refused(problem);
        assert!(refused.is_not_found());
        assert!(refused.hint().expect("a hint").contains("quern list"));
    }
}
