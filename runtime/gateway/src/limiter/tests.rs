//! What tenants and addresses can ask for, and that no caller makes the tables grow.

use std::net::Ipv4Addr;

use super::*;

fn per_second(rate: u32, concurrency: Option<u32>) -> TenantLimits {
    TenantLimits { requests_per_second: Some(rate), burst: None, concurrency }
}

fn limiter(calls: TenantLimits) -> Limiter {
    let config = CallerLimits {
        calls,
        control: per_second(2, None),
        anonymous: per_second(1, Some(1)),
        refused: per_second(3, None),
    };
    Limiter::new(config, &Registry::new()).expect("registers once")
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name)
}

#[test]
fn each_tenant_has_calls_of_its_own() {
    let limiter = limiter(per_second(2, None));
    let call = |name: &str, own| limiter.call(&tenant(name), own).map(drop);
    let server = TenantLimits::default();
    for _ in 0..2 {
        assert_eq!(call("a", server), Ok(()));
        assert_eq!(limiter.control(&tenant("a")), Ok(()), "another kind is counted apart");
    }
    assert!(matches!(call("a", server), Err(LimitError::Rate { per_second: 2, .. })));
    assert!(matches!(limiter.control(&tenant("a")), Err(LimitError::Rate { .. })));
    assert_eq!(call("b", server), Ok(()));
    assert_eq!(call("c", per_second(1, None)), Ok(()));
    assert!(matches!(call("c", per_second(1, None)), Err(LimitError::Rate { per_second: 1, .. })));
}

#[test]
fn calls_at_a_time_are_counted_until_they_end() {
    let limiter = limiter(TenantLimits { concurrency: Some(2), ..TenantLimits::default() });
    let call = || limiter.call(&tenant("a"), TenantLimits::default());
    let (one, other) = (call().expect("the first"), call().expect("the second"));
    assert!(one.counts());
    assert!(matches!(call(), Err(LimitError::Concurrency { limit: 2, .. })));
    drop(one);
    let again = call().expect("one has ended");
    drop((other, again));
    assert_eq!(limiter.tenant(&tenant("a")).running.load(Ordering::Relaxed), 0);
}

#[test]
fn what_has_no_limit_takes_none() {
    let limiter = limiter(TenantLimits::default());
    for _ in 0..1_000 {
        let permit = limiter.call(&tenant("a"), TenantLimits::default()).expect("no limit");
        assert!(!permit.counts());
    }
}

#[test]
fn calls_without_a_token_are_charged_to_their_address() {
    let limiter = limiter(TenantLimits::default());
    let nobody = tenant("@anonymous");
    let from = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let first = limiter.anonymous(&nobody, from(1)).expect("the first");
    let refused = limiter.anonymous(&nobody, from(2)).map(drop);
    assert!(matches!(refused, Err(LimitError::Concurrency { limit: 1, .. })), "{refused:?}");
    drop(first);
    let refused = limiter.anonymous(&nobody, from(1)).map(drop);
    assert!(matches!(refused, Err(LimitError::Address { .. })), "{refused:?}");
    assert!(limiter.anonymous(&nobody, from(2)).is_ok());
}

#[test]
fn guesses_are_charged_to_their_address_and_other_refusals_are_not() {
    let limiter = limiter(TenantLimits::default());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for _ in 0..3 {
        assert_eq!(limiter.refused(Refusal::Unknown, Some(address)), Ok(()));
    }
    let refused = limiter.refused(Refusal::Unknown, Some(address));
    assert!(matches!(refused, Err(LimitError::Address { .. })), "{refused:?}");
    assert_eq!(limiter.refused(Refusal::Role, None), Ok(()));
}

#[test]
fn an_ipv6_network_is_one_address() {
    let of = |text: &str| network(text.parse().expect("an address"));
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::"));
    assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}

#[test]
fn the_tables_of_addresses_have_a_limit() {
    let limiter = limiter(TenantLimits::default());
    for number in 0..MOST as u32 + 100 {
        let address = IpAddr::V4(Ipv4Addr::from_bits(number));
        // One that is over the limit is refused, all the same.
        let _ = limiter.refused(Refusal::Unknown, Some(address));
    }
    assert!(limiter.addresses.len() <= MOST);
}
