//! What keeps a buffer in use while somebody outside of its session has the elements. Never knows
//! the elements or the buffer itself.

use std::sync::{Arc, Weak};

use bytes::Bytes;

/// Keeps a buffer in use until it is dropped, which may be after the session's end.
#[derive(Debug)]
pub struct Loan(#[expect(dead_code, reason = "what counts is that it is held")] Arc<()>);

/// The session's side of a loan.
#[derive(Debug)]
pub(crate) struct Outstanding(Weak<()>);

impl Loan {
    pub(crate) fn new() -> (Self, Outstanding) {
        let held = Arc::new(());
        let outstanding = Outstanding(Arc::downgrade(&held));
        (Self(held), outstanding)
    }

    /// The elements that are lent: the loan ends with the last of them, and so does whatever they
    /// are lent `with`.
    pub fn of<T: Send + 'static>(self, elements: Bytes, with: T) -> Bytes {
        Bytes::from_owner(Lent { elements, _held: (self, with) })
    }
}

impl Outstanding {
    /// Whether the loan has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Elements, dropped before what they are held by.
struct Lent<T> {
    elements: Bytes,
    _held: (Loan, T),
}

impl<T> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        &self.elements
    }
}
