//! Shares, what keeps requests together, and what is chosen for them.

use http::HeaderValue;

use super::*;

fn number(number: u32) -> VersionNumber {
    VersionNumber::new(number).expect("not zero")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn shares(shares: &[(u32, u8)]) -> Result<Shares, InvalidTraffic> {
    let share =
        |(version, percent): &(u32, u8)| Share { version: number(*version), percent: *percent };
    Shares::new(shares.iter().map(share).collect())
}

fn id(number: u128) -> InvocationId {
    InvocationId::from_uuid(uuid::Uuid::from_u128(number))
}

fn split(of: &[(u32, u8)], sticky: Option<Sticky>, shadow: Option<(u32, u8)>) -> Routing {
    let shadow = shadow.map(|(version, percent)| Shadow { version: number(version), percent });
    let traffic = Traffic { shares: Some(shares(of).expect("shares")), sticky, shadow };
    Routing { traffic, ..Routing::default() }
}

fn pick(routing: &Routing, headers: &HeaderMap, request: u128) -> Picked {
    let choice = Choice { selector: None, headers, id: id(request) };
    routing.choose(number(1), &name("f"), &choice)
}

#[test]
fn shares_that_are_wrong_are_refused_by_field() {
    let many: Vec<_> = (1..=9).map(|version| (version, 10)).collect();
    for (wrong, message) in [
        (&[][..], "versions: has 0 entries, of 1 to 8"),
        (&many[..], "versions: has 9 entries, of 1 to 8"),
        (&[(1, 90), (2, 0)], "versions[1].percent: is 0, of 1 to 100; leave out what gets nothing"),
        (&[(1, 101)], "versions[0].percent: is 101, of 1 to 100; leave out what gets nothing"),
        (
            &[(1, 50), (2, 20), (1, 30)],
            "versions[2].version: version 1 is named before: give it one share",
        ),
        (&[(1, 90), (2, 9)], "versions: the percentages add up to 99, not to 100"),
        (&[(1, 90), (2, 11)], "versions: the percentages add up to 101, not to 100"),
    ] {
        assert_eq!(shares(wrong).expect_err(message).to_string(), message);
    }
    let sorted = shares(&[(3, 10), (1, 90)]).expect("shares");
    assert_eq!(sorted.iter().map(|share| share.version.get()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(shares(&[(2, 100)]).expect("one").only(), Some(number(2)));
    assert_eq!((sorted.only(), sorted.has(number(3)), sorted.has(number(2))), (None, true, false));
}

#[test]
fn a_shadow_gets_something_and_is_another_version() {
    let with = |percent, version| {
        let shadow = Some(Shadow { version: number(version), percent });
        let shares = Some(shares(&[(1, 100)]).expect("shares"));
        Traffic { shares, sticky: None, shadow }.check().map_err(|error| error.to_string())
    };
    assert_eq!(with(10, 2), Ok(()));
    let itself = "shadow.version: version 1 answers all requests itself";
    assert_eq!(with(10, 1), Err(itself.into()));
    for percent in [0, 101] {
        let refused = with(percent, 2).expect_err("a percentage");
        assert!(refused.starts_with("shadow.percent: "), "{refused}");
    }
}

#[test]
fn requests_spread_as_the_shares_say() {
    let routing = split(&[(1, 70), (2, 25), (3, 5)], None, Some((4, 20)));
    let (mut counts, mut copies) = ([0u32; 4], 0u32);
    for request in 0..100_000 {
        let picked = pick(&routing, &HeaderMap::new(), request);
        assert!(picked.counted && !picked.asked);
        counts[picked.version.get() as usize] += 1;
        copies += u32::from(picked.shadow == Some(number(4)));
    }
    // The same ids always give the same counts; within 0.5 % of all requests of what is asked for.
    for (found, expected) in [(counts[1], 70_000), (counts[2], 25_000), (counts[3], 5_000)] {
        assert!(found.abs_diff(expected) < 500, "{counts:?}");
    }
    assert!(copies.abs_diff(20_000) < 500, "{copies}");
}

#[test]
fn a_growing_share_never_loses_a_request_that_it_had() {
    for (rest, version) in [(1, 2), (2, 1)] {
        let mut had = vec![false; 2_000];
        for percent in 1..=99 {
            let routing = split(&[(rest, 100 - percent), (version, percent)], None, None);
            for (request, had) in had.iter_mut().enumerate() {
                let has = pick(&routing, &HeaderMap::new(), request as u128).version;
                assert!(!*had || has == number(version), "{request} at {percent} %");
                *had = has == number(version);
            }
        }
    }
}

#[test]
fn the_same_header_or_cookie_goes_the_same_way() {
    let shares = &[(1, 50), (2, 50)];
    let by_header = split(shares, Some(Sticky::header("X-User").expect("a name")), None);
    let by_cookie = split(shares, Some(Sticky::cookie("session").expect("a name")), None);
    let mut chosen = [0; 3];
    for user in 0..200 {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(format!("user-{user}")).expect("a value");
        headers.insert("x-user", value);
        let cookie = format!("a=b; session=user-{user}; c");
        headers.append("cookie", HeaderValue::from_static("x=session"));
        headers.append("cookie", HeaderValue::try_from(cookie).expect("a value"));
        let first = pick(&by_header, &headers, 0).version;
        chosen[first.get() as usize] += 1;
        for request in 1..20 {
            assert_eq!(pick(&by_header, &headers, request).version, first);
            // It is the value that counts, wherever it comes from.
            assert_eq!(pick(&by_cookie, &headers, request).version, first);
        }
    }
    assert!(chosen[1] > 60 && chosen[2] > 60, "{chosen:?}");
    let alone: Vec<_> =
        (0..40).map(|request| pick(&by_header, &HeaderMap::new(), request).version).collect();
    assert!(alone.contains(&number(1)) && alone.contains(&number(2)), "each goes its own way");
}

#[test]
fn what_keeps_requests_together_is_one_name() {
    let read = |json: &str| serde_json::from_str::<Sticky>(json).map_err(|error| error.to_string());
    for json in [r#"{"header":"x-user"}"#, r#"{"cookie":"session"}"#] {
        let sticky = read(json).expect(json);
        assert_eq!(serde_json::to_string(&sticky).expect("JSON"), json);
    }
    for (json, part) in [
        ("{}", "sticky: write either"),
        (r#"{"header": "a", "cookie": "b"}"#, "sticky: write either"),
        (r#"{"header": "a b"}"#, "sticky.header: \"a b\" is not the name of a header"),
        (r#"{"header": "Authorization"}"#, "sticky.header: authorization can't decide"),
        (r#"{"header": "cookie"}"#, "sticky.header: cookie can't decide"),
        (r#"{"cookie": "a=b"}"#, "sticky.cookie: \"a=b\" is not the name of a cookie"),
        (r#"{"cookie": ""}"#, "sticky.cookie: \"\" is not the name of a cookie"),
        (r#"{"query": "a"}"#, "unknown field"),
    ] {
        let refused = read(json).expect_err(json);
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn a_version_is_asked_for_by_number_alias_or_as_the_live_one() {
    assert_eq!("3".parse(), Ok(Selector::Number(number(3))));
    assert_eq!("live".parse(), Ok(Selector::Live));
    assert_eq!("stable".parse(), Ok(Selector::Alias(name("stable"))));
    for bad in ["", "0", "-1", "A", "a b", "99999999999"] {
        assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
    }
    for text in ["3", "live", "stable"] {
        assert_eq!(text.parse::<Selector>().expect(text).to_string(), text);
    }
}
