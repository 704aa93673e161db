//! A session of a function on a lane: plans and counts where it is asked, and leaves computing to
//! the lane. Never blocks.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use quern_kernels::{Elements, HostBuffer, Ledger, Lending, Loan, Planned, Step, charge};
use quern_operators::{
    Description, Kernel, KernelSession, LaneError, Operator, Parcel, SessionError, TensorId, Usage,
};
use tokio::sync::oneshot;

use super::{
    account::Account,
    command::{Command, Lease},
    lane::{Failure, Lane},
    turns::SessionKey,
};

/// Work that is done where it is asked for, if the lane is idle: mostly some microseconds, less than
/// it takes to hand it to another thread and to be woken by that; 160 µs where each element takes
/// 20 ns, as with the slowest functions of FP64.
const SPOT_WORK: u64 = 1 << 13;

/// The same of products of matrices, where a multiplication costs a hundredth of what an element
/// does elsewhere, and what is loaded for it and every matrix to begin with count as many: 64 at
/// most.
const SPOT_PRODUCTS: u64 = 1 << 21;

/// The same of what multiplies beside other things.
const SPOT_BLOCKS: u64 = 1 << 19;

/// Elements that are read where it is asked for them.
const SPOT_ELEMENTS: u64 = 1 << 15;

/// Tensors of a function, computed by a lane.
pub(super) struct LaneSession {
    pub(super) device: Arc<str>,
    pub(super) ledger: Ledger,
    pub(super) lane: Arc<Lane>,
    pub(super) key: SessionKey,
    pub(super) failure: Failure,
    pub(super) lease: Lease,
    pub(super) account: Arc<Account>,
    /// What the account was last told.
    pub(super) noted_bytes: u64,
    /// The most that it was ever told: the device may hold as much, for the next tensors.
    pub(super) most_bytes: u64,
    /// Whether callers may compute.
    pub(super) on_the_spot: bool,
}

impl LaneSession {
    fn check(&self) -> Result<(), SessionError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    /// Tells the account what there is by now.
    fn note(&mut self) {
        let now_bytes = self.ledger.usage().bytes;
        self.account.used(self.noted_bytes, now_bytes);
        self.noted_bytes = now_bytes;
        self.most_bytes = self.most_bytes.max(now_bytes);
    }

    /// What was asked for is under way, or has failed: then its tensors don't come to be.
    fn commit(&mut self, tensors: &[TensorId]) -> Result<(), SessionError> {
        if self.failure.get().is_some() {
            for tensor in tensors {
                self.give_up(*tensor)?;
            }
        }
        self.note();
        self.check()
    }

    fn give_up(&mut self, tensor: TensorId) -> Result<(), SessionError> {
        if let Some((buffer, bytes)) = self.ledger.release(tensor)? {
            self.lane.free(self.key, buffer, bytes);
        }
        Ok(())
    }

    /// Frees what nobody has any more to whom it was lent.
    fn take_back(&mut self) {
        for (buffer, bytes) in self.ledger.take_back() {
            self.lane.free(self.key, buffer, bytes);
        }
    }

    /// Has a step computed: here and now, if that is short and the lane idle.
    fn submit(&self, step: Step) {
        let here = self.on_the_spot && is_short(&step);
        self.lane.submit(self.key, Command::Execute(Box::new(step)), here);
    }

    /// Has the lane lend what the ledger says, which is answered with what keeps it in use.
    fn begin_lending(
        &mut self,
        lending: impl FnOnce(&mut Ledger) -> Result<Lending, SessionError>,
    ) -> BoxFuture<'static, Result<(Elements, Loan, Lease), SessionError>> {
        let begun = self.check().and_then(|()| {
            self.take_back();
            lending(&mut self.ledger)
        });
        let begun = begun.map(|Lending { step, operand, loan }| {
            if let Some(step) = step {
                self.submit(step);
            }
            self.note();
            let (reply, answer) = oneshot::channel();
            self.lane.submit(self.key, Command::Lend(operand, reply), self.on_the_spot);
            (answer, loan, Lease::clone(&self.lease))
        });
        Box::pin(async move {
            let (answer, loan, lease) = begun?;
            let elements = answer.await.unwrap_or_else(|_| Err(dropped()))?;
            Ok((elements, loan, lease))
        })
    }

    /// What the lane may still have to free when an upload begins, so that all of it together is
    /// within the budget.
    fn most_owed(&self, used_bytes: u64) -> u64 {
        self.ledger.limits().bytes.saturating_sub(used_bytes)
    }
}

impl KernelSession for LaneSession {
    fn device(&self) -> &str {
        &self.device
    }

