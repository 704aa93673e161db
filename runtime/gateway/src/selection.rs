//! Which version a request asks for by its headers. Never knows which versions there are.

use http::{HeaderMap, HeaderName};
use quern_types::{InvalidSelector, Selector, VersionNumber};

/// The header that names a version; in an answer, the one that gave it.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("quern-version");

/// Why headers name no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectionError {
    /// It is there twice, or no text.
    #[error("header quern-version is not one version")]
    Header,
    /// It names none.
    #[error("header quern-version: {0}")]
    Selector(#[from] InvalidSelector),
    /// The path names another one.
    #[error("header quern-version asks for {header}, the path for version {path}: leave one out")]
    Mismatch {
        /// What the header asks for.
        header: Selector,
        /// What the path, or the message, asks for.
        path: VersionNumber,
    },
}

/// What a request asks for, in its headers or its path; none if it leaves the choice to the traffic.
pub(crate) fn selector(
    headers: &HeaderMap,
    path: Option<VersionNumber>,
) -> Result<Option<Selector>, SelectionError> {
    let mut values = headers.get_all(VERSION).iter();
    let Some(value) = values.next() else { return Ok(path.map(Selector::Number)) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let header: Selector = text.ok_or(SelectionError::Header)?.trim().parse()?;
    match path {
        Some(path) if header != Selector::Number(path) => {
            Err(SelectionError::Mismatch { header, path })
        }
        _ => Ok(Some(header)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str], path: Option<u32>) -> Result<Option<Selector>, String> {
        let value = |value: &&str| {
            (VERSION, http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        };
        let headers = values.iter().map(value).collect();
        selector(&headers, path.and_then(VersionNumber::new)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_version_is_asked_for_in_the_header_or_the_path() {
        let number = |number| Some(Selector::Number(VersionNumber::new(number).expect("not zero")));
        let alias = Some(Selector::Alias("stable".parse().expect("a name")));
        for (values, path, asked) in [
            (&[][..], None, None),
            (&[], Some(3), number(3)),
            (&["3"], None, number(3)),
            (&[" 3 "], Some(3), number(3)),
            (&["stable"], None, alias),
            (&["live"], None, Some(Selector::Live)),
        ] {
            assert_eq!(of(values, path), Ok(asked), "{values:?} {path:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_version_is_said() {
        for (values, path, message) in [
            (&["3", "3"][..], None, "header quern-version is not one version"),
            (&["é"], None, "header quern-version is not one version"),
            (&[""], None, "header quern-version: \"\" names no version"),
            (&["V1"], None, "header quern-version: \"V1\" names no version"),
            (&["0"], None, "header quern-version: \"0\" names no version"),
            (&["2"], Some(3), "asks for 2, the path for version 3: leave one out"),
            (&["stable"], Some(3), "asks for stable, the path for version 3: leave one out"),
        ] {
            let error = of(values, path).expect_err(message);
            assert!(error.contains(message), "{error}");
        }
    }
}
