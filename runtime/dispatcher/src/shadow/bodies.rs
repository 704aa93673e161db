//! Bodies that are listened to while they pass: a request's is copied, of a response's no more is
//! kept than it takes to compare it. Never holds a body up.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use ::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use quern_types::{Body, BodyError};
use tokio::sync::oneshot;

use super::Place;

/// Bytes of a response that are shown where it differs from another.
const SHOWN: usize = 256;

/// A request's body, and the copy that it leaves.
pub(super) struct CopiedBody {
    inner: Body,
    copy: SharedCopy,
}

/// A copy that is made while the body passes.
#[derive(Debug, Clone)]
pub(super) struct SharedCopy(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// None once there was no room for more, or the body broke off.
    place: Option<Place>,
    parts: BytesMut,
    whole: bool,
}

/// What a response was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) status: StatusCode,
    digest: [u8; 32],
    bytes: u64,
    beginning: Vec<u8>,
}

/// A response's body that is listened to.
pub(super) struct HeardBody {
    inner: Body,
    /// None once it has ended, or broken off.
    listener: Option<(Listener, oneshot::Sender<Heard>)>,
}

/// Takes down what passes.
pub(super) struct Listener {
    status: StatusCode,
    hasher: Box<blake3::Hasher>,
    bytes: u64,
    beginning: Vec<u8>,
}

impl CopiedBody {
    pub(super) fn new(inner: Body, place: Place) -> (Self, SharedCopy) {
        let whole = inner.is_end_stream();
        let copy = Kept { place: Some(place), parts: BytesMut::new(), whole };
        let copy = SharedCopy(Arc::new(Mutex::new(copy)));
        (Self { inner, copy: copy.clone() }, copy)
    }
}

impl SharedCopy {
    /// The copy with its place, if the whole body has passed and had room.
    pub(super) fn take(&self) -> Option<(Bytes, Place)> {
        let mut copy = self.lock();
        let place = copy.place.take().filter(|_| copy.whole)?;
        Some((std::mem::take(&mut copy.parts).freeze(), place))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for CopiedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let mut copy = self.copy.lock();
        match &frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
                let length = data.len() as u64;
                match copy.place.as_mut().is_some_and(|place| place.take(length)) {
                    true => copy.parts.extend_from_slice(data),
                    false => (copy.place, copy.parts) = (None, BytesMut::new()),
                }
            }
            Some(Err(_)) => copy.place = None,
            None => {}
        }
        if frame.is_none() || self.inner.is_end_stream() {
            copy.whole = true;
        }
        drop(copy);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Listener {
    pub(super) fn new(status: StatusCode) -> Self {
        Self { status, hasher: Box::default(), bytes: 0, beginning: Vec::new() }
    }

    pub(super) fn hear(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        let room = SHOWN - self.beginning.len();
        self.beginning.extend_from_slice(&data[..data.len().min(room)]);
    }

    pub(super) fn end(self) -> Heard {
        let Self { status, hasher, bytes, beginning } = self;
        Heard { status, digest: *hasher.finalize().as_bytes(), bytes, beginning }
    }
}

impl Heard {
    /// How it is shown.
    pub(super) fn text(&self) -> String {
        let Self { status, bytes, beginning, .. } = self;
        format!("{} {bytes} bytes {:?}", status.as_u16(), String::from_utf8_lossy(beginning))
    }
}

impl HeardBody {
    /// The body, and what will have been heard of it at its end; nothing if it has none.
    pub(super) fn new(inner: Body, status: StatusCode) -> (Self, oneshot::Receiver<Heard>) {
        let (sender, heard) = oneshot::channel();
        let mut body = Self { inner, listener: Some((Listener::new(status), sender)) };
        if body.inner.is_end_stream() {
            body.end();
        }
        (body, heard)
    }

    fn end(&mut self) {
        if let Some((listener, sender)) = self.listener.take() {
            // Nobody may listen any more.
            let _ = sender.send(listener.end());
        }
    }
}

impl HttpBody for HeardBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some((listener, _)), Some(data)) = (&mut self.listener, frame.data_ref()) {
                    listener.hear(data);
                }
            }
            Some(Err(_)) => self.listener = None,
            None => {}
        }
        if frame.is_none() || self.inner.is_end_stream() {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
