//! Which addresses are reached, whatever they are called, and whoever answers for their names.

use std::{net::Ipv4Addr, time::Duration};

use hickory_resolver::proto::op::ResponseCode;
use quern_sandbox::OutboundConfig;

use crate::{
    function::{Host, allowing, granting},
    servers::{Answer, Nameserver, Server, local, ok},
};

const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An operator's configuration with a nameserver, and one address that may be reached.
fn asking(nameserver: &Nameserver) -> OutboundConfig {
    OutboundConfig {
        nameservers: vec![nameserver.address],
        connect_timeout: Duration::from_secs(2),
        ..allowing(&["127.0.0.1/32"])
    }
}

#[tokio::test]
async fn a_forbidden_address_is_not_reached_in_any_disguise() {
    let server = Server::answering(local(), ok("secret")).await;
    let six =
        Server::answering("[::1]:0".parse::<std::net::SocketAddr>().expect("one"), ok("")).await;
    let names = Nameserver::start(|_| Answer::Addresses(vec![LISTED])).await;
    let config = OutboundConfig { private_networks: Vec::new(), ..asking(&names) };
    let host = Host::new(config);
    let prohibited = "error ErrorCode::DestinationIpProhibited";
    let malformed = "error ErrorCode::HttpRequestUriInvalid";
    let cases = [
        ("127.0.0.1", prohibited),
        ("127.0.0.1.", prohibited),
        ("localhost", prohibited),
        ("innocent.test", prohibited),
        ("0.0.0.0", prohibited),
        ("[::]", prohibited),
        ("[::1]", prohibited),
        ("[::ffff:127.0.0.1]", prohibited),
        ("[::ffff:7f00:1]", prohibited),
        ("[::127.0.0.1]", prohibited),
        ("[64:ff9b::127.0.0.1]", prohibited),
        ("[2002:7f00:1::]", prohibited),
        ("169.254.169.254", prohibited),
        ("[::ffff:169.254.169.254]", prohibited),
        ("[fd00:ec2::254]", prohibited),
        ("10.0.0.1", prohibited),
        ("192.168.0.1", prohibited),
        ("127.1", malformed),
        ("2130706433", malformed),
        ("0x7f000001", malformed),
        ("0x7f.0.0.1", malformed),
        ("0177.0.0.1", malformed),
        ("017700000001", malformed),
        ("127.0.0.1.1", malformed),
        ("127.0.0.256", malformed),
    ];
    for (name, expected) in cases {
        let listening = if name == "[::1]" { &six } else { &server };
        let origin = format!("http://{name}:{}", listening.address.port());
        let guest = host.function(&granting(&[&origin]));
        assert_eq!(guest.line(&format!("url={origin}/")).await, expected, "{name}");
    }
    assert_eq!((server.accepted(), six.accepted()), (0, 0));
    let origin = format!("http://innocent.test:{}", server.address.port());
    let guest = host.function(&granting(&[&origin]));
    let outcome = guest.fetch(&format!("url={origin}/")).await;
    let expected = "outbound request failed: innocent.test is at the address 127.0.0.1, which is \
                    forbidden (loopback): the server's operator can allow it in \
                    outbound.private_networks\n";
    assert_eq!(outcome.log, expected);
    assert!(host.counter("quern_outbound_requests_total", Some("prohibited")) > 1);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_checked_again_for_every_connection() {
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nlisted";
    let server = Server::answering(local(), close).await;
    let port = server.address.port();
    let internal = Server::answering((FORBIDDEN, port), ok("internal")).await;
    let names = Nameserver::start(|n| match n {
        0 => Answer::Addresses(vec![LISTED]),
        _ => Answer::Addresses(vec![FORBIDDEN]),
    })
    .await;
    let host = Host::new(asking(&names));
    let origin = format!("http://rebinding.test:{port}");
    let guest = host.function(&granting(&[&origin]));
    let query = format!("url={origin}/");
    assert_eq!(guest.line(&query).await, "status 200 bytes 6 body listed");
    assert_eq!(names.asked(), 1, "what was checked is what was connected to");
    assert_eq!(guest.line(&query).await, "error ErrorCode::DestinationIpProhibited");
    assert_eq!(names.asked(), 2);
    assert_eq!(internal.accepted(), 0);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_connected_to() {
    let server = Server::answering(local(), ok("listed")).await;
    let port = server.address.port();
    let internal = Server::answering((FORBIDDEN, port), ok("internal")).await;
    let names = Nameserver::start(|_| Answer::Addresses(vec![FORBIDDEN, LISTED])).await;
    let host = Host::new(asking(&names));
    let origin = format!("http://many.test:{port}");
    let guest = host.function(&granting(&[&origin]));
    for _ in 0..4 {
        let line = guest.line(&format!("url={origin}/")).await;
        assert_eq!(line, "status 200 bytes 6 body listed");
    }
    assert_eq!(internal.accepted(), 0);
}

#[tokio::test]
async fn a_wildcard_grants_every_name_below_and_each_is_resolved() {
    let server = Server::answering(local(), ok("hello")).await;
    let port = server.address.port();
    let names = Nameserver::start(|_| Answer::Addresses(vec![LISTED])).await;
    let host = Host::new(asking(&names));
    let guest = host.function(&granting(&[format!("http://*.example.test:{port}")]));
    let cases = [
        ("a.example.test", "status 200 bytes 5 body hello"),
        ("b.a.example.test", "status 200 bytes 5 body hello"),
        ("example.test", "error ErrorCode::HttpRequestDenied"),
        ("a.example.test.evil.test", "error ErrorCode::HttpRequestDenied"),
    ];
    for (name, expected) in cases {
        assert_eq!(guest.line(&format!("url=http://{name}:{port}/")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn names_that_can_not_be_resolved_say_why() {
    let dns_error = |code: &str| {
        format!(
            "error ErrorCode::DnsError(DnsErrorPayload {{ rcode: Some({code:?}), info-code: None }})"
        )
    };
    let cases: [(fn() -> Answer, String); 4] = [
        (|| Answer::Code(ResponseCode::NXDomain), dns_error("NXDOMAIN")),
        (|| Answer::Code(ResponseCode::ServFail), dns_error("SERVFAIL")),
        (|| Answer::Addresses(Vec::new()), dns_error("NOERROR")),
        (|| Answer::Silence, "error ErrorCode::DnsTimeout".to_owned()),
    ];
    for (answer, expected) in cases {
        let names = Nameserver::start(move |_| answer()).await;
        let host = Host::new(asking(&names));
        let guest = host.function(&granting(&["http://missing.test"]));
        let outcome = guest.fetch("url=http://missing.test/").await;
        assert_eq!(outcome.lines, [expected.as_str()]);
        assert!(outcome.log.contains("missing.test could not be resolved"), "{}", outcome.log);
        assert_eq!(host.counter("quern_outbound_requests_total", Some("dns")), 1);
    }
}
