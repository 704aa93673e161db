//! What a guest can tell of its surroundings from the clocks. They are not coarsened: a function
//! that measures itself needs them, so a neighbour's load can be seen in the gaps of a busy loop,
//! as on any shared processor. What a guest can't do is to see a clock run backwards, or hold a
//! thread for longer than a tick to measure from.

use crate::{
    neighbour::Neighbour,
    row::{component, http_manifest},
    siege,
    support::Server,
};

#[tokio::test]
async fn a_timing_probe_sees_gaps_and_nothing_else() {
    let server = Server::start();
    let manifest = http_manifest("timing-probe", "").replace("\"200ms\"", "\"10s\"");
    let manifest = manifest.replace("timeout = \"1s\"", "timeout = \"30s\"");
    server.upload("timing-probe", manifest, component("timing_probe")).await;
    let alone = server.get("/f/timing-probe/").await;
    let neighbour = Neighbour::start(&server).await;
    let beside = server.get("/f/timing-probe/").await;
    neighbour.end().await;
    for (when, answer) in [("alone", &alone), ("beside another", &beside)] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = answer.text();
        eprintln!("{when}:\n{seen}");
        assert!(seen.contains("backwards 0\n"), "{seen}");
        assert!(seen.contains("resolution 1 ns\n"), "what docs and guests rely on: {seen}");
    }
    siege::at_rest(&server).await;
}
