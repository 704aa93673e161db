//! Watches for the signals that a server obeys. On a thread of its own, so that the second one that
//! says stop ends the process however busy all other threads are.

use std::{
    io::{self, IsTerminal as _},
    process,
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

/// What signals ask for, other than to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGHUP: read the configuration and the certificate again.
    Reload,
    /// SIGUSR2: hand over to a successor.
    HandOver,
}

/// What the signals ask for.
pub(crate) struct Signals {
    /// `true` since the first SIGINT or SIGTERM. The second ends the process.
    pub(crate) stop: watch::Receiver<bool>,
    /// What else is to be done. While one order waits, others like it are the same.
    pub(crate) orders: mpsc::Receiver<Order>,
}

/// Orders that wait at the same time.
const WAITING: usize = 2;

/// Begins to watch.
pub(crate) async fn watch() -> io::Result<Signals> {
    let (stop, stopped) = watch::channel(false);
    let (order, orders) = mpsc::channel(WAITING);
    let (ready, started) = oneshot::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = match runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            // Nobody is left to tell: the server's start was cancelled.
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            match Taken::take() {
                Ok(signals) => {
                    let _ = ready.send(Ok(()));
                    signals.obey(&stop, &order).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    started.await.unwrap_or_else(|_| Err(io::Error::other("the thread for signals is gone")))?;
    Ok(Signals { stop: stopped, orders })
}

/// The signals, taken from the system's default, which would end the process.
struct Taken {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    user: Signal,
    /// Whether there was a terminal at the start.
    on_terminal: bool,
}

/// What a signal means.
enum Meaning {
    Stop,
    Order(Order),
}

impl Taken {
    fn take() -> io::Result<Self> {
        // A write beyond the largest size that a file may have (`ulimit -f`) fails, and that is all.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
            on_terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Meaning {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Meaning::Stop,
            _ = self.terminate.recv() => Meaning::Stop,
            // The same signal says that the terminal is closed, which is a way to stop a program.
            _ = self.hang_up.recv() => match self.on_terminal && !io::stdin().is_terminal() {
                true => Meaning::Stop,
                false => Meaning::Order(Order::Reload),
            },
            _ = self.user.recv() => Meaning::Order(Order::HandOver),
        }
    }

    async fn obey(mut self, stop: &watch::Sender<bool>, orders: &mpsc::Sender<Order>) -> ! {
        loop {
            match self.next().await {
                // Full: what was ordered before is still to be done, this with it.
                Meaning::Order(order) => drop(orders.try_send(order)),
                Meaning::Stop if stop.send_replace(true) => {
                    tracing::warn!("stopped by a second signal");
                    process::exit(1);
                }
                Meaning::Stop => {}
            }
        }
    }
}
