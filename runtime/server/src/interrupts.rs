//! Ctrl-C, and the signal that asks a process to end, for commands that leave nothing half done behind.
//! What may block is done on threads that nobody waits for: they end with the process.

use std::{future::Future, io};

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals, which don't end the process as long as this lives, nor after.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Takes the signals.
    pub(crate) fn take() -> io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    /// Does something to its end; none if a signal came before, with which it is dropped. It must not
    /// block.
    pub(crate) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => None,
            _ = self.terminate.recv() => None,
            done = work => Some(done),
        }
    }
}

/// Does what may block on a thread of its own.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::process::{Signal as Sent, getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_ends_what_blocks_for_good() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("starts");
        runtime.block_on(async {
            let mut interrupts = Interrupts::take().expect("taken");
            for sent in [Sent::INT, Sent::TERM] {
                let (begins, begun) = tokio::sync::oneshot::channel();
                let (_hold, blocks) = mpsc::channel::<()>();
                let blocked = on_a_thread(move || {
                    let _ = begins.send(());
                    Ok(blocks.recv()?)
                });
                let signalled = async {
                    begun.await.expect("it begins");
                    kill_process(getpid(), sent).expect("sent");
                    std::future::pending::<()>().await;
                };
                let both = async { tokio::join!(blocked, signalled).0 };
                assert!(interrupts.unless(both).await.is_none(), "{sent:?}");
            }
            let done = interrupts.unless(on_a_thread(|| Ok(7))).await;
            assert_eq!(done.expect("no signal came").expect("no error"), 7);
        });
        runtime.shutdown_background();
    }
}
