//! The header `Prefer` (RFC 7240), as far as it concerns when a request is carried out.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(super) const RESPOND_ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// Whether the client would rather not wait for the answer. What else it prefers is none of the
/// server's business (section 2: what is not understood is ignored).
pub(super) fn is_async(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).iter().flat_map(|value| {
        value.as_bytes().split(|byte| *byte == b',').map(|preference| {
            let end = preference.iter().position(|byte| matches!(byte, b';' | b'='));
            preference[..end.unwrap_or(preference.len())].trim_ascii()
        })
    });
    preferences.into_iter().any(|name| name.eq_ignore_ascii_case(RESPOND_ASYNC.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        let cases: [(&[&str], bool); 12] = [
            (&[], false),
            (&["respond-async"], true),
            (&["Respond-Async"], true),
            (&["respond-async, wait=10"], true),
            (&["wait=10,respond-async"], true),
            (&["return=minimal", " respond-async ; x=1"], true),
            (&["respond-async="], true),
            (&["return=minimal"], false),
            (&["respond-asynchronously"], false),
            (&["x=respond-async"], false),
            (&["wait=10; respond-async"], false),
            (&[""], false),
        ];
        for (values, expected) in cases {
            let values = values.iter().map(|value| (PREFER, value.parse().expect("a value")));
            let headers: HeaderMap = values.collect();
            assert_eq!(is_async(&headers), expected, "{headers:?}");
        }
    }
}
