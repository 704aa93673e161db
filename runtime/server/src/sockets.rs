//! The sockets that a server listens on: those that it is given, and its own where it is given none.
//! It accepts nothing.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use listenfd::ListenFd;
use quern_gateway::{Listeners, Tls};
use tokio::net::TcpSocket;

use crate::{config::Server, failure::Failure};

/// Connections that wait to be accepted, as far as the system allows: as many as come while one
/// server takes over from another.
const BACKLOG: u32 = 4_096;

/// Sockets that listen.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For everything.
    pub(crate) http: TcpListener,
    /// For gRPC alone.
    pub(crate) grpc: Option<TcpListener>,
    /// Whether systemd has opened them: they say where to listen, and not the configuration.
    pub(crate) are_fixed: bool,
}

impl Sockets {
    /// Those that systemd has opened for this process, the one for gRPC second; none if it hasn't.
    /// To be called before there is another thread: the environment is changed.
    pub(crate) fn of_systemd() -> io::Result<Option<Self>> {
        let mut given = ListenFd::from_env();
        if given.len() > 2 {
            let problem =
                format!("systemd passes {} sockets: one for all, one for gRPC", given.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let Some(http) = given.take_tcp_listener(0)? else { return Ok(None) };
        let grpc = given.take_tcp_listener(1)?;
        Ok(Some(Self { http, grpc, are_fixed: true }))
    }

    /// Those that were passed on, in the order of [`Sockets::files`].
    pub(crate) fn received(
        files: impl IntoIterator<Item = OwnedFd>,
        are_fixed: bool,
    ) -> Option<Self> {
        let mut sockets = files.into_iter().map(TcpListener::from);
        Some(Self { http: sockets.next()?, grpc: sockets.next(), are_fixed })
    }

    /// Those of a server of this configuration: of what is given, what listens where it says, and
    /// others where there is none.
    pub(crate) fn open(given: Option<Self>, server: &Server) -> Result<Self, Failure> {
        let are_fixed = given.as_ref().is_some_and(|given| given.are_fixed);
        let (http, grpc) = given.map_or((None, None), |given| (Some(given.http), given.grpc));
        let http = take(http, server.listen, "--listen")?;
        let grpc = server.grpc_listen.map(|address| take(grpc, address, "--grpc-listen"));
        Ok(Self { http, grpc: grpc.transpose()?, are_fixed })
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, Option<SocketAddr>)> {
        let grpc = self.grpc.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok((self.http.local_addr()?, grpc))
    }

    /// To be passed on.
    pub(crate) fn files(&self) -> Vec<BorrowedFd<'_>> {
        let all = [Some(&self.http), self.grpc.as_ref()];
        all.into_iter().flatten().map(|socket| socket.as_fd()).collect()
    }

    /// The same sockets, to accept connections from.
    pub(crate) fn listeners(&self, tls: Option<Arc<Tls>>) -> io::Result<Listeners> {
        let of = |socket: &TcpListener| {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket)
        };
        let grpc = self.grpc.as_ref().map(of).transpose()?;
        Ok(Listeners { http: of(&self.http)?, grpc, tls })
    }
}

/// What is given if it listens there, or a new one.
fn take(
    given: Option<TcpListener>,
    wanted: SocketAddr,
    flag: &str,
) -> Result<TcpListener, Failure> {
    let fits = |socket: &TcpListener| {
        let found = socket.local_addr();
        found.is_ok_and(|found| found == wanted || wanted.port() == 0 && found.ip() == wanted.ip())
    };
    match given.filter(fits) {
        Some(socket) => Ok(socket),
        None => bind(wanted).map_err(|error| Failure {
            message: format!("can't listen on {wanted}: {error}"),
            hint: format!("is another server running there? choose another port with {flag}"),
        }),
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(listen: SocketAddr, grpc_listen: Option<SocketAddr>) -> Server {
        Server { listen, grpc_listen, ..Server::default() }
    }

    #[tokio::test]
    async fn what_is_given_is_used_where_it_listens_as_configured() {
        let free: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let first = Sockets::open(None, &server(free, Some(free))).expect("free ports");
        let (http, grpc) = first.addresses().expect("bound");
        let grpc = grpc.expect("was asked for");
        let again = || {
            let files = first.files().into_iter();
            Sockets::received(files.map(|file| file.try_clone_to_owned().expect("open")), false)
        };
        for (listen, grpc_listen) in [(free, Some(free)), (http, Some(grpc)), (http, None)] {
            let sockets = Sockets::open(again(), &server(listen, grpc_listen)).expect("given");
            assert_eq!(sockets.addresses().expect("bound"), (http, grpc_listen.map(|_| grpc)));
        }
        // Another address takes another socket, which is free as these are gRPC's.
        let other: SocketAddr = "127.0.0.2:0".parse().expect("an address");
        let moved = Sockets::open(again(), &server(other, None)).expect("a free port");
        assert_eq!(moved.addresses().expect("bound").0.ip(), other.ip());
        let taken = Sockets::open(None, &server(http, None)).expect_err("it is in use");
        assert!(taken.message.contains("can't listen on"), "{}", taken.message);
        assert!(Sockets::received([], false).is_none());
    }
}
