//! Tensors of one user of a device, computed while the caller waits. Sees to it that nothing but
//! what the [`Ledger`] has planned reaches the device.

use bytes::Bytes;

use crate::{Device, Lane, Ledger, Lending, Planned};
use quern_operators::{
    Description, LaneError, Operator, SessionError, SessionLimits, TensorId, Usage,
};

/// Tensors on a device, and what is computed of them, in order. Dropping it frees everything.
pub struct Session {
    ledger: Ledger,
    lane: Box<dyn Lane>,
    failure: Option<LaneError>,
}

impl Session {
    /// A session of a device.
    pub fn open(device: &dyn Device, limits: SessionLimits) -> Result<Self, LaneError> {
        let lane = device.open(limits.bytes)?;
        Ok(Self { ledger: Ledger::new(limits), lane, failure: None })
    }

    /// A tensor of elements of the host, little-endian and row-major.
    pub fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<TensorId, SessionError> {
        self.check_lane()?;
        self.take_back();
        let (buffer, tensor) = self.ledger.upload(description, elements)?;
        let written = self.lane.write(buffer, elements);
        self.note_of(written, &[tensor])?;
        Ok(tensor)
    }

    /// The results of an operator. They may share memory with its inputs, which nothing ever
    /// changes. Answers perhaps before they are computed.
    pub fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, SessionError> {
        self.check_lane()?;
        self.take_back();
        let Planned { step, outputs } = self.ledger.run(operator, inputs)?;
        if let Some(step) = step {
            let executed = self.lane.execute(&step);
            self.note_of(executed, &outputs)?;
        }
        Ok(outputs)
    }

    /// What a tensor is.
    pub fn describe(&self, id: TensorId) -> Result<Description, SessionError> {
        Ok(self.ledger.operand(id)?.description())
    }

    /// The elements of a tensor, little-endian and row-major, once they are computed.
    pub fn read(&mut self, id: TensorId) -> Result<Vec<u8>, SessionError> {
        self.check_lane()?;
        let operand = self.ledger.operand(id)?;
        let elements = self.lane.read(&operand);
        self.note(elements)
    }

    /// The same, without a copy where the device's memory is the host's. What is lent stays in use,
    /// and charged, until it is dropped, which may be after the session.
    pub fn lend(&mut self, id: TensorId) -> Result<Bytes, SessionError> {
        self.check_lane()?;
        self.take_back();
        let Lending { step, operand, loan } = self.ledger.lend(id)?;
        let copied = step.map_or(Ok(()), |step| self.lane.execute(&step));
        let lent = copied.and_then(|()| self.lane.lend(&operand));
        Ok(loan.of(self.note(lent)?.into_bytes(), ()))
    }

    /// Waits until everything is computed.
    pub fn finish(&mut self) -> Result<(), SessionError> {
        self.check_lane()?;
        let finished = self.lane.finish();
        self.note(finished)
    }

    /// Gives up a tensor; its memory is free with the last tensor that shares it.
    pub fn release(&mut self, id: TensorId) -> Result<(), SessionError> {
        if let Some((buffer, _)) = self.ledger.release(id)? {
            self.lane.free(buffer);
        }
        self.take_back();
        Ok(())
    }

    /// What it has at the moment.
    pub fn usage(&mut self) -> Usage {
        self.take_back();
        self.ledger.usage()
    }

    /// Frees what nobody has any more to whom it was lent.
    fn take_back(&mut self) {
        for (buffer, _) in self.ledger.take_back() {
            self.lane.free(buffer);
        }
    }

    fn check_lane(&self) -> Result<(), SessionError> {
        self.failure.clone().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Keeps the first thing that went wrong.
    fn note<T>(&mut self, outcome: Result<T, LaneError>) -> Result<T, SessionError> {
        if let Err(failure) = &outcome {
            self.failure.get_or_insert(failure.clone());
        }
        Ok(outcome?)
    }

    /// The same of what was to make tensors; those that did not come to be are given up.
    fn note_of(
        &mut self,
        outcome: Result<(), LaneError>,
        tensors: &[TensorId],
    ) -> Result<(), SessionError> {
        if outcome.is_err() {
            for tensor in tensors {
                self.release(*tensor)?;
            }
        }
        self.note(outcome)
    }
}
