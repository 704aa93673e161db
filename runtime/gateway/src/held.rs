//! Answers that count as calls under way until their bodies have gone.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use quern_types::{Body, BodyError};

use crate::{
    body::{Reply, ReplyBody},
    limiter::Permit,
};

/// The same answer, which holds the permit for as long as there is something to send: a client that
/// does not read keeps its place.
pub(crate) fn held(reply: Reply, permit: Permit) -> Reply {
    reply.map(|body| match body {
        body if !permit.counts() || body.is_end_stream() => body,
        ReplyBody::Stream(body) => ReplyBody::Stream(Held { body, _permit: permit }.boxed_unsync()),
        body => {
            let body = body.boxed_unsync();
            ReplyBody::Stream(Held { body, _permit: permit }.boxed_unsync())
        }
    })
}

struct Held {
    body: Body,
    _permit: Permit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
