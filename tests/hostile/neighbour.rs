//! A well-behaved function under a light and constant load: it must not notice what goes on
//! beside it, but for the time that it takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::support::{Guest, Server};

const HELLO: Guest = Guest::function("hello");
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls under way, one after the other, until they are ended.
pub(crate) struct Neighbour {
    ended: Arc<AtomicBool>,
    calls: JoinHandle<u64>,
}

impl Neighbour {
    /// Deploys the function and begins to call it.
    pub(crate) async fn start(server: &Server) -> Self {
        server.deploy(&HELLO).await;
        let url = format!("{}/f/hello/", server.url());
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let calls = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let response = client.get(&url).timeout(PATIENCE).send().await;
                let response = response.expect("the neighbour is answered");
                let status = response.status();
                let text = response.text().await.expect("a whole answer");
                assert_eq!((status.as_u16(), &*text), (200, "hello\n"), "after {count} calls");
                count += 1;
                tokio::time::sleep(PAUSE).await;
            }
            count
        });
        Self { ended, calls }
    }

    /// Ends the calls; asserts that there were some, and that each was answered.
    pub(crate) async fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        let count = self.calls.await.expect("the neighbour was served throughout");
        assert!(count > 0, "the neighbour was never answered");
    }
}
