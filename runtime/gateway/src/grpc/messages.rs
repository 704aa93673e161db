//! The messages of a call, cut out of its body as they arrive: each limited in size and time, with
//! its share of the memory for bodies. What they say is not its business.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use quern_types::ByteSize;
use tokio::time::Instant;

use crate::{
    body::{ReadError, RequestBody},
    collect::{BodyRoom, Collected, Growing, Share},
    errors::Failure,
    v2::{Coding, off_thread},
};

/// Before each message stand a flag and its length.
pub(crate) const HEAD: usize = 5;

/// Why a call's messages can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// The body can't be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// Messages are compressed in a way that is not known here.
    #[error("grpc-encoding {encoding:?} is not supported: use gzip or deflate, or none")]
    Encoding {
        /// The way.
        encoding: String,
    },
    /// A message is compressed, and nothing says how.
    #[error("message is compressed, but there is no grpc-encoding that says how")]
    Compressed,
    /// What stands before a message is not what the protocol says.
    #[error("message begins with the flag {flag}, which is neither 0 nor 1")]
    Flag {
        /// The flag.
        flag: u8,
    },
    /// The body ends in the middle of a message.
    #[error("request ends in the middle of a message")]
    Truncated,
    /// A call that takes one message has none, or several.
    #[error("call takes one message, found {found}")]
    Count {
        /// How many there were.
        found: &'static str,
    },
    /// A message is not the one that its call takes.
    #[error("message is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

/// How the messages of a call may be compressed.
pub(crate) fn coding_of(headers: &HeaderMap) -> Result<Option<Coding>, MessageError> {
    let Some(encoding) = headers.get("grpc-encoding") else { return Ok(None) };
    match encoding.as_bytes() {
        b"identity" => Ok(None),
        b"gzip" => Ok(Some(Coding::Gzip)),
        b"deflate" => Ok(Some(Coding::Deflate)),
        other => {
            let encoding = String::from_utf8_lossy(other).chars().take(80).collect();
            Err(MessageError::Encoding { encoding })
        }
    }
}

/// A message as it arrived.
#[derive(Debug)]
pub(crate) struct Message {
    content: Collected,
    /// How to decompress it, and where to.
    packed: Option<(Coding, Growing)>,
}

impl Message {
    /// What it says.
    pub(crate) async fn open(self) -> Result<Collected, Failure> {
        let Self { content, packed } = self;
        let Some((coding, out)) = packed else { return Ok(content) };
        // A few bytes may become very many.
        Ok(off_thread(move || coding.decompress(content.as_ref(), out)).await??)
    }
}

/// What bounds each message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLimits {
    /// Bytes, compressed and decompressed alike.
    pub(crate) size: ByteSize,
    /// Longest time from the end of its head to its own end.
    pub(crate) patience: Duration,
}

/// The messages of one call.
pub(crate) struct Messages {
    body: RequestBody,
    coding: Option<Coding>,
    room: BodyRoom,
    limits: MessageLimits,
    /// What has arrived and was not taken yet.
    arrived: Bytes,
    state: State,
}

enum State {
    /// Before a message, or in its head.
    Head { bytes: [u8; HEAD], filled: usize },
    /// In a message.
    Content { content: Vec<u8>, head: Head, share: Share, end: Instant },
}

/// What stands before a message.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    coding: Option<Coding>,
}

impl State {
    const START: Self = Self::Head { bytes: [0; HEAD], filled: 0 };
}

impl Messages {
    /// The messages in a body.
    pub(crate) fn new(
        body: RequestBody,
        coding: Option<Coding>,
        room: BodyRoom,
        limits: MessageLimits,
    ) -> Self {
        Self { body, coding, room, limits, arrived: Bytes::new(), state: State::START }
    }

