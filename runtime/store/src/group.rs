//! The thread of a writer: takes what is queued together, so that one commit serves many. Never
//! knows what is queued.

use std::{io, thread::JoinHandle};

use tokio::sync::mpsc;

/// Starts a thread that hands on what is queued, up to `most` at once. It ends when all senders
/// are gone and the queue is empty.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    most: usize,
    mut queue: mpsc::Receiver<T>,
    mut write: impl FnMut(Vec<T>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        while let Some(first) = queue.blocking_recv() {
            let mut group = vec![first];
            while group.len() < most
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            write(group);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::*;

    #[test]
    fn what_waits_is_taken_together_and_to_its_end() {
        let (sender, queue) = mpsc::channel(8);
        for number in 0..5 {
            sender.try_send(number).expect("room");
        }
        drop(sender);
        let (groups, seen) = std_mpsc::channel();
        let thread = start("test", 2, queue, move |group| groups.send(group).expect("is awaited"));
        thread.expect("starts").join().expect("ends");
        assert_eq!(seen.iter().collect::<Vec<_>>(), [vec![0, 1], vec![2, 3], vec![4]]);
    }
}
