//! The host's side of devices, as short as it can be: sessions of the CPU device that compute when
//! they are asked. Some wait, as those of a busy device do.

use std::{num::NonZero, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::{BoxFuture, pending, ready};
use quern_kernels::{CpuDevice, Device, Session};
use quern_operators::{
    Description, KernelCalls, KernelSession, OfferError, OpenError, Operator, Parcel, SessionError,
    SessionLimits, SessionRequest, TensorId, Ticket, Usage,
};
use quern_types::TenantId;

/// A device, and how its sessions behave.
pub(crate) struct Kernels {
    device: CpuDevice,
    patience: Patience,
}

/// Whether sessions answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// At once, but now and then there is no room for a moment.
    Prompt,
    /// Never: whoever reads waits for good.
    Stuck,
}

impl Kernels {
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        let device = CpuDevice::new(NonZero::<usize>::MIN).expect("a device");
        Arc::new(Self { device, patience })
    }

    /// Memory that sessions have on the device.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.device.held_bytes()
    }
}

impl KernelCalls for Kernels {
    fn open(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'static, Result<Box<dyn KernelSession>, OpenError>> {
        assert_eq!(request.function.as_str(), "guest");
        let opened = Session::open(&self.device, SessionLimits::of_bytes(request.memory_bytes));
        let patience = self.patience;
        Box::pin(ready(match opened {
            Ok(session) => Ok(Box::new(Direct { session, patience, asked: 0 }) as Box<_>),
            Err(error) => Err(OpenError::Lost { device: "cpu:0".into(), error }),
        }))
    }

    fn offer(&self, _: &TenantId, _: Parcel, _: Duration) -> Result<Ticket, OfferError> {
        Err(OfferError::Waiting { limit: 0 })
    }

    fn offered(&self, _: &TenantId, _: Ticket) -> Option<Description> {
        None
    }

    fn accept(&self, _: &TenantId, _: Ticket) -> Option<Parcel> {
        None
    }
}

struct Direct {
    session: Session,
    patience: Patience,
    asked: u64,
}

impl KernelSession for Direct {
    fn device(&self) -> &str {
        "cpu:0"
    }

    fn room(&mut self, _: u64) -> Option<BoxFuture<'static, ()>> {
        self.asked += 1;
        let full = self.asked.is_multiple_of(100);
        full.then(|| -> BoxFuture<'static, ()> { Box::pin(tokio::task::yield_now()) })
    }

    fn upload(
        &mut self,
        description: Description,
        elements: &[u8],
    ) -> Result<TensorId, SessionError> {
        self.session.upload(description, elements)
    }

    fn run(
        &mut self,
        operator: &Operator,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, SessionError> {
        self.session.run(operator, inputs)
    }

    fn read(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Vec<u8>, SessionError>> {
        match self.patience {
            Patience::Prompt => Box::pin(ready(self.session.read(tensor))),
            Patience::Stuck => Box::pin(pending()),
        }
    }

    fn lend(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Bytes, SessionError>> {
        Box::pin(ready(self.session.lend(tensor)))
    }

    fn pack(&mut self, tensor: TensorId) -> BoxFuture<'static, Result<Parcel, SessionError>> {
        let packed = self.session.describe(tensor).and_then(|description| {
            let elements = self.session.lend(tensor)?;
            let bytes = description.bytes();
            Ok(Parcel::new("cpu:0".to_owned(), description, bytes, Box::new(elements)))
        });
        Box::pin(ready(packed))
    }

    fn check_room(&mut self, _: &Description) -> Result<(), SessionError> {
        Ok(())
    }

    fn unpack(&mut self, parcel: Parcel) -> Result<TensorId, SessionError> {
        let description = parcel.description();
        let elements = parcel.into_contents().downcast::<Bytes>().expect("it packed them");
        self.session.upload(description, &elements)
    }

    fn finish(&mut self) -> BoxFuture<'static, Result<(), SessionError>> {
        Box::pin(ready(self.session.finish()))
    }

    fn describe(&self, tensor: TensorId) -> Result<Description, SessionError> {
        self.session.describe(tensor)
    }

    fn release(&mut self, tensor: TensorId) -> Result<(), SessionError> {
        self.session.release(tensor)
    }

    fn usage(&mut self) -> Usage {
        self.session.usage()
    }
}
