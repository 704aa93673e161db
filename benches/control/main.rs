//! What surrounds calls: who asks, what is counted, which version answers, what is kept for later.
//! Quern beside Quern, and where there are peers beside them. Never judges: it prints whether each
//! aim was met.
//!
//! Sections, each written into docs/benchmarks.md for itself; `--only NAME` measures one.

use std::env;

use anyhow::{Result, bail, ensure};
use tokio::signal;

mod callee;
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
}

const SECTIONS: [&str; 5] = ["surroundings", "traffic", "tenants", "later", "scoring"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    tokio::select! {
        measured = measure() => measured,
        // Peers are in groups of their own, which a signal to ours does not reach.
        interrupted = signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted")
        }
    }
}

async fn measure() -> Result<()> {
    let only = only()?;
    for section in SECTIONS {
        if only.as_deref().is_some_and(|only| only != section) {
            continue;
        }
        eprintln!("== {section}");
        match section {
            "surroundings" => Box::pin(surroundings::measure()).await?,
            "traffic" => Box::pin(traffic::measure()).await?,
            "tenants" => Box::pin(tenants::measure()).await?,
            "later" => Box::pin(later::measure()).await?,
            _ => Box::pin(scoring::measure()).await?,
        }
    }
    Ok(())
}

/// The section that the command line names, if any.
fn only() -> Result<Option<String>> {
    let mut arguments = env::args().skip_while(|argument| argument != "--only").skip(1);
    let only = arguments.next();
    if let Some(name) = &only {
        ensure!(SECTIONS.contains(&name.as_str()), "--only takes one of {SECTIONS:?}");
    }
    Ok(only)
}
