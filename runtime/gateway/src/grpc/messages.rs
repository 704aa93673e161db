//! The messages of a call, cut out of its body as they arrive: each limited in size and time, with
//! its share of the memory for bodies. What they say is not its business.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quern_types::ByteSize;
use tokio::time::Instant;

use crate::{
    body::{ReadError, RequestBody},
    collect::{BodyRoom, Collected, Share},
};

/// Before each message stand a flag and its length.
pub(crate) const HEAD: usize = 5;

/// Why a call's messages can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// The body can't be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A message is compressed.
    #[error("message is compressed, which is not supported: send it as it is")]
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

/// The messages of one call.
pub(crate) struct Messages {
    body: RequestBody,
    room: BodyRoom,
    limit: ByteSize,
    /// Longest time for a message, and its beginning, from its first byte to its last.
    patience: Duration,
    /// What has arrived and was not taken yet.
    arrived: Bytes,
    state: State,
}

enum State {
    /// Before a message, or in its head.
    Head { bytes: [u8; HEAD], filled: usize },
    /// In a message.
    Content { content: Vec<u8>, length: usize, share: Share, end: Instant },
}

impl State {
    const START: Self = Self::Head { bytes: [0; HEAD], filled: 0 };
}

impl Messages {
    /// The messages in a body, each of `limit` bytes at most.
    pub(crate) fn new(
        body: RequestBody,
        room: BodyRoom,
        limit: ByteSize,
        patience: Duration,
    ) -> Self {
        Self { body, room, limit, patience, arrived: Bytes::new(), state: State::START }
    }

    /// The next message; none at the end. It may begin after `idle`, and then has to go on as a
    /// body does. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, idle: Duration) -> Result<Option<Collected>, MessageError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let (after, end) = match &self.state {
                State::Head { filled: 0, .. } => (idle, None),
                State::Head { .. } => (self.body.stall(), None),
                State::Content { end, .. } => (self.body.stall(), Some((*end, self.patience))),
            };
            match self.body.part_within(after, end).await? {
                Some(part) => self.arrived = part,
                None if matches!(self.state, State::Head { filled: 0, .. }) => return Ok(None),
                None => return Err(MessageError::Truncated),
            }
        }
    }

    /// The message of a call that takes one.
    pub(crate) async fn only(&mut self) -> Result<Collected, MessageError> {
        let idle = self.body.stall();
        let message = self.next(idle).await?.ok_or(MessageError::Count { found: "none" })?;
        match self.next(idle).await? {
            None => Ok(message),
            Some(_) => Err(MessageError::Count { found: "more" }),
        }
    }

    /// The same, read as what the call takes.
    pub(crate) async fn only_as<M: Message + Default>(&mut self) -> Result<M, MessageError> {
        let message = self.only().await?;
        let malformed = |error: prost::DecodeError| {
            let reason = error.to_string();
            MessageError::Malformed { reason: reason.chars().take(200).collect() }
        };
        M::decode(&message[..]).map_err(malformed)
    }

    /// A message, if all of it has arrived. Otherwise everything that has arrived is taken.
    fn take(&mut self) -> Result<Option<Collected>, MessageError> {
        if let State::Head { bytes, filled } = &mut self.state {
            let missing = (HEAD - *filled).min(self.arrived.len());
            bytes[*filled..*filled + missing].copy_from_slice(&self.arrived.split_to(missing));
            *filled += missing;
            if *filled < HEAD {
                return Ok(None);
            }
            let [flag, length @ ..] = *bytes;
            let (length, share) = self.begin(flag, u32::from_be_bytes(length))?;
            if self.arrived.len() >= length {
                // All of it is here, and stays where it is.
                self.state = State::START;
                return Ok(Some(Collected::new(self.arrived.split_to(length), share)));
            }
            let content = Vec::with_capacity(length);
            let end = Instant::now() + self.patience;
            self.state = State::Content { content, length, share, end };
        }
        let State::Content { content, length, .. } = &mut self.state else { return Ok(None) };
        let missing = (*length - content.len()).min(self.arrived.len());
        content.extend_from_slice(&self.arrived.split_to(missing));
        if content.len() < *length {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::START) {
            State::Content { content, share, .. } => {
                Ok(Some(Collected::new(content.into(), share)))
            }
            State::Head { .. } => Ok(None),
        }
    }

    /// Makes sure that there is room for a message.
    fn begin(&self, flag: u8, length: u32) -> Result<(usize, Share), MessageError> {
        match flag {
            0 => {}
            1 => return Err(MessageError::Compressed),
            _ => return Err(MessageError::Flag { flag }),
        }
        let limit = self.limit;
        let length = usize::try_from(length).ok().filter(|length| *length as u64 <= limit.0);
        let length = length.ok_or(ReadError::TooLarge { limit })?;
        let mut share = self.room.share(0);
        share.cover(length)?;
        Ok((length, share))
    }
}
