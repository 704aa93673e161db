//! `quern serve`: runs a server until a signal stops it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use quern_dispatcher::FunctionsConfig;
use quern_types::{ByteSize, Period};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

use crate::{
    failure::{Failure, UsageError},
    ort, output,
    wiring::{self, Server, ServerConfig},
};

/// Run a server
///
/// Prints "listening on http://ADDRESS:PORT" on standard output once it takes requests. Logs go
/// to standard error; QUERN_LOG filters them (default: info). SIGINT and SIGTERM stop it: it
/// takes no more requests, finishes those it has, and exits; a second signal ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "QUERN_LISTEN", default_value = "127.0.0.1:7700", value_name = "ADDR")]
    listen: SocketAddr,

    /// Folder for everything that is deployed; created if it is missing
    #[arg(long, env = "QUERN_DATA", default_value = "quern-data", value_name = "DIR")]
    data: PathBuf,

    /// ONNX Runtime's shared library [default: the one in .quern/ort, which `make ort` fills, of
    /// the working directory or of a folder above the program; without one, models run on tract]
    #[arg(long, env = "ORT_DYLIB_PATH", value_name = "PATH")]
    ort_library: Option<PathBuf>,

    /// Listen on other addresses than loopback, although nobody is authenticated yet
    #[arg(long)]
    insecure: bool,

    /// Versions that are kept of each function and model; the live one always is
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep_versions: u32,

    /// Log lines that are kept of each function
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep_logs: u32,

    /// Largest component or model that can be deployed, with its unit
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    max_upload: ByteSize,

    /// Batches that the CPU computes at the same time [default: the number of cores]
    #[arg(long, value_name = "COUNT", value_parser = parse_lanes)]
    lanes: Option<usize>,

    /// Memory for the code of loaded functions, with its unit; where it is short, those that were
    /// called least recently are unloaded until their next call
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    code_memory: ByteSize,

    /// How logs are written
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,

    /// Time that requests get to finish when the server is stopped, with its unit
    #[arg(long, default_value = "30s", value_name = "TIME")]
    drain_timeout: Period,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(crate) async fn run(command: Serve) -> Result<()> {
    check_address(command.listen, command.insecure)?;
    start_logs(command.log_format)?;
    // Taken first, so that a signal during the start is not lost.
    let stop = watch_signals()?;
    raise_open_files();
    let server = wiring::build(config(&command)?).await?;
    let listener = TcpListener::bind(command.listen).await.map_err(|error| Failure {
        message: format!("can't listen on {}: {error}", command.listen),
        hint: "is another server running there? choose another port with --listen".into(),
    })?;
    let address = listener.local_addr()?;
    output::line(format_args!("listening on http://{address}"))?;
    tracing::info!(%address, data = %command.data.display(), "listening");
    server.dispatcher.warm();
    serve_until_stopped(&server, listener, stop, command.drain_timeout.0).await;
    io::stdout().flush()?;
    // Not by returning: dropping the server would join the device's lanes and wait for compiles,
    // however long they take, and with them nobody would be left to heed a second signal.
    process::exit(0)
}

fn config(command: &Serve) -> Result<ServerConfig> {
    let lanes = match command.lanes {
        Some(lanes) => lanes,
        None => std::thread::available_parallelism().context("can't count the cores")?.get(),
    };
    let ort_library = command.ort_library.clone().or_else(ort::find_library);
    match &ort_library {
        Some(path) => tracing::info!(library = %path.display(), "using ONNX Runtime"),
        None => tracing::info!(
            "no ONNX Runtime library is given, nor in .quern/ort: models run on tract; `make ort` \
             fetches one"
        ),
    }
    Ok(ServerConfig {
        data: command.data.clone(),
        keep_versions: command.keep_versions,
        keep_logs: command.keep_logs,
        max_upload: command.max_upload,
        lanes,
        ort_library,
        functions: FunctionsConfig { code_memory: command.code_memory },
        callers_are_owners: is_loopback(command.listen),
    })
}

/// Serves until `stop` says so, then finishes what runs within `drain_timeout`.
async fn serve_until_stopped(
    server: &Server,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
    drain_timeout: Duration,
) {
    let Server { gateway, deployer, dispatcher, store } = server;
    let serving = tokio::spawn(Arc::clone(gateway).serve(listener, stopped(stop.clone())));
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
    store.close().await;
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

/// Turns the first SIGINT or SIGTERM into `true`; the second ends the process.
fn watch_signals() -> Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't watch signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't watch signals")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        sender.send_replace(true);
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("stopped by a second signal");
        process::exit(1);
    });
    Ok(receiver)
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}

fn check_address(address: SocketAddr, insecure: bool) -> Result<(), UsageError> {
    if insecure || is_loopback(address) {
        return Ok(());
    }
    Err(UsageError(format!(
        "won't listen on {address}: nobody is authenticated yet, so whoever reaches that address \
         could deploy and run code; listen on 127.0.0.1, or pass --insecure if only people you \
         trust can reach it"
    )))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
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

fn parse_lanes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(lanes @ 1..=1024) => Ok(lanes),
        _ => Err("write a number from 1 to 1024".into()),
    }
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
            let address = address.parse().expect("an address");
            assert_eq!(check_address(address, false).is_ok(), allowed, "{address}");
            assert!(check_address(address, true).is_ok(), "{address}");
        }
    }

    #[test]
    fn lanes_are_counted_from_one() {
        assert_eq!(parse_lanes("2"), Ok(2));
        for bad in ["0", "-1", "many", "1025"] {
            assert!(parse_lanes(bad).is_err(), "{bad}");
        }
    }
}
