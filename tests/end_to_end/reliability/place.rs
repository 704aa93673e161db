//! Where the server is to be found: at another address after each kill, and nowhere in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::RequestBuilder;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use crate::{
    faults::simulator::Simulator,
    support::{Answer, Server},
};

/// How long an answer may take, whatever else the machine does: a request that hangs is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder, and the server that has it at the moment.
pub(super) struct Place {
    pub(super) simulator: Simulator,
    server: watch::Sender<Option<Arc<Server>>>,
    /// Counted before each kill, so that whoever was cut off knows by what.
    kills: AtomicU64,
    closed: AtomicBool,
}

impl Place {
    pub(super) fn new() -> Self {
        let simulator = Simulator::new();
        // A kill counts as a try of what runs: with few of them, some calls would rightly be given
        // up.
        let options = "[deploy]\nkeep_versions = 1000000\n[async]\nattempts = 1000\nmax_attempts = 1000\n\
                       first_pause = '10ms'\nlongest_pause = '50ms'\n";
        std::fs::write(simulator.data().path().join("quern.toml"), options).expect("written");
        Self {
            simulator,
            server: watch::Sender::new(None),
            kills: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Starts a server on the folder.
    pub(super) fn open(&self) {
        let file = self.simulator.data().path().join("quern.toml");
        let server = self.simulator.start(&["--config", file.to_str().expect("text")]);
        self.server.send_replace(Some(Arc::new(server)));
    }

    /// Ends the server as a power cut would.
    pub(super) fn kill(&self) {
        let server = self.server.send_replace(None).expect("is open");
        self.kills.fetch_add(1, Ordering::SeqCst);
        let process = Pid::from_raw(server.process_id().cast_signed()).expect("has an id");
        kill_process(process, Signal::KILL).expect("is running");
        // Its folder is locked until it is gone; whoever still holds it collects its status.
        let is_over = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(process), is_over).expect("is a child");
    }

    /// Tells everybody to come to an end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The server, as soon as there is one.
    pub(super) async fn server(&self) -> Arc<Server> {
        let mut changes = self.server.subscribe();
        let server = changes.wait_for(Option::is_some).await.expect("the place is there");
        server.clone().expect("was waited for")
    }

    /// Sends a request to the server of the moment. None: it was killed before the answer was
    /// whole. Panics if a request comes to nothing without that.
    pub(super) async fn send(
        &self,
        request: impl FnOnce(&Server) -> RequestBuilder,
    ) -> Option<Answer> {
        let server = self.server().await;
        let kills = self.kills.load(Ordering::SeqCst);
        let sent = async {
            let response = request(&server).timeout(PATIENCE).send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?.to_vec();
            Ok::<_, reqwest::Error>(Answer { status, headers, body })
        };
        match sent.await {
            Ok(answer) => Some(answer),
            // The server may have been taken from its place before the kills were counted here.
            Err(_) if self.kills.load(Ordering::SeqCst) > kills || self.is_gone(&server) => None,
            Err(error) => panic!("a request came to nothing without a kill: {error:?}"),
        }
    }

    fn is_gone(&self, server: &Arc<Server>) -> bool {
        !self.server.borrow().as_ref().is_some_and(|now| Arc::ptr_eq(now, server))
    }
}
