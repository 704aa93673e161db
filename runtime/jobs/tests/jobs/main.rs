//! Asynchronous calls and messages to webhooks over a real queue.

mod calls;
mod common;
mod webhooks;
