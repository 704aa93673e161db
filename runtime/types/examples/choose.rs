//! Prints how long choosing the version of a request takes on this machine, per call: the median of
//! many rounds. A name whose live version answers everything is the one to compare with.
//!
//!     cargo run --release --workspace --example choose

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue};
use quern_types::{
    Choice, Deployed, Digest, InvocationId, Routing, Selector, Shadow, Share, Shares, Sticky,
    Traffic, Version, VersionNumber,
};

const ROUNDS: usize = 2_001;
const CALLS: u32 = 200;

fn main() {
    let split = |shares: &[(u32, u8)], sticky, shadow| {
        let share =
            |(version, percent): &(u32, u8)| Share { version: number(*version), percent: *percent };
        let shares = Shares::new(shares.iter().map(share).collect()).expect("they add up to 100");
        let traffic = Traffic { shares: Some(shares), sticky, shadow };
        Routing { traffic, ..Routing::default() }
    };
    let header = Sticky::header("x-user").expect("a header");
    let cookie = Sticky::cookie("session").expect("a cookie");
    let shadow = Some(Shadow { version: number(3), percent: 10 });
    let eight: Vec<_> =
        (1..=8).map(|version| (version, if version < 8 { 12 } else { 16 })).collect();
    let stable = Routing {
        aliases: BTreeMap::from([("stable".parse().expect("a name"), number(1))]),
        ..Routing::default()
    };
    let by_alias = Some(Selector::Alias("stable".parse().expect("a name")));
    for (name, routing, selector) in [
        ("without a split", Routing::default(), None),
        ("by an alias", stable, by_alias),
        ("90 % and 10 %", split(&[(1, 90), (2, 10)], None, None), None),
        ("8 versions", split(&eight, None, None), None),
        ("sticky by a header", split(&[(1, 90), (2, 10)], Some(header), None), None),
        ("sticky by a cookie", split(&[(1, 90), (2, 10)], Some(cookie), None), None),
        ("with a shadow", split(&[(1, 90), (2, 10)], None, shadow), None),
    ] {
        println!("{name}: {} ns", median_ns(routing, selector.as_ref()));
    }
}

/// The time of one call, of many rounds of calls.
fn median_ns(routing: Routing, selector: Option<&Selector>) -> u128 {
    let version = |number| {
        Arc::new(Version {
            number,
            digest: Digest::of(b"version"),
            content: Digest::of(b"content"),
            spec: Arc::new(()),
            created: std::time::SystemTime::UNIX_EPOCH,
        })
    };
    let versions = (1..=8).map(|one| (number(one), version(number(one)))).collect();
    let deployed = Deployed::new(versions, number(1)).expect("the live one is there");
    let deployed = deployed.with_routing(routing).expect("all are there");
    let name = "digits".parse().expect("a name");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "example.com"),
        ("user-agent", "curl/8.5.0"),
        ("x-user", "4a0c5f0e-8a51-4cb7-9c0d-8f5c24a2a6e1"),
        ("cookie", "theme=dark; session=4a0c5f0e-8a51-4cb7-9c0d-8f5c24a2a6e1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|round| {
            let start = Instant::now();
            for call in 0..CALLS {
                let id = uuid::Uuid::from_u64_pair(round as u64, call.into());
                let id = InvocationId::from_uuid(id);
                let choice = Choice { selector, headers: &headers, id };
                let picked = black_box(&deployed).pick(&name, black_box(&choice));
                black_box(picked.expect("a version"));
            }
            start.elapsed() / CALLS
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2].as_nanos()
}

fn number(number: u32) -> VersionNumber {
    VersionNumber::new(number).expect("not zero")
}
