//! What systemd, if it has started this server, is told of it. Without systemd nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// That the server takes requests; also after it has reloaded.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// That the server reads its configuration again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// That the server finishes what it has begun, and ends.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells systemd in time, again and again, that the runtime still has its turns, if it is asked
/// to. A server that doesn't is started anew.
pub(crate) fn keep_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let pause = limit / 2;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(pause.max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            notify(&[NotifyState::Watchdog]);
        }
    });
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd can't be told how the server fares");
    }
}
