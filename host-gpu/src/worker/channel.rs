//! The server's end of one channel: asks, and waits for the answer without holding up a thread.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixDatagram as BlockingSocket,
    },
};

use tokio::{io::Interest, net::UnixDatagram};

use super::{
    protocol::{MAX_MESSAGE, Reply, Request},
    socket,
};

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

    /// Asks for something and returns the answer. `InvalidInput` if the request is too long to be
    /// sent; after any other error the channel is of no more use.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
    ) -> io::Result<Reply> {
        if self.asked {
            return Err(io::Error::other("another answer is outstanding"));
        }
        socket::send(&self.socket, request, file)?;
        self.asked = true;
        let reply = loop {
            self.socket.readable().await?;
            let receive = || socket::receive(&self.socket, &mut self.buffer);
            match self.socket.try_io(Interest::READABLE, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => break received?,
            }
        };
        self.asked = false;
        Ok(reply)
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
            let reply = channel.ask(&unload(), None).await.expect("an answer");
            assert_eq!(reply, Reply::NoRoom { bytes });
        }
        worker.join().expect("no panic");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waited_for_is_never_taken_for_another() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        assert!(channel.ask(&unload(), None).now_or_never().is_none(), "nobody answers");
        socket::send(&far, &Reply::Done, None).expect("sends");
        let refused = channel.ask(&Request::Collect, None).await.expect_err("out of step");
        assert_eq!(refused.to_string(), "another answer is outstanding");
    }

    #[tokio::test]
    async fn a_worker_that_goes_or_talks_nonsense_is_an_error() {
        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        rustix::io::write(&far, &[0xff; 9]).expect("sends");
        let error = channel.ask(&unload(), None).await.expect_err("nonsense");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        let (near, far) = socket::pair().expect("a pair");
        let mut channel = Channel::new(near).expect("a channel");
        drop(far);
        let asked = channel.ask(&unload(), None).await;
        assert_eq!(asked.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }
}
