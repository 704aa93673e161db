//! Finds the values of secrets in texts that are kept or shown, and puts their keys in their places.
//! It finds what stands there as it was set, and nothing that was encoded or taken apart.

use memchr::memmem;

use super::{SettingKey, Settings};

/// Length of the shortest value that is looked for: shorter ones occur by chance.
const SHORTEST: usize = 6;

/// Bytes by which a text may become longer before keys are left out.
const LONGER: usize = 1 << 10;

/// Finds the values of the secrets of one function; made once for many texts, as values may be long.
#[derive(Debug)]
pub struct Redactor<'s> {
    /// What is looked for, the longest first, so that it is named where it contains another.
    values: Vec<Value<'s>>,
}

#[derive(Debug)]
struct Value<'s> {
    key: &'s SettingKey,
    bytes: &'s [u8],
    finder: memmem::Finder<'s>,
}

impl Settings {
    /// What finds the values of the secrets among these.
    pub fn redactor(&self) -> Redactor<'_> {
        let secrets = self.secrets.iter();
        let values = secrets.filter_map(|(key, secret)| Some((key, secret.value.as_ref()?)));
        let values = values.map(|(key, value)| (key, value.expose().as_bytes()));
        let mut values: Vec<_> = values.filter(|(_, bytes)| bytes.len() >= SHORTEST).collect();
        values.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.len()));
        values.truncate(Settings::MAX_SECRETS);
        let value = |(key, bytes)| Value { key, bytes, finder: memmem::Finder::new(bytes) };
        Redactor { values: values.into_iter().map(value).collect() }
    }
}

impl Redactor<'_> {
    /// The text with `[secret KEY]` in the place of each value; none if there is no value in it.
    /// Of a text that was `cut` at its end, the beginning of a value there is replaced as well.
    pub fn redact(&self, text: &[u8], cut: bool) -> Option<Vec<u8>> {
        let marks = self.mark(text, cut)?;
        let mut redacted = Vec::with_capacity(text.len());
        let mut last = 0;
        for ((place, byte), mark) in text.iter().enumerate().zip(marks) {
            match mark {
                0 => redacted.push(*byte),
                mark if mark == last => {}
                // Many short values with long keys would make much of little.
                _ if redacted.len() > place + LONGER => redacted.extend(b"[secret]"),
                mark => {
                    let Value { key, .. } = &self.values[usize::from(mark) - 1];
                    redacted.extend(format!("[secret {key}]").as_bytes());
                }
            }
            last = mark;
        }
        Some(redacted)
    }

    /// The same of a text that is one.
    pub fn redact_text(&self, text: String, cut: bool) -> String {
        match self.redact(text.as_bytes(), cut) {
            Some(redacted) => String::from_utf8_lossy(&redacted).into_owned(),
            None => text,
        }
    }

    /// For each byte of a text the number of the value that it is of, from 1, or 0; none if all are 0.
    fn mark(&self, text: &[u8], cut: bool) -> Option<Vec<u8>> {
        let mut marks = Vec::new();
        for (value, number) in self.values.iter().zip(1u8..) {
            let mut found = |at: usize, length: usize| {
                if marks.is_empty() {
                    marks = vec![0; text.len()];
                }
                let places = marks[at..at + length].iter_mut();
                places.filter(|mark| **mark == 0).for_each(|mark| *mark = number);
            };
            value.finder.find_iter(text).for_each(|at| found(at, value.bytes.len()));
            if cut
                && let Some(length) =
                    overlap(text, value.bytes).filter(|length| *length >= SHORTEST)
            {
                found(text.len() - length, length);
            }
        }
        (!marks.is_empty()).then_some(marks)
    }
}

/// How much of a value's beginning, but not all of it, stands at the end of a text. In linear time
/// (Knuth, Morris and Pratt), for the guest chooses both.
fn overlap(text: &[u8], value: &[u8]) -> Option<usize> {
    let mut fallback = vec![0; value.len()];
    let follow = |fallback: &[usize], mut length: usize, byte: u8| {
        while length > 0 && byte != value[length] {
            length = fallback[length - 1];
        }
        length + usize::from(byte == value[length])
    };
    for at in 1..value.len() {
        fallback[at] = follow(&fallback, fallback[at - 1], value[at]);
    }
    let tail = &text[(text.len() + 1).saturating_sub(value.len())..];
    let length = tail.iter().fold(0, |length, byte| follow(&fallback, length, *byte));
    Some(length).filter(|length| *length > 0)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Secret, SecretValue};

    fn settings(secrets: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in secrets {
            let value = SecretValue::new((*value).into()).ok();
            let secret = Secret { value, changed: SystemTime::UNIX_EPOCH };
            settings.secrets.insert(key.parse().expect("a key"), secret);
        }
        settings
    }

    #[test]
    fn an_overlap_is_the_longest_proper_beginning_at_the_end() {
        let slowly = |text: &[u8], value: &[u8]| {
            (1..value.len()).rev().find(|length| text.ends_with(&value[..*length]))
        };
        let texts = ["", "a", "aa", "ab", "aab", "abab", "aabaaab", "bbabab", "abcabcab", "caba"];
        for text in texts {
            for value in &texts[1..] {
                let (text, value) = (text.as_bytes(), value.as_bytes());
                assert_eq!(overlap(text, value), slowly(text, value), "{text:?} {value:?}");
            }
        }
    }

    #[test]
    fn values_give_way_to_their_keys() {
        let secrets = [
            ("password", "hunter2"),
            ("long", "hunter2-and-more"),
            ("pin", "1234"),
            ("s", "secret"),
        ];
        let settings = settings(&secrets);
        let cases = [
            ("nothing here", None),
            ("pin 1234 is too short", None),
            ("hunter2", Some("[secret password]")),
            ("a hunter2 b hunter2", Some("a [secret password] b [secret password]")),
            ("hunter2-and-more", Some("[secret long]")),
            ("hunter2-and-mor", Some("[secret password]-and-mor")),
            ("secret hunter2", Some("[secret s] [secret password]")),
            ("hunter2hunter2", Some("[secret password]")),
        ];
        for (text, expected) in cases {
            let redacted = settings.redactor().redact(text.as_bytes(), false);
            let redacted = redacted.map(|text| String::from_utf8(text).expect("text"));
            assert_eq!(redacted.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_that_overlap_leave_nothing_of_each_other() {
        let settings = settings(&[("a", "abcdefgh"), ("b", "efghijk")]);
        let redacted = settings.redactor().redact(b"-abcdefghijk-", false).expect("found");
        assert_eq!(redacted, b"-[secret a][secret b]-");
    }

    #[test]
    fn a_value_that_was_cut_off_is_found_where_the_text_was() {
        let settings = settings(&[("password", "hunter2-and-more")]);
        let redacted = settings.redactor().redact(b"it is hunter2-and", true).expect("found");
        assert_eq!(redacted, b"it is [secret password]");
        assert_eq!(settings.redactor().redact(b"it is hunter2-and", false), None);
        assert_eq!(settings.redactor().redact(b"it is hunte", true), None, "too short to be told");
    }

    #[test]
    fn a_flood_of_values_does_not_become_a_larger_one() {
        let key = "k".repeat(SettingKey::MAX_BYTES);
        let settings = settings(&[(&key, "abcdef")]);
        let text = "abcdef ".repeat(10_000);
        let redacted = settings.redactor().redact(text.as_bytes(), false).expect("found");
        assert!(redacted.len() < 2 * text.len(), "{}", redacted.len());
        assert!(memmem::find(&redacted, b"abcdef").is_none());
    }
}
