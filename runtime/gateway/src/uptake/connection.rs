//! What the streams of a connection take together, and which of them is to blame where one takes too
//! little. Never looks at a clock, and ends nothing itself.
//!
//! A stream may wait for its client because that does not take what is there, or because others have
//! used up the window that all of them share (RFC 9113, section 5.2.1). Which it is can't be seen, but
//! told by how the connection fares meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::stall::PIECE;

/// Pieces for each of its streams that a connection takes at most until all have had their turn: h2
/// shares the window out in turns of a piece, if the window opens by that much at once. Two more are on
/// their way when they are counted, and one is for good measure.
const TURN: u64 = 4;

/// A connection, as its streams see it together.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Those that there are.
    streams: AtomicU64,
    /// Bytes of answers that the client has taken.
    taken: AtomicU64,
    /// Streams that were ended since nothing was taken.
    ended: AtomicU64,
}

/// A stream that waits for its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// What there was when it began to.
    streams: u64,
    begun: u64,
    /// What there was when it was last judged.
    looked: u64,
    ended: u64,
    /// Whether another one was ended then, in the hope that this helps.
    is_spared: bool,
}

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may wait for the same time again.
    Waits,
    /// It is ended.
    Ends,
}

impl Connection {
    pub(super) fn stream_begins(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    pub(super) fn stream_ends(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    /// Notes what the client has taken of any stream.
    pub(super) fn took(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Relaxed);
    }

    /// Begins a wait of one of its streams.
    pub(super) fn wait(&self) -> Wait {
        let (taken, ended) = (self.taken.load(Relaxed), self.ended.load(Relaxed));
        let streams = self.streams.load(Relaxed).max(1);
        Wait { streams, begun: taken, looked: taken, ended, is_spared: false }
    }

    /// Judges a stream that has waited for as long as it may, each time that it has.
    pub(super) fn judge(&self, wait: &mut Wait) -> Verdict {
        let taken = self.taken.load(Relaxed);
        // Its turn has come, and it did not take it.
        if taken - wait.begun >= wait.streams * TURN * PIECE as u64 {
            return Verdict::Ends;
        }
        let looked = std::mem::replace(&mut wait.looked, taken);
        if taken - looked >= PIECE as u64 {
            wait.is_spared = false;
            wait.ended = self.ended.load(Relaxed);
            return Verdict::Waits;
        }
        // Nothing is taken of the whole connection. Who has waited longest comes here first, and most
        // likely holds what the others wait for. If its end doesn't help, the client is gone for all.
        if wait.is_spared {
            return Verdict::Ends;
        }
        match self.ended.compare_exchange(wait.ended, wait.ended + 1, Relaxed, Relaxed) {
            Ok(_) => Verdict::Ends,
            Err(ended) => {
                (wait.ended, wait.is_spared) = (ended, true);
                Verdict::Waits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Ends, Waits},
        *,
    };

    const LITTLE: u64 = PIECE as u64 - 1;
    const ENOUGH: u64 = PIECE as u64;

    fn connection(streams: u64) -> Connection {
        let connection = Connection::default();
        (0..streams).for_each(|_| connection.stream_begins());
        connection
    }

    #[test]
    fn where_nothing_is_taken_who_has_waited_longest_ends_first_and_then_all() {
        for taken in [0, LITTLE] {
            let connection = connection(3);
            let [mut first, mut second, mut third] = [(); 3].map(|()| connection.wait());
            connection.took(taken);
            let verdicts = [&mut first, &mut second, &mut third].map(|wait| connection.judge(wait));
            assert_eq!(verdicts, [Ends, Waits, Waits]);
            // One that came later has not waited for as long as the others.
            let mut later = connection.wait();
            let verdicts = [&mut second, &mut third].map(|wait| connection.judge(wait));
            assert_eq!(verdicts, [Ends, Ends], "its end did not help");
            assert_eq!(connection.judge(&mut later), Ends, "nor that of the others");
        }
    }

    #[test]
    fn an_end_that_helps_is_the_only_one() {
        let connection = connection(2);
        let (mut paused, mut other) = (connection.wait(), connection.wait());
        assert_eq!((connection.judge(&mut paused), connection.judge(&mut other)), (Ends, Waits));
        connection.stream_ends();
        for _ in 0..3 {
            connection.took(ENOUGH);
            assert_eq!(connection.judge(&mut other), Waits);
        }
        // And then it is the one that is paused.
        assert_eq!(connection.judge(&mut other), Ends);
    }

    #[test]
    fn a_slow_connection_serves_all_of_its_streams() {
        let connection = connection(100);
        let mut waits = [connection.wait(); 100];
        for round in 0..30 {
            // Each has its turn once in ten times.
            connection.took(10 * ENOUGH);
            for (stream, wait) in waits.iter_mut().enumerate() {
                match stream / 10 == round % 10 {
                    true => *wait = connection.wait(),
                    false => assert_eq!(connection.judge(wait), Waits, "{stream} in {round}"),
                }
            }
        }
    }

    #[test]
    fn a_stream_that_lets_its_turns_pass_ends_though_others_go_on() {
        let connection = connection(2);
        let mut paused = connection.wait();
        let mut rounds = 0;
        loop {
            connection.took(ENOUGH);
            rounds += 1;
            if connection.judge(&mut paused) == Ends {
                break;
            }
        }
        assert_eq!(rounds, 2 * TURN);
    }

    #[test]
    fn a_stream_alone_ends_at_once() {
        let connection = connection(1);
        let mut wait = connection.wait();
        assert_eq!(connection.judge(&mut wait), Ends);
        // Before its task was counted, if ever.
        assert_eq!(Connection::default().judge(&mut Connection::default().wait()), Ends);
    }
}