    fn room(&mut self, upload_bytes: u64) -> Option<BoxFuture<'static, ()>> {
        let owed_bytes = match upload_bytes {
            0 => u64::MAX,
            bytes => self.most_owed(self.ledger.usage().bytes.saturating_add(bytes)),
        };
        let told = self.lane.room(self.key, owed_bytes)?;
        Some(Box::pin(async {
            // There is room as well once the session has ended.
            _ = told.await;
        }))
    }

    fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<TensorId, SessionError> {
        self.check()?;
        self.take_back();
        let (buffer, tensor) = self.ledger.upload(description, elements)?;
        let owed_bytes = self.lane.owed_bytes(self.key);
        let fits = owed_bytes <= self.most_owed(self.ledger.usage().bytes);
        // Nothing that waits knows the buffer, so that it need not wait for that.
        if !fits || !self.lane.write_early(self.key, buffer, elements) {
            match HostBuffer::of(elements) {
                Ok(copy) => self.lane.submit(self.key, Command::Write(buffer, copy), false),
                Err(error) => _ = self.failure.set(error),
            }
        }
        self.commit(&[tensor])?;
        Ok(tensor)
    }

    fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, SessionError> {
        self.check()?;
        self.take_back();
        let Planned { step, outputs } = self.ledger.run(operator, inputs)?;
        let Some(step) = step else { return Ok(outputs) };
        self.submit(step);
        self.commit(&outputs)?;
        Ok(outputs)
    }

    fn read(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Vec<u8>, SessionError>> {
        let operand = match self.check().and_then(|()| self.ledger.operand(tensor)) {
            Ok(operand) => operand,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        let here = self.on_the_spot && operand.description().shape.elements() <= SPOT_ELEMENTS;
        let (reply, answer) = oneshot::channel();
        self.lane.submit(self.key, Command::Read(operand, reply), here);
        Box::pin(async { Ok(answer.await.unwrap_or_else(|_| Err(dropped()))?) })
    }

    fn lend(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Bytes, SessionError>> {
        let lent = self.begin_lending(|ledger| ledger.lend(tensor));
        Box::pin(async move {
            let (elements, loan, lease) = lent.await?;
            Ok(loan.of(elements.into_bytes(), lease))
        })
    }

    fn pack(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Parcel, SessionError>> {
        let (device, description) = (self.device.to_string(), self.describe(tensor));
        let lent = self.begin_lending(|ledger| ledger.lend_whole(tensor));
        Box::pin(async move {
            // What is lent stays without the loan, which charges it here.
            let (elements, ..) = lent.await?;
            let description = description?;
            Ok(Parcel::new(device, description, charge(&description), Box::new(elements)))
        })
    }

    fn check_room(&mut self, description: &Description) -> Result<(), SessionError> {
        self.check()?;
        self.take_back();
        self.ledger.check_room(&[*description])
    }

    fn unpack(&mut self, parcel: Parcel) -> Result<TensorId, SessionError> {
        self.check()?;
        self.take_back();
        let (buffer, tensor) = self.ledger.receive(parcel.description())?;
        match parcel.into_contents().downcast::<Elements>() {
            Ok(elements) => {
                let share = Command::Share(buffer, *elements);
                self.lane.submit(self.key, share, self.on_the_spot);
            }
            Err(_) => _ = self.failure.set(unknown()),
        }
        self.commit(&[tensor])?;
        Ok(tensor)
    }

    fn finish(&mut self) -> BoxFuture<'static, Result<(), SessionError>> {
        if let Err(error) = self.check() {
            return Box::pin(async { Err(error) });
        }
        let (reply, answer) = oneshot::channel();
        self.lane.submit(self.key, Command::Finish(reply), self.on_the_spot);
        Box::pin(async { Ok(answer.await.unwrap_or_else(|_| Err(dropped()))?) })
    }

    fn describe(&self, tensor: TensorId) -> Result<Description, SessionError> {
        Ok(self.ledger.operand(tensor)?.description())
    }

    fn release(&mut self, tensor: TensorId) -> Result<(), SessionError> {
        self.give_up(tensor)?;
        self.take_back();
        self.note();
        Ok(())
    }

    fn usage(&mut self) -> Usage {
        self.take_back();
        self.note();
        self.ledger.usage()
    }
}

impl Drop for LaneSession {
    fn drop(&mut self) {
        self.account.used(self.noted_bytes, 0);
        self.lane.leave(self.key, self.most_bytes);
    }
}

/// Whether handing a step to another thread would take longer than it does.
fn is_short(step: &Step) -> bool {
    let most = match step.kernel() {
        Kernel::Matmul => SPOT_PRODUCTS,
        Kernel::Attention(_)
        | Kernel::Convolution(_)
        | Kernel::ConvolutionInputGradient(_)
        | Kernel::ConvolutionWeightGradient(_)
        | Kernel::Distances(_) => SPOT_BLOCKS,
        _ => SPOT_WORK,
    };
    step.work() <= most
}

fn unknown() -> LaneError {
    LaneError::Lost { reason: "another kind of device has packed a tensor for it".to_owned() }
}

fn dropped() -> LaneError {
    LaneError::Lost { reason: "the session has ended".to_owned() }
}
