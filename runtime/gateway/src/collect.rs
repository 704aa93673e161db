//! Bodies held in memory as a whole: limited in size and time each, and by one budget together.
//! It never decodes anything, and takes nothing in before there is room for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body as _;
use quern_types::ByteSize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    EdgeLimits,
    body::{ReadError, RequestBody},
};

/// The budget is given out in pieces of this size.
const UNIT: usize = 64 << 10;
/// Bodies up to this size are free over HTTP/1, which has one at a time on each connection: what
/// bounds them is the number of connections. Over HTTP/2 none are, for it has hundreds.
const FREE: usize = 64 << 10;

/// The room for the bodies that are held at the same time.
#[derive(Debug, Clone)]
pub(crate) struct BodyRoom {
    units: Arc<Semaphore>,
    total: ByteSize,
    patience: Duration,
}

impl BodyRoom {
    pub(crate) fn new(limits: &EdgeLimits) -> Self {
        let (total, patience) = (limits.body_memory, limits.body_timeout);
        let units = usize::try_from(total.0).unwrap_or(usize::MAX) / UNIT;
        let units = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { units, total, patience }
    }

    /// A share that takes nothing up to a size, which is 0 unless a connection has one body at a
    /// time.
    pub(crate) fn share(&self, free: usize) -> Share {
        Share { room: self.clone(), free, taken: None }
    }

    /// A body that is empty yet.
    pub(crate) fn growing(&self, limit: ByteSize) -> Growing {
        Growing { content: Vec::new(), limit, share: self.share(0) }
    }
}

/// What one body has of the room; gives it back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: BodyRoom,
    /// Size up to which a body takes no room.
    free: usize,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Makes sure that the share covers a body of this size, without waiting.
    pub(crate) fn cover(&mut self, size: usize) -> Result<(), ReadError> {
        if size <= self.free {
            return Ok(());
        }
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = size.div_ceil(UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let refused = || ReadError::NoRoom { total: self.room.total };
        let missing = u32::try_from(missing).map_err(|_| refused())?;
        let more =
            self.room.units.clone().try_acquire_many_owned(missing).map_err(|_| refused())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken => *taken = Some(more),
        }
        Ok(())
    }
}

/// A body that is being made in memory, within its limit and its room.
#[derive(Debug)]
pub(crate) struct Growing {
    content: Vec<u8>,
    limit: ByteSize,
    share: Share,
}

impl Growing {
    pub(crate) fn push(&mut self, part: &[u8]) -> Result<(), ReadError> {
        let limit = self.limit;
        let length = self.content.len() + part.len();
        if length as u64 > limit.0 {
            return Err(ReadError::TooLarge { limit });
        }
        if length > self.content.capacity() {
            // The share covers what is allocated, not only what has arrived.
            let most = usize::try_from(limit.0).unwrap_or(usize::MAX);
            let capacity = length.max(most.min(self.content.capacity() * 2));
            self.share.cover(capacity)?;
            self.content.reserve_exact(capacity - self.content.len());
        }
        self.content.extend_from_slice(part);
        Ok(())
    }

    pub(crate) fn finish(self) -> Collected {
        Collected { content: self.content.into(), share: self.share }
    }
}

/// A body in memory. Its room is free again once it is dropped.
#[derive(Debug)]
pub(crate) struct Collected {
    content: Bytes,
    share: Share,
}

impl Collected {
    /// What was collected, with the share that covers it.
    pub(crate) fn new(content: Bytes, share: Share) -> Self {
        Self { content, share }
    }

    /// A share for what the body becomes, which is free up to the same size.
    pub(crate) fn another_share(&self) -> Share {
        self.share.room.share(self.share.free)
    }

    /// Makes sure that there is room for what becomes of the body as well.
    pub(crate) fn cover_also(&mut self, size: usize) -> Result<(), ReadError> {
        self.share.cover(self.content.len().saturating_add(size))
    }

    /// The body as bytes that can be cut into pieces: the room is free again once the last of them
    /// is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.share.taken.is_none() { self.content } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for Collected {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl std::ops::Deref for Collected {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.content
    }
}

