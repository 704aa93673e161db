//! What surrounds calls: who asks, what is counted, which version answers, what is kept for later,
//! and what a function asks of a device.
//! Quern beside Quern, and where there are peers beside them. Never judges: it prints whether each
//! aim was met.
//!
//! Sections, each written into docs/benchmarks.md for itself; `--only NAME` measures one.

use anyhow::Result;

mod callee;
mod gpu;
mod later;
mod queues;
mod scoring;
mod surroundings;
mod tenants;
mod traffic;

#[path = "../support"]
mod support {
    pub(crate) mod ceiling;
    pub(crate) mod client;
    #[expect(dead_code, reason = "all functions are of one component")]
    pub(crate) mod function;
    #[expect(dead_code, reason = "nobody has to stand still here")]
    pub(crate) mod group;
    pub(crate) mod load;
    #[expect(dead_code, reason = "only Quern says where it listens")]
    pub(crate) mod process;
    pub(crate) mod report;
    pub(crate) mod sections;
}

use support::sections;

const SECTIONS: [&str; 6] = ["surroundings", "traffic", "tenants", "later", "scoring", "gpu"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    sections::measure(&SECTIONS, async |section| match section {
        "surroundings" => Box::pin(surroundings::measure()).await,
        "traffic" => Box::pin(traffic::measure()).await,
        "tenants" => Box::pin(tenants::measure()).await,
        "later" => Box::pin(later::measure()).await,
        "gpu" => Box::pin(gpu::measure()).await,
        _ => Box::pin(scoring::measure()).await,
    })
    .await
}
