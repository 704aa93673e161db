//! Calls of inference functions.

use std::time::Instant;

use quern_types::{Call, InvokeError, Tensor};

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
        &self,
        call: Call,
        inputs: Vec<Tensor>,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let setting = &self.setting;
        let deadline = call.deadline;
        // The reporter gives the request's place to another: it goes after the instance.
        let (store, mut reporter) = setting.begin(self.entry.engine(), call, report);
        let mut store = store;
        let mut answer = Ok(Vec::new());
        let run = async {
            let start = Instant::now();
            let instance = self.entry.instantiate_async(&mut store).await?;
            setting.metrics.instantiate_seconds.observe(start.elapsed().as_secs_f64());
            let inputs = all_to_guest(&inputs);
            answer = instance.quern_ml_inference().call_infer(&mut store, &inputs).await?;
            Ok(())
        };
        let (ending, cpu) = Budget::new(run, setting.limits.cpu.0, deadline).await;
        if let Some(error) = reporter.ended(ending, cpu, setting, &store) {
            return Err(error);
        }
        self.check(answer).map_err(|error| {
            let detail = error.to_string();
            reporter.failed(error, detail)
        })
    }

    /// Takes the guest's answer apart; its outputs must fit its signature.
    fn check(
        &self,
        answer: Result<Vec<GuestTensor>, GuestError>,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let outputs = all_to_host(answer.map_err(guest_error_to_host)?)
            .map_err(|reason| InvokeError::InvalidOutput { reason })?;
        self.signature
            .check_outputs(outputs)
            .map_err(|mismatch| InvokeError::InvalidOutput { reason: mismatch.to_string() })
    }
}
