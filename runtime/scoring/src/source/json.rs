//! JSON as rows have it: the members of an object, and what stands in them. Numbers keep their text,
//! so that they become elements without a detour.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::value::Value;

/// Deepest nesting of lists; no tensor has more dimensions that anybody uses.
const DEEPEST: usize = 16;

/// The members of an object, each with the text of its value.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) HashMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = HashMap::new();
                while let Some(Key(key)) = map.next_key()? {
                    if members.contains_key(&key) {
                        let key: String = key.chars().take(80).collect();
                        return Err(A::Error::custom(format!("{key:?} is there twice")));
                    }
                    members.insert(key, map.next_value()?);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(PartialEq, Eq, Hash, Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// What a text of JSON is.
pub(crate) fn parse(text: &str) -> Result<Value<'_>, String> {
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| format!("is no list of JSON: {error}"))?;
    value(raw.get(), 0)
}

/// What the text of a value is.
pub(crate) fn value(text: &str, depth: usize) -> Result<Value<'_>, String> {
    let broken = |error: serde_json::Error| format!("is no JSON: {error}");
    Ok(match text.as_bytes().first() {
        Some(b'[') if depth == DEEPEST => return Err(format!("is nested deeper than {DEEPEST}")),
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
            let inner = values.into_iter().map(|raw| value(raw.get(), depth + 1));
            Value::List(inner.collect::<Result<_, _>>()?)
        }
        Some(b'{') => return Err("is an object".into()),
        Some(b'"') => Value::Text(Cow::Owned(serde_json::from_str(text).map_err(broken)?)),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let number = Value::Number;
        for (text, expected) in [
            (" -1.5e3 ", number("-1.5e3")),
            ("\"a\\n\\u00e9\"", Value::Text("a\né".into())),
            ("true", Value::Bool(true)),
            ("null", Value::Null),
            ("[1, [2]]", Value::List(vec![number("1"), Value::List(vec![number("2")])])),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for bad in ["", "[1", "1 2", "{\"a\": 1}", "[01]", "nan"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_going_down() {
        let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        let refused = parse(&deep).expect_err("deep");
        assert!(refused.contains("deep") || refused.contains("recursion"), "{refused}");
    }

    #[test]
    fn no_member_stands_twice() {
        let members: Members<'_> = serde_json::from_str(r#"{"a": [1], "b\n": 2}"#).expect("fine");
        assert_eq!((members.0["a"].get(), members.0["b\n"].get()), ("[1]", "2"));
        let twice = serde_json::from_str::<Members<'_>>(r#"{"a": 1, "\u0061": 2}"#);
        assert!(twice.expect_err("twice").to_string().contains("\"a\" is there twice"));
    }
}
