//! What a session asks a lane for, what comes of it, and what the session has there. A panic of the
//! device ends here.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use quern_kernels::{BufferId, Elements, HostBuffer, Lane as Computer, Operand, Step};
use quern_operators::LaneError;
use quern_types::TenantId;
use tokio::sync::oneshot;

use super::account::Account;

/// Something that a session asks for.
pub(super) enum Command {
    Write(BufferId, HostBuffer),
    Execute(Box<Step>),
    Read(Operand, oneshot::Sender<Result<Vec<u8>, LaneError>>),
    Lend(Operand, oneshot::Sender<Result<Elements, LaneError>>),
    Share(BufferId, Elements),
    Free(BufferId, u64),
    Finish(oneshot::Sender<Result<(), LaneError>>),
}

/// An answer, to be given once the lane can be asked for more.
pub(super) enum Answer {
    None,
    Read(oneshot::Sender<Result<Vec<u8>, LaneError>>, Result<Vec<u8>, LaneError>),
    Lend(oneshot::Sender<Result<Elements, LaneError>>, Result<Elements, LaneError>),
    Finish(oneshot::Sender<Result<(), LaneError>>, Result<(), LaneError>),
}

/// What comes of a command.
pub(super) enum Made {
    Nothing,
    Read(Vec<u8>),
    Lent(Elements),
}

/// What stands for memory of the device, for as long as somebody has some of it.
pub(super) type Lease = Arc<dyn Any + Send + Sync>;

/// What a session has of the device, and whose it is. The lease goes after the memory has gone.
pub(super) struct Held {
    pub(super) tenant: TenantId,
    pub(super) account: Arc<Account>,
    pub(super) computer: Box<dyn Computer>,
    pub(super) lease: Lease,
}

impl Answer {
    /// What is to be answered to a command that came to this.
    pub(super) fn to(command: Option<Command>, outcome: Result<Made, LaneError>) -> Self {
        match command {
            Some(Command::Read(_, reply)) => Self::Read(reply, outcome.map(Made::read)),
            Some(Command::Lend(_, reply)) => Self::Lend(reply, outcome.map(Made::lent)),
            Some(Command::Finish(reply)) => Self::Finish(reply, outcome.map(drop)),
            _ => Self::None,
        }
    }

    /// Gives it; whoever asked may have left.
    pub(super) fn give(self) {
        match self {
            Self::None => {}
            Self::Read(reply, outcome) => _ = reply.send(outcome),
            Self::Lend(reply, outcome) => _ = reply.send(outcome),
            Self::Finish(reply, outcome) => _ = reply.send(outcome),
        }
    }
}

impl Made {
    fn read(self) -> Vec<u8> {
        if let Self::Read(elements) = self { elements } else { Vec::new() }
    }

    fn lent(self) -> Elements {
        if let Self::Lent(elements) = self { elements } else { Bytes::new().into() }
    }
}

/// Carries out commands one after another, and sees to it that they are begun: what comes of the
/// last one.
pub(super) fn compute_all(
    computer: &mut dyn Computer,
    before: Vec<Command>,
    command: &mut Option<Command>,
) -> Result<Made, LaneError> {
    for command in before {
        compute(computer, &mut Some(command))?;
    }
    let made = compute(computer, command)?;
    computer.flush()?;
    Ok(made)
}

/// Carries out a command: what comes of it. What is to be answered is left.
fn compute(computer: &mut dyn Computer, command: &mut Option<Command>) -> Result<Made, LaneError> {
    match command {
        None => {}
        Some(Command::Write(buffer, elements)) => computer.adopt(*buffer, mem::take(elements))?,
        Some(Command::Share(buffer, elements)) => {
            computer.share(*buffer, mem::replace(elements, Bytes::new().into()))?;
        }
        Some(Command::Execute(step)) => computer.execute(step)?,
        Some(Command::Free(buffer, _)) => computer.free(*buffer),
        // Nobody waits for what was asked by a caller that has left.
        Some(Command::Read(_, reply)) if reply.is_closed() => {}
        Some(Command::Lend(_, reply)) if reply.is_closed() => {}
        Some(Command::Read(operand, _)) => return computer.read(operand).map(Made::Read),
        Some(Command::Lend(operand, _)) => return computer.lend(operand).map(Made::Lent),
        Some(Command::Finish(_)) => computer.finish()?,
    }
    Ok(Made::Nothing)
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
