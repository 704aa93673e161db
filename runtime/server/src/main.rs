//! The program `quern`: parses the command line, runs one command, and turns its outcome into an
//! exit code. Never prints results itself.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod arguments;
mod certificates;
mod client;
mod commands;
mod config;
mod failure;
mod gpus;
mod handover;
mod inputs;
mod interrupts;
mod lifecycle;
mod logging;
mod machine;
mod memory;
mod ort;
mod output;
mod project;
mod reload;
mod scaffold;
mod secrets_key;
mod signals;
mod sockets;
mod systemd;
mod wiring;

use arguments::{Arguments, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    silence_telemetry();
    let arguments = Arguments::parse();
    let json = arguments.json;
    let outcome = match arguments.command {
        // These confine themselves, with the threads that they start and no others: before there
        // are any.
        Command::DeviceWorker(_) => commands::device_worker::run(),
        Command::ParquetReader(_) => commands::parquet_reader::run(),
        _ => run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, json),
    }
}

fn run(mut arguments: Arguments) -> Result<()> {
    if let Command::Serve(serve) = &mut arguments.command {
        // It changes the environment, and standard input: before there is another thread.
        serve.inherit()?;
    }
    // Whoever needs TLS and does not say by whom it is computed takes this; nobody has before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("quern").build()?;
    let outcome = runtime.block_on(commands::run(arguments));
    // Dropping it would wait for work on blocking threads whose result nobody wants any more.
    runtime.shutdown_background();
    outcome
}

/// ONNX Runtime's library collects telemetry and leaves files of it, unless its environment says
/// otherwise; whoever wants it can say so there.
fn silence_telemetry() {
    const SWITCH: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(SWITCH).is_none() {
        // SAFETY: no other thread exists yet that could read the environment at the same time.
        unsafe { std::env::set_var(SWITCH, "1") };
    }
}
