//! The program `quern`: parses the command line, runs one command, and turns its outcome into an
//! exit code. Never prints results itself.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod client;
mod commands;
mod failure;
mod inputs;
mod ort;
mod output;
mod project;
mod scaffold;
mod wiring;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let json = arguments.json;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("quern").build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(commands::run(arguments));
        // Dropping it would wait for work on blocking threads whose result nobody wants any more.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, json),
    }
}
