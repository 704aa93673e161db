//! A way to have a read end from another thread, also one that waits.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Ends the read that was begun with it, or that will be.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    stream: Option<UnixStream>,
}

impl Stop {
    /// Has the read end now.
    pub fn stop(&self) {
        let mut state = self.state();
        state.is_stopped = true;
        if let Some(stream) = state.stream.take() {
            // One that is closed already has nobody who waits.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether it was to end.
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Lets a stream be ended; false if that is so already.
    pub(crate) fn watch(&self, stream: UnixStream) -> bool {
        let mut state = self.state();
        if !state.is_stopped {
            state.stream = Some(stream);
        }
        !state.is_stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn whoever_waits_is_woken() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let stop = Stop::default();
        assert!(stop.watch(near.try_clone().expect("another")));
        let stopping = std::thread::spawn({
            let stop = stop.clone();
            move || stop.stop()
        });
        assert_eq!(near.read(&mut [0]).expect("the end"), 0);
        stopping.join().expect("stops");
        assert!(stop.is_stopped() && !stop.watch(far));
    }
}
