//! Messages over the sockets between the server and a process that it has started, each sent and
//! received as a whole, and the open files that go with them. Waits only where the socket does.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message, which both ends hold a buffer for. What a system allows a message between
/// processes is about 200 KiB.
pub const MAX_MESSAGE: usize = 128 << 10;

/// Two ends of a connection that keeps messages apart. Neither is inherited by other programs.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends a message, and an open file with it.
pub fn send<M: Serialize>(
    socket: impl AsFd,
    message: &M,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    send_bytes(socket, &bytes, file)
}

/// Sends a message that is encoded already, and an open file with it. `InvalidInput` if it is too
/// long.
pub fn send_bytes(socket: impl AsFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, too_long()));
    }
    let files = file.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("there is no room for a file"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message; files that come with it are dropped. `UnexpectedEof` if the other end is
/// gone, `InvalidData` if it is no such message.
pub fn receive<M: DeserializeOwned>(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<M> {
    // Without room for files, the system takes none in.
    let control = &mut RecvAncillaryBuffer::default();
    let length = receive_into(socket, buffer, control, RecvFlags::empty())?;
    decoded(&buffer[..length])
}

/// The same if there is a message; `WouldBlock` if not.
pub fn try_receive<M: DeserializeOwned>(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<M> {
    let control = &mut RecvAncillaryBuffer::default();
    let length = receive_into(socket, buffer, control, RecvFlags::DONTWAIT)?;
    decoded(&buffer[..length])
}

/// Receives a message, and the file with it if there is one.
pub fn receive_with_file<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(M, Option<OwnedFd>)> {
    receive_with(socket, buffer, RecvFlags::empty())
}

/// The same if there is a message; `WouldBlock` if not.
pub fn try_receive_with_file<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(M, Option<OwnedFd>)> {
    receive_with(socket, buffer, RecvFlags::DONTWAIT)
}

/// Receives a message as it is: how long it is in the buffer, and the file with it.
pub fn receive_bytes(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    receive_bytes_with(socket, buffer, RecvFlags::empty())
}

/// The same if there is a message; `WouldBlock` if not.
pub fn try_receive_bytes(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    receive_bytes_with(socket, buffer, RecvFlags::DONTWAIT)
}

fn receive_with<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(M, Option<OwnedFd>)> {
    let (length, file) = receive_bytes_with(socket, buffer, flags)?;
    Ok((decoded(&buffer[..length])?, file))
}

fn receive_bytes_with(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = receive_into(socket, buffer, &mut control, flags)?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok((length, files.flatten().next()))
}

/// Tries to receive again and again for so long, letting others that want the processor go first;
/// none if nothing came. What comes soon need not wake anybody up then.
pub fn look<T>(
    patience: Duration,
    mut receive: impl FnMut() -> io::Result<T>,
) -> Option<io::Result<T>> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        match receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            received => return Some(received),
        }
    }
    None
}

/// Whether there is nobody at the other end any more.
pub fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn receive_into(
    socket: impl AsFd,
    buffer: &mut [u8],
    control: &mut RecvAncillaryBuffer<'_>,
    flags: RecvFlags,
) -> io::Result<usize> {
    let mut into = [IoSliceMut::new(buffer)];
    let received = loop {
        match recvmsg(&socket, &mut into, control, RecvFlags::CMSG_CLOEXEC | flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(invalid(too_long()));
    }
    match received.bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => Ok(length.min(buffer.len())),
    }
}

fn decoded<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(invalid(format!("a message has {} bytes too many", rest.len()))),
        Err(error) => Err(invalid(format!("a message can't be read: {error}"))),
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn too_long() -> String {
    format!("a message takes more than {MAX_MESSAGE} bytes")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn buffer() -> Vec<u8> {
        vec![0; MAX_MESSAGE]
    }

    #[test]
    fn messages_arrive_apart_and_in_order() {
        let (near, far) = pair().expect("a pair");
        for number in [1u64, 300, 0] {
            send(&near, &number, None).expect("sends");
        }
        for number in [1u64, 300, 0] {
            assert_eq!(receive::<u64>(&far, &mut buffer()).expect("receives"), number);
        }
    }

    #[test]
    fn a_file_goes_with_its_message() {
        let (near, far) = pair().expect("a pair");
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        send(&near, &1u8, Some(writer.as_fd())).expect("sends");
        let (_, file) = receive_with_file::<u8>(&far, &mut buffer()).expect("receives");
        let mut passed = std::fs::File::from(file.expect("a file"));
        passed.write_all(b"both ").expect("writes");
        writer.write_all(b"ends").expect("writes");
        drop((passed, writer));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "both ends");
    }

    #[test]
    fn a_look_takes_what_comes_and_gives_up_where_nothing_does() {
        let (near, far) = pair().expect("a pair");
        let mut buffer = buffer();
        let mut look = |patience| {
            let receive = || try_receive_with_file::<u8>(&far, &mut buffer);
            look(patience, receive).map(|received| received.map(|(number, _)| number))
        };
        assert!(look(Duration::from_millis(1)).is_none());
        let later = thread::spawn(move || {
            send(&near, &7u8, None).expect("sends");
            near
        });
        let patience = Duration::from_secs(600);
        assert_eq!(look(patience).expect("comes").expect("a message"), 7);
        assert!(look(Duration::ZERO).is_none());
        drop(later.join().expect("no panic"));
        let end = look(patience).expect("is seen").expect_err("nobody is there");
        assert!(is_end(&end), "{end}");
    }

    #[test]
    fn whoever_takes_no_files_gets_none() {
        let (near, far) = pair().expect("a pair");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        send(&near, &1u8, Some(writer.as_fd())).expect("sends");
        assert_eq!(receive::<u8>(&far, &mut buffer()).expect("receives"), 1);
        drop(writer);
        // Nobody holds the other end of the pipe any more.
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (near, far) = pair().expect("a pair");
        let received = |far: &OwnedFd| {
            let error = receive::<bool>(far, &mut buffer()).expect_err("no message");
            (error.kind(), error.to_string())
        };
        let cases = [
            (vec![7], "a message can't be read"),
            (vec![1, 1], "a message has 1 bytes too many"),
            (vec![1; MAX_MESSAGE + 1], "a message takes more than 131072 bytes"),
        ];
        for (bytes, problem) in cases {
            rustix::io::write(&near, &bytes).expect("sends");
            let (kind, text) = received(&far);
            assert_eq!(kind, io::ErrorKind::InvalidData);
            assert!(text.contains(problem), "{text}");
        }
        drop(near);
        assert_eq!(received(&far).0, io::ErrorKind::UnexpectedEof);
        let unsent = send(&far, &1u8, None).expect_err("nobody is there");
        assert!(is_end(&unsent), "{unsent}");
    }

    #[test]
    fn a_message_that_is_too_long_is_not_sent() {
        let (near, _far) = pair().expect("a pair");
        let error = send(&near, &vec![0u8; MAX_MESSAGE], None).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
