//! The id of one request, made where it enters, in the forms that its way needs, and whether
//! somebody waits for it. It has no other state.

use std::fmt;

use http::HeaderValue;
use quern_types::{InvocationId, Priority, Trace};
use uuid::Uuid;

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invocation {
    id: Uuid,
    /// Whether it was stored and is carried out later, when nobody waits for it.
    is_background: bool,
}

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
        Self { id: Uuid::now_v7(), is_background: false }
    }

    /// One that has entered before, and is carried out now.
    pub(crate) fn stored(id: InvocationId) -> Self {
        Self { id: id.uuid(), is_background: true }
    }

    /// How urgent its calls of models are, if it asks for so much: what nobody waits for comes
    /// last.
    pub(crate) fn priority(self, asked: Priority) -> Priority {
        if self.is_background { Priority::LOWEST } else { asked }
    }

    pub(crate) fn id(self) -> InvocationId {
        InvocationId::from_uuid(self.id)
    }

    pub(crate) fn header(self) -> HeaderValue {
        let mut text = Uuid::encode_buffer();
        let text = self.id.as_hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("hex digits and hyphens")
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.as_hyphenated().fmt(f)
    }
}