    /// The next message; none at the end. It may begin after `idle`, and then has to go on as a
    /// body does. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, idle: Duration) -> Result<Option<Message>, MessageError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let (after, end) = match &self.state {
                State::Head { filled: 0, .. } => (idle, None),
                State::Head { .. } => (self.body.stall(), None),
                State::Content { end, .. } => {
                    (self.body.stall(), Some((*end, self.limits.patience)))
                }
            };
            match self.body.part_within(after, end).await? {
                Some(part) => self.arrived = part,
                None if matches!(self.state, State::Head { filled: 0, .. }) => return Ok(None),
                None => return Err(MessageError::Truncated),
            }
        }
    }

    /// The message of a call that takes one.
    pub(crate) async fn only(&mut self) -> Result<Collected, Failure> {
        let idle = self.body.stall();
        let message = self.next(idle).await?.ok_or(MessageError::Count { found: "none" })?;
        match self.next(idle).await? {
            None => message.open().await,
            Some(_) => Err(MessageError::Count { found: "more" }.into()),
        }
    }

    /// The same, read as what the call takes.
    pub(crate) async fn only_as<M: prost::Message + Default>(&mut self) -> Result<M, Failure> {
        let message = self.only().await?;
        let malformed = |error: prost::DecodeError| {
            let reason = error.to_string();
            MessageError::Malformed { reason: reason.chars().take(200).collect() }
        };
        Ok(M::decode(&message[..]).map_err(malformed)?)
    }

    /// A message, if all of it has arrived. Otherwise everything that has arrived is taken.
    fn take(&mut self) -> Result<Option<Message>, MessageError> {
        if let State::Head { bytes, filled } = &mut self.state {
            let missing = (HEAD - *filled).min(self.arrived.len());
            bytes[*filled..*filled + missing].copy_from_slice(&self.arrived.split_to(missing));
            *filled += missing;
            if *filled < HEAD {
                return Ok(None);
            }
            let [flag, length @ ..] = *bytes;
            let (head, share) = self.begin(flag, u32::from_be_bytes(length))?;
            if self.arrived.len() >= head.length {
                // All of it is here, and stays where it is.
                self.state = State::START;
                let content = Collected::new(self.arrived.split_to(head.length), share);
                return Ok(Some(self.message(content, head)));
            }
            let content = Vec::with_capacity(head.length);
            let end = Instant::now() + self.limits.patience;
            self.state = State::Content { content, head, share, end };
        }
        let State::Content { content, head, .. } = &mut self.state else { return Ok(None) };
        let missing = (head.length - content.len()).min(self.arrived.len());
        content.extend_from_slice(&self.arrived.split_to(missing));
        if content.len() < head.length {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::START) {
            State::Content { content, head, share, .. } => {
                Ok(Some(self.message(Collected::new(content.into(), share), head)))
            }
            State::Head { .. } => Ok(None),
        }
    }

    fn message(&self, content: Collected, head: Head) -> Message {
        let packed = head.coding.map(|coding| (coding, self.room.growing(self.limits.size)));
        Message { content, packed }
    }

    /// Makes sure that there is room for a message.
    fn begin(&self, flag: u8, length: u32) -> Result<(Head, Share), MessageError> {
        let coding = match flag {
            0 => None,
            1 => Some(self.coding.ok_or(MessageError::Compressed)?),
            _ => return Err(MessageError::Flag { flag }),
        };
        let limit = self.limits.size;
        let length = usize::try_from(length).ok().filter(|length| *length as u64 <= limit.0);
        let length = length.ok_or(ReadError::TooLarge { limit })?;
        let mut share = self.room.share(0);
        share.cover(length)?;
        Ok((Head { length, coding }, share))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{io::AsyncWriteExt, sync::mpsc};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::EdgeLimits;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is read of a body that a real connection brings in these parts: its messages, and the
    /// error that ends them.
    async fn read(parts: &[&[u8]]) -> (Vec<Vec<u8>>, Option<MessageError>) {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .expect("fits");
        for part in parts {
            let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
            client.write_all(&chunk).await.expect("fits");
        }
        client.write_all(b"0\r\n\r\n").await.expect("fits");
        let (outcomes, mut outcome) = mpsc::channel(1);
        let service = service_fn(move |request: Request<Incoming>| {
            let outcomes = outcomes.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = RequestBody::new(body, &head, &TaskTracker::new(), 60 * SECOND);
                let room = BodyRoom::new(&EdgeLimits::default());
                let limits = MessageLimits { size: ByteSize(10), patience: 60 * SECOND };
                let mut messages = Messages::new(body, Some(Coding::Gzip), room, limits);
                let (mut all, mut error) = (Vec::new(), None);
                loop {
                    match messages.next(60 * SECOND).await {
                        Ok(Some(message)) => {
                            let opened = message.open().await;
                            all.push(opened.map_or(b"broken".to_vec(), |opened| opened.to_vec()));
                        }
                        Ok(None) => break,
                        Err(found) => {
                            error = Some(found);
                            break;
                        }
                    }
                }
                outcomes.send((all, error)).await.expect("the test waits");
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service);
        let serving = tokio::spawn(connection);
        let outcome = outcome.recv().await.expect("an outcome");
        drop(client);
        // The client has left, which may be before or after its answer.
        let _ = serving.await;
        outcome
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        [&[0][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    #[tokio::test]
    async fn messages_are_the_same_however_they_arrive() {
        let body = [frame(b"first"), frame(b""), frame(b"the second")].concat();
        let expected = vec![b"first".to_vec(), vec![], b"the second".to_vec()];
        for size in [1, 2, 3, 4, 5, 6, 7, 9, 11, body.len()] {
            let parts: Vec<&[u8]> = body.chunks(size).collect();
            assert_eq!(read(&parts).await, (expected.clone(), None), "{size} bytes at a time");
        }
        assert_eq!(read(&[]).await, (vec![], None));
    }

    #[tokio::test]
    async fn a_compressed_message_is_opened_within_the_same_limit() {
        let compressed = |content: &[u8]| {
            let content = Coding::Gzip.compress(std::iter::once(content));
            [&[1][..], &(content.len() as u32).to_be_bytes(), &content].concat()
        };
        // The limit is small for what surrounds even the smallest content.
        let (messages, error) = read(&[&compressed(b"")]).await;
        assert_eq!(messages, Vec::<Vec<u8>>::new());
        assert!(matches!(error, Some(MessageError::Read(ReadError::TooLarge { .. }))), "{error:?}");
        let broken = [&[1, 0, 0, 0, 3][..], b"abc"].concat();
        assert_eq!(read(&[&broken]).await, (vec![b"broken".to_vec()], None));
    }

    #[test]
    fn compression_is_named_in_a_header() {
        let of = |name: &'static str| {
            let value = http::HeaderValue::from_static(name);
            coding_of(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-encoding"),
                value,
            )]))
        };
        assert_eq!(coding_of(&HeaderMap::new()), Ok(None));
        assert_eq!(of("identity"), Ok(None));
        assert_eq!(of("gzip"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("deflate"), Ok(Some(Coding::Deflate)));
        assert_eq!(of("zstd"), Err(MessageError::Encoding { encoding: "zstd".into() }));
    }

    #[tokio::test]
    async fn what_is_no_message_ends_them() {
        let first = frame(b"first");
        let too_large = MessageError::Read(ReadError::TooLarge { limit: ByteSize(10) });
        for (rest, error) in [
            (&b"\0\0\0"[..], MessageError::Truncated),
            (b"\0\0\0\0\x02x", MessageError::Truncated),
            (b"\x02\0\0\0\0", MessageError::Flag { flag: 2 }),
            (b"\0\0\0\0\x0b", too_large),
        ] {
            let (messages, found) = read(&[&first, rest]).await;
            assert_eq!((messages, found), (vec![b"first".to_vec()], Some(error)), "{rest:?}");
        }
    }
}
