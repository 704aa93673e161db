//! Other systems' ways to decide, as far as they are published, for comparison. They leave models
//! where they are: none of them loads or evicts.

mod clockwork;
mod delay;
mod fifo;
mod floor;
mod queues;
mod replicated;
mod symphony;

pub(crate) use clockwork::Clockwork;
pub(crate) use delay::Delay;
pub(crate) use fifo::Fifo;
pub(crate) use replicated::Replicated;
pub(crate) use symphony::Symphony;
