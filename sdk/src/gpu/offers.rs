//! Tensors handed from one session to another, of this function or another one of the tenant.

use std::time::Duration;

use super::{Error, Session, Tensor};
use crate::bindings::quern::ml::gpu_offers as contract;

impl Tensor {
    /// Offers this tensor to whoever of the tenant's functions accepts it first, within so much time,
    /// at most a minute: the ticket for [`Session::accept`]. Who has the ticket can take the tensor.
    ///
    /// ```no_run
    /// # use quern_sdk::{Error, Request, Response, gpu::Session};
    /// # use std::time::Duration;
    /// /// Makes a tensor, and answers with where to get it.
    /// fn make(_: Request) -> Result<Response, Error> {
    ///     let tensor = Session::open()?.full([1024, 1024], 1.0f32)?;
    ///     Ok(Response::text(tensor.offer(Duration::from_secs(10))?))
    /// }
    ///
    /// /// Takes it, on the same device, where nothing is copied for it.
    /// fn take(ticket: &str) -> Result<f32, Error> {
    ///     Ok(Session::open()?.accept(ticket)?.sum_all()?.item()?)
    /// }
    /// ```
    pub fn offer(&self, lifetime: Duration) -> Result<String, Error> {
        // Too long a time stays too long.
        let milliseconds = u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX);
        contract::offer(self.handle(), milliseconds).map_err(Error::from_contract)
    }
}

impl Session {
    /// Takes what waits under a ticket into this session. [`ErrorKind::Unknown`](super::ErrorKind)
    /// where nothing does; where this session has no room for it, it goes on waiting.
    pub fn accept(&self, ticket: &str) -> Result<Tensor, Error> {
        let handle = contract::accept(self.handle(), ticket).map_err(Error::from_contract)?;
        Ok(Tensor::new(handle, self))
    }
}
