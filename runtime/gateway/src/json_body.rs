//! Bodies of requests that are JSON of a known form: read within a limit, and refused with the name
//! of the field that is wrong.

use quern_types::ByteSize;
use serde::de::DeserializeOwned;

use crate::{
    Gateway,
    body::RequestBody,
    errors::{Code, Failure},
};

/// What a body is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Most bytes that it has.
    pub(crate) limit: ByteSize,
    /// What one looks like, for whoever sends something else.
    pub(crate) example: &'static str,
}

impl Form {
    /// Reads a body of this form.
    pub(crate) async fn read<Content: DeserializeOwned>(
        self,
        gateway: &Gateway,
        body: RequestBody,
    ) -> Result<Content, Failure> {
        let body = body.collect(self.limit, &gateway.body_room).await?;
        self.parse(&body)
    }

    /// The same, where there may be no body at all.
    pub(crate) async fn read_if_any<Content: DeserializeOwned + Default>(
        self,
        gateway: &Gateway,
        body: RequestBody,
    ) -> Result<Content, Failure> {
        let body = body.collect(self.limit, &gateway.body_room).await?;
        if body.is_empty() { Ok(Content::default()) } else { self.parse(&body) }
    }

    fn parse<Content: DeserializeOwned>(self, body: &[u8]) -> Result<Content, Failure> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = match error.path().to_string() {
                path if path == "." => String::new(),
                path => format!("field {:?}: ", shown(&path)),
            };
            self.refuse(&format!("{field}{}", error.into_inner()))
        })?;
        json.end().map_err(|error| self.refuse(&error.to_string()))?;
        Ok(parsed)
    }

    fn refuse(self, problem: &str) -> Failure {
        let detail = format!("body is not of the form {}: {}", self.example, shown(problem));
        Failure::new(Code::InvalidJson, detail)
    }
}

/// A message with texts of the caller's in it, cut to a length.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Content {
        #[expect(dead_code, reason = "it is read for its type")]
        parts: Vec<u32>,
    }

    #[test]
    fn what_is_wrong_is_named() {
        let form = Form { limit: ByteSize(100), example: r#"{"parts": [1]}"# };
        assert!(form.parse::<Content>(br#"{"parts": [1, 2]}"#).is_ok());
        let deep = format!("{{\"parts\": {}", "[".repeat(10_000));
        for (body, part) in [
            (r#"{"parts": [1, "x"]}"#, "field \"parts[1]\": invalid type: string \"x\""),
            (r#"{"parts": [1], "more": 1}"#, "unknown field `more`"),
            (r#"{"parts": [1], "parts": [1]}"#, "duplicate field `parts`"),
            ("{}", "missing field `parts`"),
            ("", "EOF"),
            ("[]", "is not of the form {\"parts\": [1]}"),
            (r#"{"parts": []} {}"#, "trailing characters"),
            (&deep, "parts"),
        ] {
            let refused = form.parse::<Content>(body.as_bytes()).expect_err(body);
            assert_eq!(refused.status(), 400, "{body}");
            let detail = refused.into_detail();
            assert!(detail.contains(part), "{detail:?} should contain {part:?}");
            assert!(detail.len() < 800, "{detail}");
        }
    }
}
