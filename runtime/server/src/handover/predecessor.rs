//! The server that this one takes over from.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use rustix::stdio::{dup2_stdin, stdin};

use super::{Channel, FIXED, Message, VARIABLE, is_end, receive_sockets};
use crate::sockets::Sockets;

/// A server that hands over to this one.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: UnixStream,
    sockets: Sockets,
}

/// What is still to be told to it.
#[derive(Debug)]
pub(crate) struct Leaving(Channel);

impl Predecessor {
    /// The one that has started this process; none if it was started by anybody else. Standard
    /// input is nothing's afterwards.
    pub(crate) fn of_this_process() -> io::Result<Option<Self>> {
        let Some(kind) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let socket = UnixStream::from(stdin().try_clone_to_owned()?);
        dup2_stdin(File::open("/dev/null")?)?;
        let sockets = receive_sockets(socket.as_fd())?;
        let sockets = Sockets::received(sockets, kind == FIXED)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no socket came"))?;
        Ok(Some(Self { socket, sockets }))
    }

    /// Where it listens.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Its sockets, and the way to tell it that this server goes on.
    pub(crate) fn meet(self) -> io::Result<(Sockets, Leaving)> {
        Ok((self.sockets, Leaving(Channel::new(self.socket)?)))
    }
}

impl Leaving {
    /// Says that this server is prepared, and waits until the other one has let go of the data
    /// folder, also by having ended.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        let said = async {
            self.0.tell(Message::Prepared).await?;
            self.0.hear(Message::Released).await
        };
        match said.await {
            Err(error) if is_end(&error) => {
                tracing::warn!("the server that was to hand over has ended before it did");
                Ok(())
            }
            said => said,
        }
    }

    /// Says that this server serves.
    pub(crate) async fn take_over(mut self) {
        // If it has ended, it need not be told.
        let _ = self.0.tell(Message::Serving).await;
    }
}
