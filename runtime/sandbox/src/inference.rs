//! Calls of inference functions.

use std::sync::Arc;

use quern_types::{Call, Exceeded, InvokeError, Tensor};

use crate::{
    Report,
    budget::Budget,
    contract::{GuestError, GuestTensor, all_to_guest, all_to_host, guest_error_to_host},
    function::InferenceFunction,
};

impl InferenceFunction {
    /// Calls the function with inputs that satisfy its signature, in its order. `report` is called
    /// when it has ended, however it did; dropping the future cancels it.
    pub async fn infer(
        self: &Arc<Self>,
        call: Call,
        inputs: Vec<Tensor>,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let sorter = self.instances.setting.sorter.clone();
        sorter.sort(self.clone().run(call, inputs, report)).await
    }

    async fn run(
        self: Arc<Self>,
        call: Call,
        inputs: Vec<Tensor>,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let setting = &self.instances.setting;
        // The reporter gives the request's place to another: it goes after the instance.
        let (instance, mut reporter) = self.instances.begin(&call, report);
        let mut instance = instance;
        let mut answer = Ok(Vec::new());
        let run = async {
            let (store, guest) = self.instances.ready(&mut instance, &call).await?;
            let inputs = all_to_guest(&inputs);
            answer = guest.quern_ml_inference().call_infer(store, &inputs).await?;
            Ok(())
        };
        let (ending, cpu) = Budget::new(run, setting.limits.cpu.0, call.deadline).await;
        if let Some(error) = reporter.ended(ending, cpu, setting, &instance.store) {
            return Err(error);
        }
        let checked = self.check(answer);
        if matches!(checked, Ok(_) | Err(InvokeError::Guest { .. })) {
            self.instances.take_back(instance, &mut reporter);
        }
        checked.map_err(|error| {
            let detail = error.to_string();
            reporter.failed(error, detail)
        })
    }

    /// Takes the guest's answer apart; its outputs must fit its signature and its limit.
    fn check(
        &self,
        answer: Result<Vec<GuestTensor>, GuestError>,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let outputs = answer.map_err(guest_error_to_host)?;
        let limit = self.instances.setting.limits.response;
        if outputs.iter().map(|output| output.data.len() as u64).sum::<u64>() > limit.0 {
            return Err(InvokeError::Limit(Exceeded::Response(limit)));
        }
        let outputs =
            all_to_host(outputs).map_err(|reason| InvokeError::InvalidOutput { reason })?;
        self.signature
            .check_outputs(outputs)
            .map_err(|mismatch| InvokeError::InvalidOutput { reason: mismatch.to_string() })
    }
}
