//! `quern device-worker`: what `quern serve` starts to compute models in. Takes no part in the
//! command line's ways otherwise.

use anyhow::Result;
use tracing_subscriber::EnvFilter;

/// Compute models for the server that started this; of no use to people
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceWorker {}

/// Computes until the server is gone. To be called before there is any other thread.
pub(crate) fn run() -> Result<()> {
    let filter = std::env::var("QUERN_LOG").ok();
    let filter = filter.and_then(|filter| EnvFilter::try_new(filter).ok());
    // The server reads these lines and gives them times of its own.
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("warn")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    match quern_host_gpu::run_device_worker()? {}
}
