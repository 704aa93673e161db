//! The life of a server that listens: it serves, obeys signals, and stops, or hands over to its
//! successor. It builds no server.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use quern_gateway::Trouble;
use quern_host_gpu::RemoteDevice;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    handover::{HandOverError, Program, Successor},
    reload::Reloader,
    signals::{Order, Signals},
    sockets::Sockets,
    systemd,
    wiring::Parts,
};

/// Time for the last spans of traces to be sent, once all requests have ended.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// What outlives the parts of a server, which are built anew where a successor fails.
pub(crate) struct Lifecycle {
    /// None once it has stopped: whoever connects is refused.
    sockets: Option<Sockets>,
    program: Program,
    signals: Signals,
}

/// How a server has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    /// Its successor serves.
    HandedOver,
    /// Its successor was to serve, and failed: it is to serve again.
    TakenBack,
}

impl Lifecycle {
    pub(crate) fn new(sockets: Sockets, program: Program, signals: Signals) -> Self {
        Self { sockets: Some(sockets), program, signals }
    }

    /// Waits until the server is told to stop.
    pub(crate) async fn stopped(&self) {
        stopped(self.signals.stop.clone()).await;
    }

    /// Serves until a signal says otherwise and all that was begun is done, within the time for
    /// that. The data folder is closed afterwards.
    pub(crate) async fn serve(
        &mut self,
        parts: &Parts,
        reloader: &mut Reloader,
    ) -> io::Result<End> {
        let Some(sockets) = &self.sockets else { return Ok(End::Stopped) };
        let (close, closed) = oneshot::channel::<()>();
        let listeners = sockets.listeners(reloader.tls())?;
        let serving = tokio::spawn(Arc::clone(&parts.gateway).serve(listeners, async {
            // Nothing is ever sent: its end says it.
            let _ = closed.await;
        }));
        let successor = self.obey(&parts.gateway, reloader).await;
        if successor.is_none() {
            systemd::stopping();
            self.sockets = None;
        }
        drop(close);
        let limit = reloader.drain_timeout();
        drain(parts, serving, limit).await;
        match successor {
            None => Ok(End::Stopped),
            Some(successor) => Ok(self.hand_over(successor).await),
        }
    }

    /// Does what signals say until the server is to stop, or a successor is prepared.
    async fn obey(
        &mut self,
        gateway: &quern_gateway::Gateway,
        reloader: &mut Reloader,
    ) -> Option<Successor> {
        let Self { sockets, program, signals: Signals { stop, orders } } = self;
        let sockets = sockets.as_ref()?;
        loop {
            let order = tokio::select! {
                biased;
                () = stopped(stop.clone()) => return None,
                Some(order) = orders.recv() => order,
                () = reloader.follow_certificate() => continue,
            };
            systemd::reloading();
            match order {
                Order::Reload => reloader.reload(),
                Order::HandOver => {
                    tracing::info!("starting a successor: this server serves until it is prepared");
                    let prepared = tokio::select! {
                        biased;
                        () = stopped(stop.clone()) => return None,
                        prepared = successor(program, sockets) => prepared,
                    };
                    match prepared {
                        Ok(successor) => return Some(successor),
                        Err(error) => {
                            tracing::error!(%error, "no successor: this server goes on");
                            gateway.set_trouble(Trouble::Restart, true);
                        }
                    }
                }
            }
            systemd::ready();
        }
    }

    /// Has a successor serve, now that nothing runs here any more.
    async fn hand_over(&self, mut successor: Successor) -> End {
        let outcome = tokio::select! {
            biased;
            () = self.stopped() => None,
            outcome = successor.take_over() => Some(outcome),
        };
        match outcome {
            Some(Ok(())) => {
                tracing::info!(successor = successor.id(), "handed over");
                systemd::is_now(successor.id());
                successor.leave();
                End::HandedOver
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the successor failed: this server serves again");
                successor.end().await;
                End::TakenBack
            }
            None => {
                systemd::stopping();
                successor.end().await;
                End::Stopped
            }
        }
    }
}

async fn successor(program: &Program, sockets: &Sockets) -> Result<Successor, HandOverError> {
    let mut successor = Successor::start(program, sockets)?;
    match successor.prepared().await {
        Ok(()) => Ok(successor),
        Err(error) => {
            successor.end().await;
            Err(error)
        }
    }
}

/// Finishes what was begun, within a time, and closes the data folder.
async fn drain(parts: &Parts, serving: JoinHandle<()>, limit: Duration) {
    let Parts { deployer, dispatcher, scoring, jobs, store, worker, gpus, exporter, .. } = parts;
    tracing::info!(?limit, "no more requests are taken: those that run may finish");
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
    match tokio::time::timeout(limit, drained).await {
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
    gpus.iter().for_each(RemoteDevice::stop);
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives as long as the process: its end means stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
