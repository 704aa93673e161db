//! Guests that reach out: to where they may not go, in every disguise of an address, and through
//! names that change what they stand for.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

use crate::{
    neighbour::Neighbour,
    resolver::Resolver,
    row::{component, http_manifest},
    siege,
    support::Server,
};

/// The machine itself and its surroundings, each as a host that a careless check lets through;
/// `PORT` is that of the test's own listener.
const DISGUISES: [&str; 26] = [
    "http://127.0.0.1:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://017700000001:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.255.255.254:PORT/",
    "http://0.0.0.0:PORT/",
    "http://0:PORT/",
    "http://[::1]:PORT/",
    "http://[::]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST.:PORT/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1%25lo]:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://[fd00:ec2::254]/latest/meta-data/",
];

/// A service of the machine that must never be reached: it counts who does.
struct Secret {
    port: u16,
    reached: Arc<AtomicUsize>,
}

impl Secret {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        // It waits for connections until the test's process ends.
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, reached }
    }

    fn urls(&self, hosts: &[&str]) -> String {
        let mut urls = String::new();
        for host in hosts {
            let _ = writeln!(urls, "{}", host.replace("PORT", &self.port.to_string()));
        }
        urls
    }

    fn assert_untouched(&self) {
        assert_eq!(self.reached.load(Ordering::SeqCst), 0, "somebody got through");
    }
}

/// Deploys the guest with these grants and has it try these URLs; returns its report, a line each.
async fn attempts(server: &Server, grants: &[String], urls: String) -> Vec<String> {
    let grants = format!("[grants]\nhttp = {grants:?}\n");
    let manifest = http_manifest("outbound", &grants).replace("\"1s\"", "\"20s\"");
    let deployed = server.upload("outbound", manifest, component("outbound")).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    let answer = server.post("/f/outbound/", urls).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().lines().map(str::to_owned).collect()
}

fn refused(line: &str, codes: &[&str]) -> bool {
    codes.iter().any(|code| line.ends_with(code))
}

#[tokio::test]
async fn without_a_grant_nothing_is_reached_in_any_disguise() {
    let secret = Secret::start();
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    for line in attempts(&server, &[], secret.urls(&DISGUISES)).await {
        let codes =
            ["ErrorCode::HttpRequestDenied", "ErrorCode::HttpRequestUriInvalid", "malformed"];
        assert!(refused(&line, &codes), "{line}");
    }
    secret.assert_untouched();
    neighbour.end().await;
    siege::at_rest(&server).await;
}

#[tokio::test]
async fn a_grant_does_not_open_the_machines_own_addresses() {
    let secret = Secret::start();
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    // What can be granted at all is granted; only the address is left to refuse.
    let grant = |host: &str| host.replace("PORT", &secret.port.to_string());
    let grants: Vec<String> = DISGUISES
        .iter()
        .map(|url| grant(url))
        .filter(|url| !url.contains(['@', '%']))
        .map(|url| url.split('/').take(3).collect::<Vec<_>>().join("/"))
        .collect();
    for line in attempts(&server, &grants, secret.urls(&DISGUISES)).await {
        let codes = [
            "ErrorCode::HttpRequestDenied",
            "ErrorCode::DestinationIpProhibited",
            "ErrorCode::HttpRequestUriInvalid",
            "malformed",
        ];
        // A name like "0x7f.1" may also be one that nobody knows.
        assert!(refused(&line, &codes) || line.contains("ErrorCode::DnsError"), "{line}");
    }
    secret.assert_untouched();
    neighbour.end().await;
    siege::at_rest(&server).await;
}

#[tokio::test]
async fn a_name_that_is_rebound_does_not_lead_inside() {
    let secret = Secret::start();
    // Harmless for whoever checks a name first, and the machine itself for whoever connects later;
    // and a name that is both at once. 192.0.2.1 is for documentation: nobody is there.
    let outside = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let inside = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let resolver = Resolver::start(vec![
        ("rebound.test", vec![vec![outside], vec![inside]]),
        ("inside.test", vec![vec![inside]]),
        ("mapped.test", vec![vec!["::ffff:127.0.0.1".parse().expect("an address")]]),
        ("both.test", vec![vec![outside, inside]]),
    ]);
    let folder = TempDir::new().expect("a folder");
    let config = folder.path().join("quern.toml");
    let text = format!("[outbound]\nnameservers = [\"{}\"]\n", resolver.address());
    std::fs::write(&config, text).expect("a file");
    let server = Server::start_with(&["--config", config.to_str().expect("text")]);
    let neighbour = Neighbour::start(&server).await;
    let hosts = ["rebound.test", "inside.test", "mapped.test", "both.test"];
    let origins = hosts.map(|host| format!("http://{host}:{}", secret.port));
    // Each several times, so that every answer of the resolver is had.
    let urls: String = origins.iter().flat_map(|url| [url.as_str(), "\n"].repeat(3)).collect();
    let lines = attempts(&server, &origins, urls).await;
    for line in &lines {
        assert!(!line.contains("answered"), "{line}");
        if line.contains("inside.test") || line.contains("mapped.test") {
            assert!(line.ends_with("ErrorCode::DestinationIpProhibited"), "{line}");
        }
    }
    assert!(resolver.asked() > 0, "the names were never looked up: {lines:?}");
    secret.assert_untouched();
    neighbour.end().await;
    siege::at_rest(&server).await;
}
