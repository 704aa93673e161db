//! Where work stands in a trace, as headers say it (W3C Trace Context, level 1). What is malformed
//! counts as absent, as the specification wants it; it is never an error.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The header that names the span which a request is part of.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which systems on the way keep what they know of a trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00; later versions may have more behind a hyphen.
const PARENT_BYTES: usize = 55;
/// Bytes of a `tracestate` that is passed on; a longer one is left out.
const MOST_STATE_BYTES: usize = 512;
/// Entries that a `tracestate` may have.
const MOST_STATE_ENTRIES: usize = 32;
/// Bytes of a key or a value in it.
const MOST_ENTRY_BYTES: usize = 256;
const SAMPLED: u8 = 1;

/// Names a trace; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// Names a span of a trace; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// A text is no [`TraceId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace is named by 32 digits of 0-9 and a-f that are not all 0")]
pub struct InvalidTraceId;

/// A span, and what those who come after it are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
    /// What other systems keep of the trace, passed on as it came.
    pub state: Option<Arc<str>>,
}

impl TraceId {
    /// The trace of these bits; none for zero.
    pub fn new(bits: u128) -> Option<Self> {
        NonZeroU128::new(bits).map(Self)
    }

    /// Its bits.
    pub fn get(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// The span of these bits; none for zero.
    pub fn new(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// Its bits.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, InvalidTraceId> {
        let bits = hex(text.as_bytes()).filter(|_| text.len() == 32);
        bits.and_then(Self::new).ok_or(InvalidTraceId)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl TraceContext {
    /// What the headers of a request say, if they say it well.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?;
        if parents.next().is_some() {
            return None;
        }
        let context = Self::parse(parent.as_bytes())?;
        Some(Self { state: state(headers), ..context })
    }

    /// Puts it into the headers of a request, in place of what they say.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.header());
        let state = self.state.as_deref().and_then(|state| HeaderValue::from_str(state).ok());
        match state {
            Some(state) => headers.insert(TRACESTATE, state),
            None => headers.remove(TRACESTATE),
        };
    }

    /// As the value of a `traceparent`.
    pub fn header(&self) -> HeaderValue {
        let Self { trace, span, sampled, .. } = self;
        let text = format!("00-{trace}-{span}-{:02x}", u8::from(*sampled));
        HeaderValue::try_from(text).expect("hex digits and hyphens")
    }

    fn parse(parent: &[u8]) -> Option<Self> {
        let (known, later) = parent.split_at_checked(PARENT_BYTES)?;
        if [2, 35, 52].into_iter().any(|hyphen| known[hyphen] != b'-') {
            return None;
        }
        match (hex(&known[..2])?, later.first()) {
            (0xff, _) | (0, Some(_)) => return None,
            (_, None | Some(b'-')) => {}
            (_, Some(_)) => return None,
        }
        let trace = TraceId::new(hex(&known[3..35])?)?;
        let span = SpanId::new(u64::try_from(hex(&known[36..52])?).ok()?)?;
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        Some(Self { trace, span, sampled: flags & SAMPLED != 0, state: None })
    }
}

/// The value of digits, of which the specification allows no capitals.
fn hex(digits: &[u8]) -> Option<u128> {
    if digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// The entries of all `tracestate` headers; none if there are none, or one of them is malformed.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut entries: Vec<(&str, &str)> = Vec::new();
    for header in headers.get_all(TRACESTATE) {
        let list = header.to_str().ok()?.split(',');
        for entry in list.map(|entry| entry.trim_matches([' ', '\t'])) {
            if entry.is_empty() {
                continue;
            }
            let (key, value) = entry.split_once('=')?;
            let is_new = entries.iter().all(|(known, _)| *known != key);
            if !is_new || !is_key(key) || !is_value(value) || entries.len() == MOST_STATE_ENTRIES {
                return None;
            }
            entries.push((key, value));
        }
    }
    let all = entries.iter().map(|(key, value)| format!("{key}={value}"));
    let all = all.collect::<Vec<_>>().join(",");
    (!all.is_empty() && all.len() <= MOST_STATE_BYTES).then(|| all.into())
}

fn is_key(key: &str) -> bool {
    let begins = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    begins && key.len() <= MOST_ENTRY_BYTES && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    !value.is_empty() && value.len() <= MOST_ENTRY_BYTES && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        let parents = parents.iter().map(|parent| (TRACEPARENT, *parent));
        let states = states.iter().map(|state| (TRACESTATE, *state));
        let mut headers = HeaderMap::new();
        for (name, value) in parents.chain(states) {
            headers.append(name, value.parse().expect("a value"));
        }
        TraceContext::of(&headers)
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = of(&[PARENT], &[]).expect("well-formed");
        assert_eq!(context.trace.to_string(), TRACE);
        assert_eq!(context.span.to_string(), "b7ad6b7169203331");
        assert!(context.sampled);
        assert_eq!(context.header(), PARENT);
        for (flags, sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let parent = format!("{}{flags}", &PARENT[..53]);
            assert_eq!(of(&[&parent], &[]).expect("well-formed").sampled, sampled, "{flags}");
        }
        let later = format!("cc{}", &PARENT[2..]);
        for parent in [later.clone(), format!("{later}-what-comes")] {
            assert_eq!(of(&[&parent], &[]), Some(context.clone()), "{parent}");
        }
    }

