//! `quern serve`: runs a server until a signal stops it.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use quern_gateway::{Listeners, Tls};
use quern_types::{Role, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    certificates::Loaded,
    config::{Config, Flags, Options, Server, Tls as TlsOptions},
    failure::{Failure, UsageError},
    logging::Log,
    memory, ort, output,
    reload::{self, Certificate, Reloader},
    signals::{self, Order, Signals},
    systemd,
    wiring::{self, Parts},
};

/// Time for the last spans of traces to be sent, once all requests have ended.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Run a server
///
/// Prints "listening on http://ADDRESS:PORT" (https:// with TLS) on standard output once it takes
/// requests, and before that, where gRPC has an address of its own, "listening on
/// grpc://ADDRESS:PORT" (grpcs://). Logs go to standard error; QUERN_LOG filters them (default:
/// info). SIGINT and SIGTERM stop it: it takes no more requests, finishes those it has, and exits; a
/// second signal ends it at once. SIGHUP has it read its configuration and certificate again.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(command: Serve) -> Result<()> {
    let Serve { flags } = command;
    let config = flags.clone().load()?;
    let Options { server, tls, .. } = &config.options;
    let Server { listen, grpc_listen, .. } = *server;
    check_address(server, tls)?;
    let files = tls.files();
    let loaded = files.as_ref().map(|files| files.load()).transpose()?;
    let log = Arc::new(Log::start(server.log_format, &server.log_filter)?);
    warn_of_shared_memory(&config.options);
    // Taken first, so that a signal during the start is not lost.
    let signals = signals::watch().await.context("can't watch signals")?;
    raise_open_files();
    let parts = wiring::build(find_ort_library(config.clone())).await?;
    warn_of_no_token(&parts, &config.options.server);
    memory::give_back_while_running();
    let certificate = certificate(&config.options, loaded, &parts)?;
    let http = bind(listen, "--listen").await?;
    let grpc = match grpc_listen {
        Some(address) => Some(bind(address, "--grpc-listen").await?),
        None => None,
    };
    let tls = certificate.as_ref().map(Certificate::tls);
    let listeners = Listeners { http, grpc, tls };
    announce(&listeners, &config.options.server.data)?;
    let gateway = Arc::clone(&parts.gateway);
    let reloader = Reloader::new(flags, config, gateway, log, &parts.registry)?.with(certificate);
    systemd::ready();
    systemd::keep_watchdog();
    parts.dispatcher.warm();
    parts.jobs.start(parts.gateway.clone());
    parts.scoring.start();
    serve_until_stopped(&parts, listeners, signals, reloader).await;
    io::stdout().flush()?;
    // Not by returning: dropping the server would join the device's lanes and wait for compiles,
    // however long they take.
    process::exit(0)
}

/// The certificate that the server shows, if it is to speak TLS.
fn certificate(
    options: &Options,
    loaded: Option<Loaded>,
    parts: &Parts,
) -> Result<Option<Certificate>> {
    let (Some(files), Some(loaded)) = (options.tls.files(), loaded) else { return Ok(None) };
    reload::warn_of_rights(&files, loaded.wide);
    let tls = Tls::new(loaded.identity, options.tls.limits(), &parts.registry)
        .map_err(|cause| files.refuse(cause))?;
    Ok(Some(Certificate::new(Arc::new(tls), loaded.look, &files)))
}

