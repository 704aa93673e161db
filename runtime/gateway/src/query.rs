//! Queries of requests, read into what an operation takes. Strict: a key that is unknown, given
//! twice, or not of its type is an error that names it.

use std::{borrow::Cow, collections::HashSet};

use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor,
        value::{Error, StrDeserializer},
    },
    forward_to_deserialize_any,
};

/// Longest part of a caller's text in a message, in characters.
const SHOWN: usize = 80;

/// Why a query is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// A key stands there more than once.
    #[error("query parameter {key:?} is given more than once")]
    Repeated {
        /// The key.
        key: String,
    },
    /// What a key or a value is once it is decoded.
    #[error("query parameter {key:?} is not UTF-8 once it is decoded")]
    NotText {
        /// The key, as it came.
        key: String,
    },
    /// A value is none of its type.
    #[error("query parameter {key:?}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A key is unknown, or missing.
    #[error("query: {problem}")]
    Key {
        /// What is wrong; it names the key.
        problem: String,
    },
}

/// What an operation takes that takes no query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Reads a query. `Query` is a struct of numbers, booleans and texts, and refuses what it does not
/// know.
pub(crate) fn parse<Query: DeserializeOwned>(query: Option<&str>) -> Result<Query, QueryError> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(decode).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::with_capacity(pairs.len());
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !seen.insert(key)) {
        return Err(QueryError::Repeated { key: shown(key) });
    }
    let mut pairs = Pairs { rest: pairs.into_iter(), value: None, wrong: None };
    let parsed = Query::deserialize(&mut pairs);
    parsed.map_err(|error| {
        let problem = shown(&error.to_string());
        match pairs.wrong {
            Some(key) => QueryError::Value { key: shown(&key), problem },
            None => QueryError::Key { problem },
        }
    })
}

/// Refuses a query where an operation takes none.
pub(crate) fn refuse(query: Option<&str>) -> Result<(), QueryError> {
    parse::<Nothing>(query).map(drop)
}

fn decode(pair: &str) -> Result<(Cow<'_, str>, Cow<'_, str>), QueryError> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let text = |text| percent_decode_str(text).decode_utf8();
    match (text(key), text(value)) {
        (Ok(key), Ok(value)) => Ok((key, value)),
        _ => Err(QueryError::NotText { key: shown(key) }),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The pairs of a query, as a map whose keys are known to differ.
struct Pairs<'q, Rest> {
    rest: Rest,
    /// The value whose key was read.
    value: Option<(Cow<'q, str>, Cow<'q, str>)>,
    /// The key whose value is none of its type.
    wrong: Option<String>,
}

type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

impl<'de, 'q, Rest: Iterator<Item = Pair<'q>>> Deserializer<'de> for &mut Pairs<'q, Rest> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, 'q, Rest: Iterator<Item = Pair<'q>>> MapAccess<'de> for &mut Pairs<'q, Rest> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.rest.next();
        let Some((key, _)) = &self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = key.as_ref().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().ok_or_else(|| Error::custom("no key was read"))?;
        let parsed = seed.deserialize(Text(&value));
        if parsed.is_err() {
            self.wrong = Some(key.into_owned());
        }
        parsed
    }
}

/// A value, which is whatever is asked of it if it looks like it.
struct Text<'t>(&'t str);

/// Numbers and booleans are what their parsers take.
macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let parsed: Result<$type, _> = self.0.parse();
            let wrong = |_| Error::custom(format_args!("{:?} is {}", shown(self.0), $what));
            visitor.$visit(parsed.map_err(wrong)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool bool, "neither true nor false";
        deserialize_u8 visit_u8 u8, "not a number that fits here";
        deserialize_u16 visit_u16 u16, "not a number that fits here";
        deserialize_u32 visit_u32 u32, "not a number that fits here";
        deserialize_u64 visit_u64 u64, "not a number that fits here";
        deserialize_i32 visit_i32 i32, "not a number that fits here";
        deserialize_i64 visit_i64 i64, "not a number that fits here";
        deserialize_f64 visit_f64 f64, "not a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StrDeserializer<'_, Error> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

/// A number within bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Between<const LEAST: u64, const MOST: u64>(u64);

impl<const LEAST: u64, const MOST: u64> Between<LEAST, MOST> {
    /// This number. Does not compile outside of its bounds where it is a constant.
    pub(crate) const fn new(number: u64) -> Self {
        assert!(LEAST <= number && number <= MOST, "out of bounds");
        Self(number)
    }

    pub(crate) fn get(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Between<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        match (LEAST..=MOST).contains(&number) {
            true => Ok(Self(number)),
            false => Err(de::Error::custom(format_args!("{number} is not {LEAST} to {MOST}"))),
        }
    }
}

impl<const LEAST: u64, const MOST: u64> serde::Serialize for Between<LEAST, MOST> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<const LEAST: u64, const MOST: u64> JsonSchema for Between<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Between{LEAST}And{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    }
}

#[cfg(test)]
mod tests {
    use quern_types::Name;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[serde(default = "ten")]
        limit: Between<1, 20>,
        before: Option<u64>,
        #[serde(default)]
        follow: bool,
        tenant: Option<Name>,
    }

    fn ten() -> Between<1, 20> {
        Between::new(10)
    }

    #[test]
    fn a_query_is_what_its_keys_say() {
        let nothing = Query { limit: ten(), before: None, follow: false, tenant: None };
        for query in [None, Some(""), Some("&&")] {
            assert_eq!(parse::<Query>(query).expect("nothing"), nothing, "{query:?}");
        }
        let parsed: Query = parse(Some("limit=20&follow=true&before=7&tenant=%61b&")).expect("all");
        assert_eq!((parsed.limit.get(), parsed.before, parsed.follow), (20, Some(7), true));
        assert_eq!(parsed.tenant.expect("a name").as_str(), "ab");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, message) in [
            ("limit=0", "query parameter \"limit\": 0 is not 1 to 20"),
            ("limit=x", "query parameter \"limit\": \"x\" is not a number that fits here"),
            ("limit", "query parameter \"limit\": \"\" is not a number that fits here"),
            ("before=-1", "query parameter \"before\": \"-1\" is not a number that fits here"),
            ("follow=yes", "query parameter \"follow\": \"yes\" is neither true nor false"),
            ("follow=true&follow=true", "query parameter \"follow\" is given more than once"),
            ("limit=1&limi%74=1", "query parameter \"limit\" is given more than once"),
            ("tenant=%ff", "query parameter \"tenant\" is not UTF-8 once it is decoded"),
        ] {
            assert_eq!(parse::<Query>(Some(query)).expect_err(query).to_string(), message);
        }
        for (query, part) in [("since=1", "unknown field `since`"), ("tenant=A", "name \"A\"")] {
            let error = parse::<Query>(Some(query)).expect_err(query).to_string();
            assert!(error.contains(part), "{error}");
        }
        let long = format!("{}=1", "x".repeat(1_000));
        assert!(parse::<Query>(Some(&long)).expect_err("unknown").to_string().len() < 200);
    }

    #[test]
    fn where_nothing_is_taken_anything_is_refused() {
        assert_eq!(refuse(None), Ok(()));
        assert_eq!(refuse(Some("")), Ok(()));
        assert!(refuse(Some("x=1")).expect_err("a key").to_string().contains("`x`"));
    }
}
