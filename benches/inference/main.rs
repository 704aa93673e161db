//! Models served by Quern and by its peers, on the same machine, in the same run, with the same
//! models and load generators. Never compares servers whose answers differ, and never judges: it
//! prints whether each aim was met.
//!
//! Sections, each written into docs/benchmarks.md for itself; `--only NAME` measures one.

use anyhow::Result;

mod agreement;
mod costs;
mod curve;
mod engine;
mod grpc;
mod large;
mod models;
mod overload;
mod peers;
mod plot;
mod quern;
mod rates;
mod small;
mod target;

#[path = "../support"]
mod support {
    pub(crate) mod ceiling;
    pub(crate) mod client;
    pub(crate) mod group;
    pub(crate) mod load;
    pub(crate) mod open_loop;
    #[expect(dead_code, reason = "peers are groups of processes")]
    pub(crate) mod process;
    pub(crate) mod report;
    pub(crate) mod sections;
}

use support::sections;

const SECTIONS: [&str; 7] = ["small", "costs", "lenet", "resnet18", "minilm", "curve", "overload"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    sections::measure(&SECTIONS, async |section| match section {
        "small" => Box::pin(small::measure()).await,
        "costs" => Box::pin(costs::measure()).await,
        "lenet" => Box::pin(large::lenet()).await,
        "resnet18" => Box::pin(large::resnet()).await,
        "minilm" => Box::pin(large::minilm()).await,
        "curve" => Box::pin(curve::measure()).await,
        _ => Box::pin(overload::measure()).await,
    })
    .await
}
