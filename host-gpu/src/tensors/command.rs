//! What a session asks a lane for, what comes of it, and what the session has there. A panic of the
//! device ends here.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use quern_kernels::{BufferId, HostBuffer, Lane as Computer, Operand, Step};
use quern_operators::LaneError;
use quern_types::TenantId;
use tokio::sync::oneshot;

use super::account::Account;

/// Something that a session asks for.
pub(super) enum Command {
    Write(BufferId, HostBuffer),
    Execute(Box<Step>),
    Read(Operand, oneshot::Sender<Result<Vec<u8>, LaneError>>),
    Free(BufferId, u64),
    Finish(oneshot::Sender<Result<(), LaneError>>),
}

/// An answer, to be given once the lane can be asked for more.
pub(super) enum Answer {
    None,
    Read(oneshot::Sender<Result<Vec<u8>, LaneError>>, Result<Vec<u8>, LaneError>),
    Finish(oneshot::Sender<Result<(), LaneError>>, Result<(), LaneError>),
}

/// What a session has of the device, and whose it is. The lease goes after the memory has gone.
pub(super) struct Held {
    pub(super) tenant: TenantId,
    pub(super) account: Arc<Account>,
    pub(super) computer: Box<dyn Computer>,
    pub(super) lease: Box<dyn Any + Send>,
}

impl Answer {
    /// What is to be answered to a command that came to this.
    pub(super) fn to(command: Option<Command>, outcome: Result<Vec<u8>, LaneError>) -> Self {
        match command {
            Some(Command::Read(_, reply)) => Self::Read(reply, outcome),
            Some(Command::Finish(reply)) => Self::Finish(reply, outcome.map(drop)),
            _ => Self::None,
        }
    }

    /// Gives it; whoever asked may have left.
    pub(super) fn give(self) {
        match self {
            Self::None => {}
            Self::Read(reply, outcome) => _ = reply.send(outcome),
            Self::Finish(reply, outcome) => _ = reply.send(outcome),
        }
    }
}

/// Carries out commands one after another, and sees to it that they are begun: the elements that the
/// last one reads, if it does.
pub(super) fn compute_all(
    computer: &mut dyn Computer,
    before: Vec<Command>,
    command: &mut Option<Command>,
) -> Result<Vec<u8>, LaneError> {
    for command in before {
        compute(computer, &mut Some(command))?;
    }
    let elements = compute(computer, command)?;
    computer.flush()?;
    Ok(elements)
}

/// Carries out a command: the elements that it reads, if it does. What is to be answered is left.
fn compute(
    computer: &mut dyn Computer,
    command: &mut Option<Command>,
) -> Result<Vec<u8>, LaneError> {
    match command {
        None => {}
        Some(Command::Write(buffer, elements)) => computer.adopt(*buffer, mem::take(elements))?,
        Some(Command::Execute(step)) => computer.execute(step)?,
        Some(Command::Free(buffer, _)) => computer.free(*buffer),
        // Nobody waits for what was asked by a caller that has left.
        Some(Command::Read(_, reply)) if reply.is_closed() => {}
        Some(Command::Read(operand, _)) => return computer.read(operand),
        Some(Command::Finish(_)) => computer.finish()?,
    }
    Ok(Vec::new())
}

/// Does something with what a session has. A panic costs it that, whatever state it is in.
pub(super) fn guarded(
    mut held: Held,
    run: impl FnOnce(&mut dyn Computer),
) -> Result<Held, LaneError> {
    match catch_unwind(AssertUnwindSafe(|| run(&mut *held.computer))) {
        Ok(()) => Ok(held),
        Err(_) => {
            tracing::error!("a lane panicked: the session that it computed for is lost");
            give_back(held);
            Err(panicked())
        }
    }
}

/// Waits until a session has ended on a device in another process: the time that it has computed
/// for it and was not charged yet.
pub(super) fn close(held: &mut Held) -> Option<u64> {
    let close = || {
        held.computer.close();
        held.computer.computed_ns()
    };
    catch_unwind(AssertUnwindSafe(close)).ok().flatten()
}

/// Gives back what a session had, whatever comes of it.
pub(super) fn give_back(held: Held) {
    let Held { computer, lease, .. } = held;
    if catch_unwind(AssertUnwindSafe(|| drop(computer))).is_err() {
        tracing::error!("a lane panicked as a session ended");
    }
    drop(lease);
}

pub(super) fn panicked() -> LaneError {
    LaneError::Lost { reason: "it failed while it computed".to_owned() }
}
