//! `quern serve`: runs a server until a signal stops it.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process,
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use quern_gateway::Trouble;
use quern_store::Store;
use quern_types::{Role, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::{Config, Flags, Options, Server, Tls},
    failure::UsageError,
    handover::{Predecessor, Program},
    lifecycle::{End, Lifecycle},
    logging::Log,
    memory, ort, output,
    reload::{Certificate, InForce, Reloader},
    signals,
    sockets::Sockets,
    systemd,
    wiring::{self, Parts},
};

/// Run a server
///
/// Prints "listening on http://ADDRESS:PORT" (https:// with TLS) on standard output once it takes
/// requests, and before that, where gRPC has an address of its own, "listening on
/// grpc://ADDRESS:PORT" (grpcs://). Logs go to standard error; QUERN_LOG filters them (default:
/// info). SIGINT and SIGTERM stop it: it takes no more requests, finishes those it has, and exits; a
/// second signal ends it at once. SIGHUP has it read its configuration and certificate again, SIGUSR2
/// has it start this program anew and hand over to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    flags: Flags,

    #[arg(skip)]
    inherited: Inherited,
}

/// What this process was started with, beside its command line.
#[derive(Debug, Default)]
struct Inherited {
    /// The server that it takes over from.
    predecessor: Option<Predecessor>,
    /// Sockets of systemd's.
    sockets: Option<Sockets>,
}

impl Serve {
    /// Takes what this process was started with. To be called before there is another thread.
    pub(crate) fn inherit(&mut self) -> Result<()> {
        let predecessor = Predecessor::of_this_process();
        let predecessor = predecessor.context("can't take over from another server")?;
        let sockets = Sockets::of_systemd().context("can't use the sockets of systemd")?;
        let given = predecessor.as_ref().map(Predecessor::sockets).or(sockets.as_ref());
        if let Some(sockets) = given.filter(|sockets| sockets.are_fixed) {
            let (everything, grpc) = sockets.addresses()?;
            self.flags.listen_at(everything, grpc);
        }
        self.inherited = Inherited { predecessor, sockets };
        Ok(())
    }
}

pub(crate) async fn run(command: Serve) -> Result<()> {
    let Serve { flags, inherited } = command;
    let program = Program::this().context("can't find this program's own file")?;
    let config = flags.clone().load()?;
    let Options { server, tls, .. } = &config.options;
    check_address(server, tls)?;
    let log = Log::start(server.log_format, &server.log_filter)?;
    let certificate = Certificate::load(tls)?;
    warn_of_shared_memory(&config.options);
    // Taken first, so that a signal during the start is not lost.
    let signals = signals::watch().await.context("can't watch signals")?;
    raise_open_files();
    let (given, mut leaving) = match inherited.predecessor.map(Predecessor::meet).transpose()? {
        Some((sockets, leaving)) => (Some(sockets), Some(leaving)),
        None => (inherited.sockets, None),
    };
    let sockets = Sockets::open(given, server)?;
    let addresses = sockets.addresses()?;
    let mut lifecycle = Lifecycle::new(sockets, program, signals);
    memory::give_back_while_running();

    let mut in_force = InForce { flags, config, log, certificate };
    let (mut starts, is_first) = (0, leaving.is_none());
    loop {
        let data = in_force.config.options.server.data.clone();
        let prepared = wiring::prepare(find_ort_library(in_force.config.clone())).await?;
        if let Some(leaving) = &mut leaving {
            Store::check(&data)?;
            tokio::select! {
                biased;
                () = lifecycle.stopped() => return Ok(()),
                left = leaving.wait() => left.context("can't take over from another server")?,
            }
        }
        let parts = wiring::build(prepared).await?;
        warn_of_no_token(&parts, &in_force.config.options.server);
        let gateway = Arc::clone(&parts.gateway);
        gateway.set_trouble(Trouble::Restart, starts > 0);
        let mut reloader = Reloader::new(in_force, gateway, &parts.registry)?;
        announce(addresses, &reloader.in_force().config, is_first && starts == 0)?;
        match leaving.take() {
            Some(leaving) => leaving.take_over().await,
            None => systemd::ready(),
        }
        if starts == 0 {
            systemd::keep_watchdog();
        }
        parts.dispatcher.warm();
        parts.jobs.start(parts.gateway.clone(), parts.courier.clone());
        parts.scoring.start();
        let end = lifecycle.serve(&parts, &mut reloader).await?;
        if end != End::TakenBack {
            break;
        }
        in_force = reloader.end();
        starts += 1;
        // It would join the device's lanes and wait for compiles, however long they take.
        tokio::task::spawn_blocking(move || drop(parts));
    }
    io::stdout().flush()?;
    // Not by returning, for the same reason.
    process::exit(0)
}

/// Says where the server listens: in the log, and to whoever has started it on standard output.
fn announce(
    addresses: (SocketAddr, Option<SocketAddr>),
    config: &Config,
    aloud: bool,
) -> Result<()> {
    let Options { server, tls, .. } = &config.options;
    let (everything, grpc) = addresses;
    let tls = tls.files().is_some();
    let (scheme, grpc_scheme) = if tls { ("https", "grpcs") } else { ("http", "grpc") };
    if let Some(grpc) = grpc {
        tracing::info!(address = %grpc, "listening for gRPC");
        if aloud {
            output::line(format_args!("listening on {grpc_scheme}://{grpc}"))?;
        }
    }
    let data = server.data.display();
    tracing::info!(address = %everything, tls, %data, process = process::id(), "listening");
    if aloud {
        output::line(format_args!("listening on {scheme}://{everything}"))?;
    }
    Ok(())
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
fn check_address(server: &Server, tls: &Tls) -> Result<(), UsageError> {
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
            let is_allowed = |server: Server, tls: Tls| check_address(&server, &tls).is_ok();
            let server = Server { listen, ..Server::default() };
            let (no_tls, tls) = (Tls::default(), || Tls {
                certificate: Some("a".into()),
                key: Some("b".into()),
                ..Tls::default()
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
