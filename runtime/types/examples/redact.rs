//! Prints how long it takes on this machine to look for as many secrets as a function may have in as
//! much as one request may have kept of what it printed, for texts that are made to take long.
//!
//!     cargo run --release --package quern-types --example redact

use std::time::{Instant, SystemTime};

use quern_types::{Secret, SecretValue, Settings};

/// Most that `limits.log` can be.
const PRINTED: usize = 16 << 20;

/// The values of secrets, by their numbers.
type Values<'v> = &'v dyn Fn(usize) -> String;

fn main() {
    let numbered = |number: usize| format!("{number:06}");
    let long = |number: usize| format!("{}{number:02}", "a".repeat(16_000));
    let steep = |number: usize| format!("{}b{}", "a".repeat(number + 8), "a".repeat(8));
    let cases: [(_, Values<'_>, _); 5] = [
        ("nothing of them, in random text", &numbered, random()),
        ("long ones that begin everywhere", &long, vec![b'a'; PRINTED]),
        ("short ones that almost stand everywhere", &steep, vec![b'a'; PRINTED]),
        ("one after the other", &numbered, repeated(b"000000000001000002")),
        ("within each other", &|number| "a".repeat(number + 6), vec![b'a'; PRINTED]),
    ];
    for (case, value, text) in cases {
        let settings = settings(value);
        let begun = Instant::now();
        let found = settings.redactor().redact(&text, true).is_some();
        println!("{case}: {:?}, found: {found}", begun.elapsed());
    }
    // Log messages of a few bytes: as many as are kept.
    let settings = settings(long);
    let (redactor, begun) = (settings.redactor(), Instant::now());
    for _ in 0..PRINTED / 64 {
        assert!(redactor.redact(b"a message", false).is_none());
    }
    println!("in pieces of a few bytes: {:?}", begun.elapsed());
}

fn settings(value: impl Fn(usize) -> String) -> Settings {
    let mut settings = Settings::default();
    for number in 0..Settings::MAX_SECRETS {
        let value = SecretValue::new(value(number)).ok();
        let secret = Secret { value, changed: SystemTime::UNIX_EPOCH };
        settings.secrets.insert(format!("KEY_{number}").parse().expect("a key"), secret);
    }
    settings
}

fn random() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'0' + (state >> 33) as u8 % 75
    };
    (0..PRINTED).map(|_| next()).collect()
}

fn repeated(text: &[u8]) -> Vec<u8> {
    text.iter().copied().cycle().take(PRINTED).collect()
}
