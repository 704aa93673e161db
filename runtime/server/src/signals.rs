//! Watches for the signals that stop a server. On a thread of its own, so that the second one ends
//! the process however busy all other threads are.

use std::{io, process};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

/// Turns the first SIGINT or SIGTERM into `true`; the second ends the process.
pub(crate) async fn watch() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let (ready, started) = oneshot::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = match runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            // Nobody is left to tell: the server's start was cancelled.
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            match Signals::take() {
                Ok(signals) => {
                    let _ = ready.send(Ok(()));
                    signals.obey(&stop).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    started.await.unwrap_or_else(|_| Err(io::Error::other("the thread for signals is gone")))?;
    Ok(stopped)
}

/// The signals that mean stop, taken from the system's default, which would end the process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn take() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn obey(mut self, stop: &watch::Sender<bool>) -> ! {
        self.next().await;
        stop.send_replace(true);
        self.next().await;
        tracing::warn!("stopped by a second signal");
        process::exit(1);
    }
}
