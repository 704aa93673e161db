//! The server's end of one channel: asks, and waits for the answer without holding up a thread for
//! longer than it is told to.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixDatagram as BlockingSocket,
    },
    time::Duration,
};

use quern_process::socket;
use tokio::{io::Interest, net::UnixDatagram};

use super::protocol::{MAX_MESSAGE, Reply, Request};

pub(super) struct Channel {
    /// A connection that keeps messages apart; the type for datagrams is the nearest there is.
    socket: UnixDatagram,
    buffer: Vec<u8>,
    /// Whether an answer is outstanding: whoever asked last left before it came.
    asked: bool,
}

impl Channel {
    /// Within a runtime, whose threads then watch the socket.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = BlockingSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        Ok(Self { socket, buffer: vec![0; MAX_MESSAGE], asked: false })
    }

    /// Asks for something and returns the answer. For so long as `soon` says it looks for the answer
    /// all the time, unless others want to use the processor; then it sleeps until there is one.
    /// `InvalidInput` if the request is too long to be sent; after any other error the channel is
    /// of no more use.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
        soon: Duration,
    ) -> io::Result<Reply> {
        if self.asked {
            return Err(io::Error::other("another answer is outstanding"));
        }
        socket::send(&self.socket, request, file)?;
        self.asked = true;
        let receive = || socket::receive(&self.socket, &mut self.buffer);
        let reply = match socket::look(soon, receive) {
            // The runtime, which does not know of this, will say once more that there is something.
            Some(reply) => reply?,
            None => self.sleep().await?,
        };
        self.asked = false;
        Ok(reply)
    }

    /// Waits for the answer without holding up the thread.
    async fn sleep(&mut self) -> io::Result<Reply> {
        loop {
            self.socket.readable().await?;
            let receive = || socket::receive(&self.socket, &mut self.buffer);
            match self.socket.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::worker::protocol::ModelId;

    fn unload() -> Request {
        Request::Unload { model: ModelId(1) }
    }

    #[tokio::test]
    async fn each_request_gets_the_answer_to_it() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        let worker = std::thread::spawn(move || {
            let mut buffer = vec![0; MAX_MESSAGE];
            for bytes in 0..3 {
                let request: Request = socket::receive(&far, &mut buffer).expect("a request");
                assert_eq!(request, unload());
                socket::send(&far, &Reply::NoRoom { bytes }, None).expect("sends");
            }
        });
        for bytes in 0..3 {
            let reply = channel.ask(&unload(), None, Duration::ZERO).await.expect("an answer");
            assert_eq!(reply, Reply::NoRoom { bytes });
        }
        worker.join().expect("no panic");
    }

    #[tokio::test]
    async fn an_answer_that_comes_soon_is_taken_in_the_same_turn() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        let worker = std::thread::spawn(move || {
            let mut buffer = vec![0; MAX_MESSAGE];
            while let Ok(request) = socket::receive::<Request>(&far, &mut buffer) {
                assert_eq!(request, unload());
                socket::send(&far, &Reply::Done, None).expect("sends");
            }
        });
        for soon in [true, true, false, true, false] {
            let soon = if soon { Duration::from_secs(600) } else { Duration::ZERO };
            let request = unload();
            let answer = channel.ask(&request, None, soon);
            let answer = match soon {
                Duration::ZERO => answer.await,
                _ => answer.now_or_never().expect("in the first turn"),
            };
            assert_eq!(answer.expect("an answer"), Reply::Done);
        }
        drop(channel);
        worker.join().expect("no panic");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_never_taken_for_another() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        assert!(
            channel.ask(&unload(), None, Duration::ZERO).now_or_never().is_none(),
            "nobody answers"
        );
        socket::send(&far, &Reply::Done, None).expect("sends");
        let refused =
            channel.ask(&Request::Collect, None, Duration::ZERO).await.expect_err("out of step");
        assert_eq!(refused.to_string(), "another answer is outstanding");
    }

    #[tokio::test]
    async fn a_worker_that_goes_or_talks_nonsense_is_an_error() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        rustix::io::write(&far, &[0xff; 9]).expect("sends");
        let error = channel.ask(&unload(), None, Duration::ZERO).await.expect_err("nonsense");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        drop(far);
        let asked = channel.ask(&unload(), None, Duration::ZERO).await;
        assert_eq!(asked.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }
}
