//! Work that takes long and that nobody waits for, off the async threads. What it is, and when there
//! is too much of it for them, is others' business.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore};

/// Does something when its turn comes: first among what there is of its function, so that one
/// function waits once among all, however much it has. What holds the server from stopping, and the
/// function from running more requests, belongs inside.
pub(crate) fn aside(turns: [Arc<Semaphore>; 2], work: impl FnOnce() + Send + 'static) {
    // While the runtime ends there are no others to wait.
    let Ok(runtime) = Handle::try_current() else { return work() };
    runtime.spawn(async move {
        let [own, all] = turns;
        let _turns = (own.acquire_owned().await, all.acquire_owned().await);
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "what a guest printed is lost");
        }
    });
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::sync::mpsc;

    use super::*;

    fn turns(of: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(of))
    }

    #[tokio::test]
    async fn what_takes_long_is_done_elsewhere_and_in_turns() {
        let (own, all) = (turns(1), turns(2));
        let (done, mut ended) = mpsc::unbounded_channel();
        let work = |name: &'static str| {
            let done = done.clone();
            move || done.send((name, thread::current().id())).expect("somebody waits")
        };
        let busy = own.clone().acquire_owned().await.expect("never closed");
        aside([own.clone(), all.clone()], work("one of a function that has its turn"));
        aside([turns(1), all.clone()], work("of another"));
        let (first, place) = ended.recv().await.expect("it is done");
        assert_eq!(first, "of another", "it does not wait for a function that has too much");
        assert_ne!(place, thread::current().id());
        assert!(ended.try_recv().is_err());
        drop(busy);
        let (second, _) = ended.recv().await.expect("it is done");
        assert_eq!(second, "one of a function that has its turn");
    }

    #[test]
    fn without_a_runtime_it_is_done_at_once() {
        let mut done = false;
        thread::scope(|scope| {
            let (told, tells) = std::sync::mpsc::channel();
            scope.spawn(move || aside([turns(0), turns(0)], move || told.send(()).expect("heard")));
            done = tells.recv().is_ok();
        });
        assert!(done);
    }
}
