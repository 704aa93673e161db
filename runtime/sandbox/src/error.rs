//! Why sandboxes can't be set up. What goes wrong with a component, or with a request, has errors of
//! its own.

use std::path::PathBuf;

/// Why a sandbox, or a function in it, could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The WebAssembly engine refuses its configuration.
    #[error("the WebAssembly engine can't be configured: {0}")]
    Engine(String),
    /// The folder of compiled code can't be used.
    #[error("compiled code in {folder}: {source}")]
    Artifacts {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The code is there, but the function can't be linked.
    #[error("the function can't be linked: {0}")]
    Link(String),
    /// The threads that interrupt and run busy guests can't be started.
    #[error("the threads for busy guests can't be started: {0}")]
    Threads(std::io::Error),
    /// A metric is registered already.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// An error of wasmtime with its causes, on one line.
pub(crate) fn text(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}
