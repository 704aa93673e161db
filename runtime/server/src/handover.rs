//! How a server hands over to its successor without a request being refused: the successor is
//! started beside it with the same sockets, makes itself ready, and opens the data folder when its
//! predecessor has let go of it. Connections wait meanwhile to be accepted. The two talk over a
//! socket that is the successor's standard input.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

mod predecessor;
mod successor;

pub(crate) use predecessor::Predecessor;
pub(crate) use successor::{HandOverError, Program, Successor};

/// Says to a process that its standard input is a predecessor's, and whose its sockets are.
const VARIABLE: &str = "QUERN_TAKES_OVER";
/// Sockets that listen where the configuration says.
const CONFIGURED: &str = "configured-sockets";
/// Sockets that systemd has opened.
const FIXED: &str = "fixed-sockets";
/// Most sockets that are handed over.
const MOST_SOCKETS: usize = 2;

/// What they tell each other, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// The predecessor's: here are the sockets.
    Sockets = b's' as isize,
    /// The successor's: it has all that it can have beside its predecessor.
    Prepared = b'p' as isize,
    /// The predecessor's: nothing runs any more, and the data folder is free.
    Released = b'r' as isize,
    /// The successor's: it serves.
    Serving = b'u' as isize,
}

impl Message {
    fn read(byte: u8) -> io::Result<Self> {
        let all = [Self::Sockets, Self::Prepared, Self::Released, Self::Serving];
        let found = all.into_iter().find(|message| *message as u8 == byte);
        found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an unknown message"))
    }
}

/// One end of what they talk over.
#[derive(Debug)]
struct Channel(UnixStream);

impl Channel {
    /// To be called in a runtime.
    fn new(socket: StdUnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Self)
    }

    async fn tell(&mut self, message: Message) -> io::Result<()> {
        self.0.write_all(&[message as u8]).await
    }

    /// Waits for this message; `UnexpectedEof` if the other end is gone.
    async fn hear(&mut self, expected: Message) -> io::Result<()> {
        let heard = Message::read(self.0.read_u8().await?)?;
        if heard == expected {
            return Ok(());
        }
        let problem = format!("{heard:?} came instead of {expected:?}");
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
    }
}

/// Whether the other end is gone, which a connection is told in several ways.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Sends sockets over a connection on which nothing was sent before.
fn send_sockets(connection: impl AsFd, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("there is no room for so many sockets"));
    }
    let message = [Message::Sockets as u8];
    sendmsg(connection, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives them.
fn receive_sockets(connection: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0];
    let mut into = [IoSliceMut::new(&mut message)];
    let received = recvmsg(connection, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match Message::read(message[0])? {
        Message::Sockets => Ok(files),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no sockets came")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_and_messages_arrive() {
        let (ours, theirs) = StdUnixStream::pair().expect("a pair");
        let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
        send_sockets(&ours, &sockets.each_ref().map(AsFd::as_fd)).expect("sent");
        let received = receive_sockets(&theirs).expect("received");
        let addresses = received.into_iter().map(|file| TcpListener::from(file).local_addr());
        for (found, sent) in addresses.zip(&sockets) {
            assert_eq!(found.expect("bound"), sent.local_addr().expect("bound"));
        }
        let [mut ours, mut theirs] =
            [ours, theirs].map(|socket| Channel::new(socket).expect("a channel"));
        theirs.tell(Message::Prepared).await.expect("sent");
        ours.hear(Message::Prepared).await.expect("heard");
        theirs.tell(Message::Prepared).await.expect("sent");
        let error = ours.hear(Message::Serving).await.expect_err("another message");
        assert_eq!(error.to_string(), "Prepared came instead of Serving");
        drop(theirs);
        let error = ours.hear(Message::Serving).await.expect_err("gone");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let (ours, theirs) = StdUnixStream::pair().expect("a pair");
        rustix::io::write(&ours, b"x").expect("sent");
        assert_eq!(receive_sockets(&theirs).expect_err("none").kind(), io::ErrorKind::InvalidData);
        rustix::io::write(&ours, b"p").expect("sent");
        assert_eq!(receive_sockets(&theirs).expect_err("none").kind(), io::ErrorKind::InvalidData);
        drop(ours);
        let error = receive_sockets(&theirs).expect_err("gone");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
