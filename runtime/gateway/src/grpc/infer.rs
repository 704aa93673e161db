//! One request for inference: read, dispatched like one that came over HTTP, answered. Inputs are
//! checked against the signature further in, where they run.

use std::time::Instant;

use quern_dispatcher::{InferReply, InferRequest};
use quern_types::{Choice, Served, Tensor, VersionNumber};

use super::{
    Call,
    protocol::{InferParameter, infer_parameter::ParameterChoice},
    request::{InferenceRequest, Outline},
    response::{Answer, answered},
};
use crate::{
    body::Reply,
    collect::Collected,
    errors::Failure,
    route::Target,
    selection::selector,
    shared_memory,
    sharing::Reached,
    v2::{self, Output, Wanted},
};

/// Inputs above this are read off the async threads: it takes longer than 500 µs.
const LARGE_INPUT: usize = 1 << 20;
/// Outputs above this leave the async threads while they become classes.
const LARGE_OUTPUT: usize = 128 << 10;

/// What came of a request.
pub(super) struct Inferred {
    pub(super) answer: Answer,
    version: VersionNumber,
    served: Option<Served>,
}

impl Call {
    /// A request that is a call of its own.
    pub(super) async fn infer_alone(&self, message: Collected) -> Result<Reply, Failure> {
        let Inferred { answer, version, served } = self.infer(message).await?;
        let mut reply = answered(answer.alone()?);
        v2::describe(reply.headers_mut(), version, served.as_ref());
        Ok(reply)
    }

    pub(super) async fn infer(&self, mut message: Collected) -> Result<Inferred, Failure> {
        let InferenceRequest {
            model_name,
            model_version,
            id,
            inputs,
            shared,
            outputs,
            timeout,
            priority,
            marks_final,
        } = read(&mut message).await?;
        let target = Target::parse(&model_name, &model_version)?;
        let gateway = &*self.gateway;
        let selector = selector(&self.headers, target.version)?;
        let invocation = self.invocation.id();
        let choice = Choice { selector: selector.as_ref(), headers: &self.headers, id: invocation };
        let (found, picked) = gateway.choose(&self.caller, &target, &choice)?;
        let wanted = Wanted::new(&found, outputs, true, gateway)?;
        drop(found);
        let inputs = match shared.is_empty() {
            true => inputs,
            // Boxed, so that the future of every other request stays small.
            false => Box::pin(shared_memory::fetch(gateway, inputs, shared)).await?,
        };

        let Reached { owner, routes } = gateway.reach_target(&self.caller, &target)?;
        let own = self.deadline.map(|end| end.at().saturating_duration_since(Instant::now()));
        let request = InferRequest {
            id: invocation,
            routes,
            tenant: owner,
            target: target.name.name,
            picked,
            timeout: timeout.into_iter().chain(own).min(),
            priority,
            trace: self.trace.clone(),
            inputs,
        };
        let InferReply { outputs, version, served } = gateway.dispatcher.infer(request).await?;
        let outputs = select(outputs, wanted).await?;
        let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        let last = marks_final.then_some(("triton_final_response", last));
        let answer = Answer {
            model_name,
            model_version: version.to_string(),
            id,
            parameters: last.into_iter().collect(),
            outputs,
        };
        Ok(Inferred { answer, version, served })
    }
}

/// The request in a message, whose room covers what it becomes.
async fn read(message: &mut Collected) -> Result<InferenceRequest, Failure> {
    let outline = Outline::read((**message).clone())?;
    message.cover_also(outline.cost())?;
    if outline.work() > LARGE_INPUT {
        return Ok(v2::off_thread(move || outline.fill()).await??);
    }
    Ok(outline.fill()?)
}

/// The outputs in the order and form asked for; those that go to shared memory are there.
async fn select(given: Vec<Tensor>, wanted: Wanted) -> Result<Vec<Output>, Failure> {
    let is_large = wanted.work(&given) > LARGE_OUTPUT;
    let select = move || {
        let outputs = wanted.select(given)?;
        v2::put_away(&outputs)?;
        Ok::<_, v2::OutputError>(outputs)
    };
    Ok(if is_large { v2::off_thread(select).await? } else { select() }?)
}
