//! `wasi:logging`: a function's messages to its log, in order with what it prints.

use quern_types::LogLevel;
use wasmtime::component::{HasData, Linker};

use self::generated::wasi::logging::logging::{self, Level};
use crate::{output::Capture, state::State};

mod generated {
    //! Bindings of the interface.

    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quern:host;
            world logs {
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
        world: "quern:host/logs",
        imports: { default: trappable },
    });
}

struct Logging;

impl HasData for Logging {
    type Data<'a> = &'a mut Capture;
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    logging::add_to_linker::<State, Logging>(linker, State::log)
}

impl logging::Host for Capture {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Critical => LogLevel::Critical,
        };
        Capture::log(self, level, context, message);
        Ok(())
    }
}