/// Says where the server listens.
fn announce(Listeners { http, grpc, tls }: &Listeners, data: &Path) -> Result<()> {
    let (http_scheme, grpc_scheme) =
        if tls.is_some() { ("https", "grpcs") } else { ("http", "grpc") };
    if let Some(grpc) = grpc {
        let address = grpc.local_addr()?;
        output::line(format_args!("listening on {grpc_scheme}://{address}"))?;
        tracing::info!(%address, "listening for gRPC");
    }
    let address = http.local_addr()?;
    output::line(format_args!("listening on {http_scheme}://{address}"))?;
    tracing::info!(%address, tls = tls.is_some(), data = %data.display(), "listening");
    Ok(())
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

/// Serves until a signal says stop, then finishes what runs within the time for that.
async fn serve_until_stopped(
    parts: &Parts,
    listeners: Listeners,
    signals: Signals,
    mut reloader: Reloader,
) {
    let Parts { gateway, deployer, dispatcher, scoring, jobs, store, worker, exporter, .. } = parts;
    let Signals { stop, mut orders } = signals;
    let serving = tokio::spawn(Arc::clone(gateway).serve(listeners, stopped(stop.clone())));
    let obeying = async {
        loop {
            tokio::select! {
                Some(order) = orders.recv() => match order {
                    Order::Reload => {
                        systemd::reloading();
                        reloader.reload();
                        systemd::ready();
                    }
                },
                () = reloader.follow_certificate() => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = stopped(stop) => {}
        () = obeying => {}
    }
    systemd::stopping();
    let drain_timeout = reloader.drain_timeout();
    tracing::info!(limit = ?drain_timeout, "stopping: requests that run may finish");
    jobs.close();
    let started = Instant::now();
    let drained = async {
        // At once, while calls are still taken: a batch goes on at the next start.
        let (serving, ()) = tokio::join!(serving, scoring.drain());
        if let Err(error) = serving {
            tracing::error!(%error, "the gateway failed");
        }
        jobs.drain().await;
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

/// Refuses to let strangers in, and to let anybody read the tokens of others, unless told so.
fn check_address(server: &Server, tls: &TlsOptions) -> Result<(), UsageError> {
    let Some(address) = server.public_address().filter(|_| !server.insecure) else { return Ok(()) };
    let problem = if !server.authenticate {
        "requests need no token, so whoever reaches that address could deploy and run code; listen \
         on 127.0.0.1, or pass --authenticate, or --insecure if only people you trust can reach it"
    } else if tls.files().is_none() && !server.plain_http {
        "tokens would travel unencrypted, so whoever is on the way could use them; pass --tls-cert \
         and --tls-key, or listen on 127.0.0.1, or pass --plain-http if something in front of the \
         server speaks TLS"
    } else {
        return Ok(());
    };
    Err(UsageError(format!("won't listen on {address}: {problem}")))
}

/// A server that lets in nobody can't be told whom to let in.
fn warn_of_no_token(parts: &Parts, server: &Server) {
    let access = parts.deployer.access();
    let admits =
        |token: &Token| token.role == Role::Admin && access.holds(token.id, SystemTime::now());
    if server.authenticate && !access.tokens().any(|token| admits(token)) {
        tracing::warn!(
            "no admin's token lets anybody in: stop the server and make one with `quern token \
             create --data {} --role admin`",
            server.data.display()
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_without_tokens_and_tls() {
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
            let is_allowed = |server: Server, tls: TlsOptions| check_address(&server, &tls).is_ok();
            let server = Server { listen, ..Server::default() };
            let (no_tls, tls) = (TlsOptions::default(), || TlsOptions {
                certificate: Some("a".into()),
                key: Some("b".into()),
                ..TlsOptions::default()
            });
            let guarded = Server { authenticate: true, ..server.clone() };
            let grpc = Server { grpc_listen: Some(listen), ..Server::default() };
            assert_eq!(is_allowed(server.clone(), no_tls.clone()), allowed, "{address}");
            assert_eq!(is_allowed(server.clone(), tls()), allowed, "{address} with TLS alone");
            assert_eq!(is_allowed(grpc, no_tls.clone()), allowed, "{address} for gRPC");
            assert_eq!(is_allowed(guarded.clone(), no_tls.clone()), allowed, "{address}, tokens");
            assert!(is_allowed(guarded.clone(), tls()), "{address} with tokens and TLS");
            let behind = Server { plain_http: true, ..guarded };
            assert!(is_allowed(behind, no_tls.clone()), "{address} behind a proxy");
            let insecure = Server { insecure: true, ..server };
            assert!(is_allowed(insecure, no_tls), "{address}");
        }
    }
}