    #[test]
    fn a_malformed_traceparent_counts_as_absent() {
        let cases = [
            String::new(),
            "00".into(),
            PARENT[..54].into(),
            format!("{PARENT}-"),
            format!("{PARENT}1"),
            format!("cc{}.x", &PARENT[2..]),
            format!("ff{}", &PARENT[2..]),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            PARENT.replace(TRACE, &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace("0af7", "0ag7"),
            format!("0x{}", &PARENT[2..]),
        ];
        for parent in cases {
            assert_eq!(of(&[&parent], &["a=b"]), None, "{parent:?}");
        }
        assert_eq!(of(&[PARENT, PARENT], &[]), None, "two of them");
        assert_eq!(of(&[], &["a=b"]), None, "a state of nothing");
    }

    #[test]
    fn a_tracestate_is_passed_on_if_it_is_well_formed() {
        let state = |states: &[&str]| {
            of(&[PARENT], states).expect("a parent").state.map(|state| state.to_string())
        };
        assert_eq!(state(&["a=1, b@c=2 ", "", "d/e=x y,,"]).as_deref(), Some("a=1,b@c=2,d/e=x y"));
        let entries = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(state(&[&entries(32)]), Some(entries(32)));
        let long = format!("a={}", "x".repeat(256));
        assert_eq!(state(&[&long]), Some(long.clone()));
        let too_long = [&*long, &long.replace("a=", "b=")];
        for states in [
            &[][..],
            &[""],
            &["a"],
            &["a="],
            &["A=1"],
            &["=1"],
            &["a=1=2"],
            &["a=1,a=2"],
            &["a b=1"],
            &[&entries(33)],
            &[&format!("{long}x")],
            &too_long,
        ] {
            assert_eq!(state(states), None, "{states:?}");
        }
    }

    #[test]
    fn headers_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static("old"));
        headers.append(TRACESTATE, HeaderValue::from_static("old=1"));
        let context = of(&[PARENT], &["new=1"]).expect("well-formed");
        context.write(&mut headers);
        assert_eq!(TraceContext::of(&headers), Some(context.clone()));
        TraceContext { state: None, ..context }.write(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_trace_has_32_digits() {
        assert_eq!(TRACE.parse::<TraceId>().expect("an id").to_string(), TRACE);
        for text in ["", "0", &TRACE[1..], &"0".repeat(32), &TRACE.to_uppercase()] {
            assert_eq!(text.parse::<TraceId>(), Err(InvalidTraceId), "{text:?}");
        }
    }
}