impl RequestBody {
    /// All of the body, if it is no longer than `limit` and there is room for it.
    pub(crate) async fn collect(
        mut self,
        limit: ByteSize,
        room: &BodyRoom,
    ) -> Result<Collected, ReadError> {
        let fits = |length: u64| {
            if length <= limit.0 { Ok(()) } else { Err(ReadError::TooLarge { limit }) }
        };
        let declared = self.size_hint().lower();
        fits(declared)?;
        let declared = usize::try_from(declared).map_err(|_| ReadError::TooLarge { limit })?;
        let mut share = room.share(if self.is_alone() { FREE } else { 0 });
        share.cover(declared)?;

        let end = Some((Instant::now() + room.patience, room.patience));
        let first = self.part_before(end).await?.unwrap_or_default();
        fits(first.len() as u64)?;
        share.cover(first.len())?;
        let Some(second) = self.part_before(end).await? else {
            return Ok(Collected { content: first, share });
        };
        let content = Vec::with_capacity(declared.max(first.len()));
        let mut all = Growing { content, limit, share };
        all.push(&first)?;
        drop(first);
        let mut next = Some(second);
        while let Some(part) = next {
            all.push(&part)?;
            next = self.part_before(end).await?;
        }
        Ok(all.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio_util::task::TaskTracker;

    use super::*;

    type Outcome = Result<Collected, ReadError>;

    const LIMIT: ByteSize = ByteSize(1 << 20);

    /// Sends the beginning of a request to a real connection. Gives the client's end, and what
    /// becomes of the body.
    async fn send(
        room: &BodyRoom,
        request: &[u8],
    ) -> (DuplexStream, tokio::sync::mpsc::Receiver<Outcome>) {
        let (mut client, server) = tokio::io::duplex(8 << 20);
        client.write_all(request).await.expect("fits");
        let (outcomes, outcome) = tokio::sync::mpsc::channel(1);
        let room = room.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (room, outcomes) = (room.clone(), outcomes.clone());
            async move {
                let (head, body) = request.into_parts();
                let rest = TaskTracker::new();
                let body = RequestBody::new(body, &head, &rest, Duration::from_secs(60));
                let collected = body.collect(LIMIT, &room).await;
                outcomes.send(collected).await.expect("the test waits");
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service),
        );
        (client, outcome)
    }

    fn room(units: u64, body_timeout: Duration) -> BodyRoom {
        let body_memory = ByteSize(units * UNIT as u64);
        BodyRoom::new(&EdgeLimits { body_memory, body_timeout, ..EdgeLimits::default() })
    }

    #[test]
    fn small_bodies_are_free_only_where_they_are_alone_on_their_connection() {
        let room = room(4, Duration::from_secs(60));
        let (mut alone, mut empty, mut one_of_many) =
            (room.share(FREE), room.share(0), room.share(0));
        alone.cover(FREE).expect("is free");
        empty.cover(0).expect("needs nothing");
        assert_eq!(room.units.available_permits(), 4);
        one_of_many.cover(1).expect("there is room");
        assert_eq!(room.units.available_permits(), 3);
        let others: Vec<_> = std::iter::repeat_with(|| room.share(0)).take(4).collect();
        let covered: Vec<_> =
            others.into_iter().map(|mut share| share.cover(1).map(|()| share)).collect();
        assert_eq!(covered.iter().filter(|share| share.is_ok()).count(), 3);
        let refused = covered.into_iter().find_map(Result::err).expect("no room");
        assert_eq!(refused, ReadError::NoRoom { total: room.total });
    }

    fn declared(length: usize) -> Vec<u8> {
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").into_bytes()
    }

    fn chunks(count: usize, size: usize) -> Vec<u8> {
        let mut request =
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..count {
            request.extend(format!("{size:x}\r\n{}\r\n", "x".repeat(size)).into_bytes());
        }
        request.extend(b"0\r\n\r\n");
        request
    }

    #[tokio::test]
    async fn a_body_takes_its_room_by_the_length_that_it_declares() {
        let room = room(4, Duration::from_secs(60));
        let length = 3 * UNIT;
        let (mut client, mut outcome) = send(&room, &declared(length)).await;
        while room.units.available_permits() != 1 {
            tokio::task::yield_now().await;
        }
        // Nothing of the first has arrived, and still there is no room for the second.
        let (_client, mut refused) = send(&room, &declared(2 * UNIT)).await;
        let refused = refused.recv().await.expect("an outcome").expect_err("no room");
        assert_eq!(refused, ReadError::NoRoom { total: ByteSize(4 * UNIT as u64) });
        let mut small = declared(5);
        small.extend(b"hello");
        let (_client, mut free) = send(&room, &small).await;
        assert_eq!(free.recv().await.expect("an outcome").expect("is free")[..], *b"hello");

        client.write_all(&vec![b'x'; length]).await.expect("fits");
        let collected = outcome.recv().await.expect("an outcome").expect("arrives");
        assert_eq!(collected.len(), length);
        assert_eq!(room.units.available_permits(), 1, "held until it has been decoded");
        drop(collected);
        assert_eq!(room.units.available_permits(), 4);
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_takes_its_room_as_it_grows() {
        let room = room(4, Duration::from_secs(60));
        let (_client, mut outcome) = send(&room, &chunks(20, UNIT / 10)).await;
        let collected = outcome.recv().await.expect("an outcome").expect("has room");
        assert_eq!(collected.len(), 20 * (UNIT / 10));
        assert!(room.units.available_permits() < 3, "twice the unit is held at least");
        drop(collected);
        let (_client, mut outcome) = send(&room, &chunks(60, UNIT / 10)).await;
        let refused = outcome.recv().await.expect("an outcome").expect_err("no room");
        assert!(matches!(refused, ReadError::NoRoom { .. }), "{refused}");
        assert_eq!(room.units.available_permits(), 4, "what it had is free again");
    }

    #[tokio::test]
    async fn a_body_in_pieces_keeps_its_room_until_the_last_is_dropped() {
        let room = room(4, Duration::from_secs(60));
        let mut body = room.growing(LIMIT);
        body.push(&[7; UNIT]).expect("has room");
        body.push(&[8; UNIT]).expect("has room");
        let mut all = body.finish().into_bytes();
        let piece = all.split_to(UNIT);
        assert_eq!((piece[0], all[0]), (7, 8));
        drop(all);
        assert_eq!(room.units.available_permits(), 2);
        drop(piece);
        assert_eq!(room.units.available_permits(), 4);
        let mut large = room.growing(LIMIT);
        let refused = large.push(&vec![0; 5 * UNIT]);
        assert_eq!(refused, Err(ReadError::NoRoom { total: room.total }));
        let mut long = room.growing(ByteSize(3));
        assert_eq!(long.push(b"four"), Err(ReadError::TooLarge { limit: ByteSize(3) }));
    }

    #[tokio::test]
    async fn a_body_that_trickles_in_is_given_up() {
        let patience = Duration::from_millis(200);
        let room = room(100, patience);
        let (mut client, mut outcome) = send(&room, &declared(1000)).await;
        let trickle = async {
            loop {
                client.write_all(b"x").await.expect("the connection stays open");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = outcome.recv() => outcome.expect("an outcome"),
            () = trickle => unreachable!("it never ends"),
        };
        assert_eq!(outcome.expect_err("too slow"), ReadError::Slow { after: patience });
    }
}
