//! What all spans of a server have in common: pairs as OTEL_RESOURCE_ATTRIBUTES has them.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// Attributes of the server, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceAttributes(pub(crate) Vec<(String, String)>);

/// A text is none of attributes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pair:?} is not of the form key=value: write key=value,key=value, percent-encoded")]
pub struct InvalidAttributes {
    pair: String,
}

impl FromStr for ResourceAttributes {
    type Err = InvalidAttributes;

    fn from_str(text: &str) -> Result<Self, InvalidAttributes> {
        pairs(text).map(Self)
    }
}

/// The pairs of a list such as `a=1,b=2`, whose keys and values are percent-encoded.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, InvalidAttributes> {
    let list = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    list.map(|pair| {
        let decode = |text: &str| {
            let decoded = percent_decode_str(text.trim()).decode_utf8().ok()?;
            Some(decoded.into_owned())
        };
        let parts = pair.split_once('=');
        let parts = parts.and_then(|(key, value)| Some((decode(key)?, decode(value)?)));
        let shown = || InvalidAttributes { pair: pair.chars().take(80).collect() };
        parts.filter(|(key, _)| !key.is_empty()).ok_or_else(shown)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_pairs() {
        let parsed: ResourceAttributes = "a=1, b.c = x%20y%2C ,,d=".parse().expect("pairs");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parsed.0, [pair("a", "1"), pair("b.c", "x y,"), pair("d", "")]);
        assert_eq!("".parse(), Ok(ResourceAttributes::default()));
        for text in ["a", "=1", "a=%ff", "a=1,b"] {
            assert!(text.parse::<ResourceAttributes>().is_err(), "{text}");
        }
    }
}
