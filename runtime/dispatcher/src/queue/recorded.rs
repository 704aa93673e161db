//! The span of a run, in a trace of its own: calls of many traces share it, so that it is linked with
//! each of them and belongs to none. Without a recorded call there is none.

use std::{fmt::Display, time::Duration};

use quern_types::{Span, SpanLink, Trace};

use super::Running;
use crate::metrics::ModelMetrics;

/// The span of one run.
pub(super) struct RunSpan {
    span: Span,
    /// How calls name it; none if it is not recorded.
    link: Option<SpanLink>,
}

impl RunSpan {
    /// Begins with the run; of the calls in it, those that are recorded are linked.
    pub(super) fn begin(metrics: &ModelMetrics, calls: &[Running]) -> Self {
        let Some(first) = calls.iter().find(|call| call.trace.is_recorded()) else {
            return Self { span: Span::none(), link: None };
        };
        let mut span = first.trace.begin_apart("run");
        let [tenant, model, engine, device] = metrics.labels();
        span.note(|| {
            [
                ("quern.tenant", tenant.into()),
                ("quern.model", model.into()),
                ("quern.engine", engine.into()),
                ("quern.device", device.into()),
                ("quern.calls", (calls.len() as u64).into()),
            ]
        });
        calls.iter().filter_map(|call| call.trace.link()).for_each(|link| span.link(link));
        let link = span.trace().link();
        Self { span, link }
    }

    /// Takes down that the run was good; it goes on until its calls are answered.
    pub(super) fn end(&mut self, rows: u32, compute: Duration) {
        self.span.note(|| [("quern.rows", rows.into()), ("quern.compute_us", compute.into())]);
    }

    /// Takes down that the run failed.
    pub(super) fn fail(&mut self, why: &dyn Display) {
        self.span.fail(why);
    }

    /// What a call is to be linked with.
    pub(super) fn link_for(&self, call: &Trace) -> Vec<SpanLink> {
        self.link.filter(|_| call.is_recorded()).into_iter().collect()
    }
}
