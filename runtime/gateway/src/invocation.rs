//! The id of one request, made where it enters, in the forms that its way needs. It has no other
//! state.

use std::fmt;

use http::HeaderValue;
use quern_types::{InvocationId, Trace};
use uuid::Uuid;

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invocation(Uuid);

/// What goes with a request on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) invocation: Invocation,
    /// Where it stands in a trace.
    pub(crate) trace: &'a Trace,
}

impl Invocation {
    /// A new one; ids sort by time.
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) fn id(self) -> InvocationId {
        InvocationId::from_uuid(self.0)
    }

    pub(crate) fn header(self) -> HeaderValue {
        let mut text = Uuid::encode_buffer();
        let text = self.0.as_hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("hex digits and hyphens")
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}
