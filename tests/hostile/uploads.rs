//! Uploads that mean harm: malformed, nested, expanding, importing everything. Each is refused by
//! name or deployed; none takes the server down, and no neighbour notices.

use std::time::Instant;

use crate::{
    components::{deep_types, disguised, many_locals, many_tables, nested, text},
    long,
    neighbour::Neighbour,
    row::{component, http_manifest},
    siege::{self, resident_kib},
    support::{Answer, Server},
};

/// The interfaces that are linked for everyone.
const STANDARD: [&str; 18] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-stdin",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "http/outgoing-handler",
    "http/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/random",
    "sockets/tcp",
    "sockets/udp",
];
/// Interfaces that exist somewhere, but not here.
const UNKNOWN: [&str; 7] = [
    "acme:oven/bake@1.0.0",
    "wasi:cli/environment@0.1.0",
    "wasi:gfx/surface@0.0.1",
    "wasi:io/streams@99.0.0",
    "wasi:threads/spawn@0.2.0",
    "wasi:webgpu/webgpu@0.0.1",
    "quern:ml/models@9.9.9",
];

async fn upload(server: &Server, component: Vec<u8>) -> Answer {
    server.upload("upload", http_manifest("upload", ""), component).await
}

/// Deployed, or refused as the upload's own fault.
fn assert_handled(what: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let code = if answer.status.is_success() { "" } else { answer.code() };
    let known = matches!(code, "" | "not-a-component" | "invalid-component" | "unknown-import");
    let fits = known && matches!(status, 200 | 201 | 422);
    assert!(fits, "{what}: {status} {:.2000}", answer.text());
}

#[tokio::test]
async fn malformed_components_are_refused_or_harmless() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    let good = component("hasty_response");
    for at in (0..40).map(|part| good.len() * part / 40) {
        let answer = upload(&server, good[..at].to_vec()).await;
        assert_eq!(answer.status, 422, "cut off at {at}: {}", answer.text());
    }
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let rounds = if long() { 300 } else { 30 };
    for round in 0..rounds {
        let mut bad = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bad.len());
            match random.u8(..3) {
                0 => bad[at] ^= 1 << random.u8(..8),
                1 => bad[at] = 0xff,
                _ => drop(bad.drain(at..(at + random.usize(1..64)).min(bad.len()))),
            }
        }
        let what = format!("round {round} of seed {seed}");
        let answer = upload(&server, bad).await;
        assert_handled(&what, &answer);
        if answer.status.is_success() {
            let called = server.get("/f/upload/").await;
            assert_ne!(called.code(), "internal", "{what}: {}", called.text());
        }
    }
    neighbour.end().await;
    siege::at_rest(&server).await;
    server.stop();
}

#[tokio::test]
async fn components_in_components_and_types_in_types_do_not_exhaust_the_server() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    for depth in [10, 99, 1_000, 10_000, 100_000] {
        let answer = upload(&server, disguised(nested(depth))).await;
        assert_handled(&format!("nested {depth} deep"), &answer);
        let answer = upload(&server, disguised(deep_types(depth, false))).await;
        assert_handled(&format!("lists {depth} deep"), &answer);
        let answer = upload(&server, disguised(deep_types(depth, true))).await;
        assert_handled(&format!("pairs {depth} deep"), &answer);
    }
    let deep = upload(&server, disguised(nested(100_000))).await;
    deep.assert_error(422, "invalid-component", "nested more than 64 deep");
    neighbour.end().await;
    server.stop();
}

#[tokio::test]
async fn whoever_imports_everything_is_told_what_is_not_there() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    let import = |name: &str| format!("(import \"{name}\" (instance))");
    let standard: String =
        STANDARD.iter().map(|name| import(&format!("wasi:{name}@0.2.12"))).collect();
    let accepted = upload(&server, disguised(text(&format!("(component {standard})")))).await;
    // All of that is there; only its handler is none.
    accepted.assert_error(422, "invalid-component", "handle");
    for unknown in UNKNOWN {
        let everything = format!("(component {standard} {})", import(unknown));
        let refused = upload(&server, disguised(text(&everything))).await;
        refused.assert_error(422, "unknown-import", unknown);
    }
    let models = format!("(component {standard} {})", import("quern:ml/models@0.1.0"));
    upload(&server, disguised(text(&models))).await.assert_error(422, "missing-grant", "models");
    neighbour.end().await;
    server.stop();
}

#[tokio::test]
async fn small_uploads_that_expand_are_bounded() {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    let scale = if long() { 10 } else { 1 };
    let cases = [
        ("jump tables", many_tables(100 * scale, 1_000)),
        ("locals", many_locals(20 * scale, 50_000)),
        ("functions", many_locals(10_000 * scale, 1)),
    ];
    for (what, component) in cases {
        let (upload_kib, before) = (component.len() / 1024, resident_kib(&server));
        let start = Instant::now();
        let answer = upload(&server, disguised(component)).await;
        let (took, after) = (start.elapsed(), resident_kib(&server));
        eprintln!("{what}: {upload_kib} KiB took {took:?}, {before} KiB became {after} KiB");
        assert_handled(what, &answer);
    }
    let refused = upload(&server, disguised(many_locals(300, 50_000))).await;
    refused.assert_error(422, "invalid-component", "local variables");
    neighbour.end().await;
    server.stop();
}
