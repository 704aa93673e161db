//! `quern serve`: runs a server until a signal stops it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use quern_gateway::Listeners;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpListener, sync::watch};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Flags, LogFormat, Options, Server},
    failure::{Failure, UsageError},
    memory, ort, output, signals,
    wiring::{self, Parts},
};

/// Time for the last spans of traces to be sent, once all requests have ended.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Run a server
///
/// Prints "listening on http://ADDRESS:PORT" on standard output once it takes requests, and before
/// that, where gRPC has an address of its own, "listening on grpc://ADDRESS:PORT". Logs go to
/// standard error; QUERN_LOG filters them (default: info). SIGINT and SIGTERM stop it: it
/// takes no more requests, finishes those it has, and exits; a second signal ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(command: Serve) -> Result<()> {
    let config = command.flags.load()?;
    let Server { listen, grpc_listen, log_format, drain_timeout, .. } = config.options.server;
    check_address(&config.options.server)?;
    start_logs(log_format)?;
    warn_of_shared_memory(&config.options);
    // Taken first, so that a signal during the start is not lost.
    let stop = signals::watch().await.context("can't watch signals")?;
    let data = config.options.server.data.clone();
    raise_open_files();
    let parts = wiring::build(find_ort_library(config)).await?;
    memory::give_back_while_running();
    let http = bind(listen, "--listen").await?;
    let grpc = match grpc_listen {
        Some(address) => Some(bind(address, "--grpc-listen").await?),
        None => None,
    };
    if let Some(grpc) = &grpc {
        let address = grpc.local_addr()?;
        output::line(format_args!("listening on grpc://{address}"))?;
        tracing::info!(%address, "listening for gRPC");
    }
    let address = http.local_addr()?;
    output::line(format_args!("listening on http://{address}"))?;
    tracing::info!(%address, data = %data.display(), "listening");
    parts.dispatcher.warm();
    serve_until_stopped(&parts, Listeners { http, grpc }, stop, drain_timeout.0.0).await;
    io::stdout().flush()?;
    // Not by returning: dropping the server would join the device's lanes and wait for compiles,
    // however long they take.
    process::exit(0)
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| Failure {
        message: format!("can't listen on {address}: {error}"),
        hint: format!("is another server running there? choose another port with {flag}"),
    })
}

/// The configuration with ONNX Runtime's library where it is found, if none is given.
fn find_ort_library(mut config: Config) -> Config {
    let library = &mut config.options.models.ort_library;
    *library = library.take().or_else(ort::find_library);
    match library {
        Some(path) => tracing::info!(library = %path.display(), "using ONNX Runtime"),
        None => tracing::info!(
            "no ONNX Runtime library is given, nor in .quern/ort: models run on tract; `make ort` \
             fetches one"
        ),
    }
    config
}

/// Serves until `stop` says so, then finishes what runs within `drain_timeout`.
async fn serve_until_stopped(
    parts: &Parts,
    listeners: Listeners,
    stop: watch::Receiver<bool>,
    drain_timeout: Duration,
) {
    let Parts { gateway, deployer, dispatcher, store, worker, exporter } = parts;
    let serving = tokio::spawn(Arc::clone(gateway).serve(listeners, stopped(stop.clone())));
    stopped(stop).await;
    tracing::info!(limit = ?drain_timeout, "stopping: requests that run may finish");
    let started = Instant::now();
    let drained = async {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the gateway failed");
        }
        dispatcher.drain().await;
        deployer.drain().await;
    };
    match tokio::time::timeout(drain_timeout, drained).await {
        Ok(()) => tracing::info!(took = ?started.elapsed(), "all requests have finished"),
        Err(_) => tracing::warn!("some requests did not finish in time and are cut off"),
    }
    if let Some(exporter) = exporter {
        exporter.stop(LAST_SPANS).await;
    }
    store.close().await;
    if let Some(worker) = worker {
        worker.stop();
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives as long as the process: its end means stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Allows this process as many open files as it may allow itself: every connection is one, and so is
/// the code of every loaded function, while many systems start programs with 1024.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, ?maximum, "the limit on open files can't be raised");
    }
}

fn check_address(server: &Server) -> Result<(), UsageError> {
    let Some(address) =
        server.public_address().filter(|_| !server.insecure && !server.authenticate)
    else {
        return Ok(());
    };
    Err(UsageError(format!(
        "won't listen on {address}: requests need no token, so whoever reaches that address \
         could deploy and run code; listen on 127.0.0.1, or pass --authenticate, or --insecure if \
         only people you trust can reach it"
    )))
}

/// Shared memory is for clients of this machine, while the address is for others as well.
fn warn_of_shared_memory(options: &Options) {
    let (prefix, address) = (&options.shared_memory.prefix, options.server.public_address());
    if let (Some(prefix), Some(address)) = (prefix, address) {
        tracing::warn!(
            %address,
            %prefix,
            "whoever reaches this address can have shared memory read and written whose name \
             begins with the prefix, which only programs on this machine have a use for"
        );
    }
}

fn start_logs(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("QUERN_LOG") {
        Ok(filter) => EnvFilter::try_new(&filter).map_err(|error| {
            UsageError(format!("QUERN_LOG={filter:?} is not a filter: {error}"))
        })?,
        Err(_) => EnvFilter::new("info"),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_without_authentication() {
        let cases = [
            ("127.0.0.1:0", true),
            ("127.9.9.9:1", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.168.1.2:80", false),
        ];
        for (address, allowed) in cases {
            let listen = address.parse().expect("an address");
            let server = Server { listen, ..Server::default() };
            assert_eq!(check_address(&server).is_ok(), allowed, "{address}");
            let grpc = Server { grpc_listen: Some(listen), ..Server::default() };
            assert_eq!(check_address(&grpc).is_ok(), allowed, "{address} for gRPC");
            let insecure = Server { insecure: true, ..server.clone() };
            assert!(check_address(&insecure).is_ok(), "{address}");
            assert!(check_address(&Server { authenticate: true, ..server }).is_ok(), "{address}");
        }
    }
}
