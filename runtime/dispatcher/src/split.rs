//! A call with more rows than one run takes: its rows are cut into parts on the way in, and their
//! outputs joined in order on the way out. Never decides where it is cut.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use quern_scheduler::{CallId, Part};
use quern_types::{SpanLink, Tensor};

use crate::queue::{Answer, Computed, Reply, Uncomputed};

/// Outputs larger than this are joined off the async threads: it takes longer than 500 µs.
const LARGE_OUTPUT: usize = 1 << 20;

/// A call that runs in parts.
pub(crate) struct Split(Mutex<State>);

struct State {
    /// None once it is answered.
    reply: Option<Reply>,
    /// Rows that have not come out yet.
    left: u32,
    parts: Parts,
}

/// One part of a call, on its way. Dropped without an answer, which only a panic in the host can
/// do, it fails the call.
pub(crate) struct PartReply {
    split: Arc<Split>,
    part: Part,
    is_answered: bool,
}

/// The outputs of a call's parts, and what their runs were like.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By the first row of each.
    outputs: BTreeMap<u32, Vec<Tensor>>,
    batch_rows: u32,
    /// Of the part that ran first.
    queued: Option<Duration>,
    compute: Duration,
    /// When the last of them was over.
    ended: Option<Instant>,
    /// The spans of their runs.
    runs: Vec<SpanLink>,
}

impl Split {
    pub(crate) fn new(rows: u32, reply: Reply) -> Arc<Self> {
        let state = State { reply: Some(reply), left: rows, parts: Parts::default() };
        Arc::new(Self(Mutex::new(state)))
    }

    pub(crate) fn part(self: &Arc<Self>, part: Part) -> PartReply {
        PartReply { split: self.clone(), part, is_answered: false }
    }

    fn computed(&self, Part { first, rows, .. }: Part, computed: Computed) {
        let mut state = self.lock();
        let Computed { outputs, batch_rows, queued, compute, ended, runs } = computed;
        let parts = &mut state.parts;
        parts.outputs.insert(first, outputs);
        parts.batch_rows = parts.batch_rows.max(batch_rows);
        parts.queued = Some(parts.queued.map_or(queued, |before| before.min(queued)));
        parts.compute += compute;
        parts.ended = parts.ended.max(Some(ended));
        parts.runs.extend(runs);
        state.left = state.left.saturating_sub(rows);
        if state.left == 0
            && let Some(reply) = state.reply.take()
        {
            let parts = std::mem::take(&mut state.parts);
            drop(state);
            // Whoever has left needs no answer.
            let _ = reply.send(Ok(Answer::Parts(parts)));
        }
    }

    /// Answers the call with an error, unless it has one. What its other parts give is dropped.
    pub(crate) fn failed(&self, error: Uncomputed) {
        let mut state = self.lock();
        state.parts = Parts::default();
        if let Some(reply) = state.reply.take() {
            drop(state);
            let _ = reply.send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartReply {
    /// The call that it is a part of.
    pub(crate) fn call(&self) -> CallId {
        self.part.call
    }

    /// Whether anybody waits for the call's answer.
    pub(crate) fn is_wanted(&self) -> bool {
        self.split.lock().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// Takes in what the part gave; the last one answers the call.
    pub(crate) fn computed(mut self, computed: Computed) {
        self.is_answered = true;
        self.split.computed(self.part, computed);
    }

    /// Answers the call with an error, unless it has one.
    pub(crate) fn failed(mut self, error: Uncomputed) {
        self.is_answered = true;
        self.split.failed(error);
    }
}

impl Drop for PartReply {
    fn drop(&mut self) {
        if !self.is_answered {
            self.split.failed(Uncomputed::Lost);
        }
    }
}

/// Cuts so many rows off the beginning of a call's inputs; they share their data. What is left
/// keeps the rest, so that no part walks again over the texts of those before it.
pub(crate) fn cut_off(inputs: &mut [Tensor], rows: u32) -> Vec<Tensor> {
    let at = u64::from(rows);
    let cut_off = |input: &mut Tensor| {
        let count = input.shape().first().copied().unwrap_or_default();
        let part = input.rows(0..at).zip(input.rows(at..count));
        let (part, rest) = part.expect("all inputs have the rows that the call was queued with");
        *input = rest;
        part
    };
    inputs.iter_mut().map(cut_off).collect()
}

impl Parts {
    /// The outputs of all parts, as one run would have given them.
    pub(crate) async fn join(self) -> Result<Computed, Uncomputed> {
        let Self { outputs, batch_rows, queued, compute, ended, runs } = self;
        let outputs: Vec<Vec<Tensor>> = outputs.into_values().collect();
        let bytes: usize = outputs.iter().flatten().map(|output| output.data().len()).sum();
        let outputs = if bytes > LARGE_OUTPUT {
            let joined = tokio::task::spawn_blocking(move || join(&outputs)).await;
            joined.map_err(|_| Uncomputed::Lost)?
        } else {
            join(&outputs)
        }?;
        let (queued, ended) = (queued.unwrap_or_default(), ended.unwrap_or_else(Instant::now));
        Ok(Computed { outputs, batch_rows, queued, compute, ended, runs })
    }
}

/// Joins the outputs of parts one by one.
fn join(parts: &[Vec<Tensor>]) -> Result<Vec<Tensor>, Uncomputed> {
    let Some(first) = parts.first() else { return Err(Uncomputed::Lost) };
    let joined = first.iter().enumerate().map(|(index, output)| {
        let same: Option<Vec<Tensor>> = parts.iter().map(|part| part.get(index).cloned()).collect();
        let joined = same.and_then(|parts| Tensor::join(&parts));
        joined.ok_or_else(|| Uncomputed::Uneven { output: output.name().clone() })
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use quern_types::DataType;
    use tokio::sync::oneshot;

    use super::*;

    fn part(split: &Arc<Split>, first: u32, rows: u32) -> PartReply {
        split.part(Part { call: CallId(0), first, rows })
    }

    fn tensor(shape: &[u64], data: &[u8]) -> Tensor {
        Tensor::new("y", DataType::Uint8, shape.to_vec(), data.to_vec()).expect("a tensor")
    }

    fn computed(output: Tensor, queued_us: u64, batch_rows: u32) -> Computed {
        Computed {
            outputs: vec![output],
            batch_rows,
            queued: Duration::from_micros(queued_us),
            compute: Duration::from_micros(10),
            ended: Instant::now(),
            runs: Vec::new(),
        }
    }

    async fn answer(receiver: oneshot::Receiver<Result<Answer, Uncomputed>>) -> Computed {
        match receiver.await.expect("answered") {
            Ok(Answer::Parts(parts)) => parts.join().await.expect("joined"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn parts_are_joined_in_order_whenever_they_come() {
        let (reply, receiver) = oneshot::channel();
        let split = Split::new(5, reply);
        part(&split, 4, 1).computed(computed(tensor(&[1, 2], &[8, 9]), 7, 1));
        part(&split, 0, 2).computed(computed(tensor(&[2, 2], &[0, 1, 2, 3]), 5, 3));
        part(&split, 2, 2).computed(computed(tensor(&[2, 2], &[4, 5, 6, 7]), 6, 2));
        let Computed { outputs, batch_rows, queued, compute, .. } = answer(receiver).await;
        assert_eq!(outputs, [tensor(&[5, 2], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])]);
        assert_eq!((batch_rows, queued.as_micros(), compute.as_micros()), (3, 5, 30));
    }

    #[tokio::test]
    async fn large_outputs_are_joined_as_well() {
        let half = LARGE_OUTPUT as u64;
        let (reply, receiver) = oneshot::channel();
        let split = Split::new(2, reply);
        part(&split, 1, 1).computed(computed(tensor(&[1, half], &vec![2; LARGE_OUTPUT]), 0, 1));
        part(&split, 0, 1).computed(computed(tensor(&[1, half], &vec![1; LARGE_OUTPUT]), 0, 1));
        let outputs = answer(receiver).await.outputs;
        assert_eq!(outputs[0].shape(), [2, half]);
        assert_eq!((outputs[0].data()[0], outputs[0].data()[LARGE_OUTPUT]), (1, 2));
    }

    #[tokio::test]
    async fn a_failed_part_fails_the_call_once() {
        let (reply, receiver) = oneshot::channel();
        let split = Split::new(3, reply);
        part(&split, 0, 1).computed(computed(tensor(&[1], &[0]), 0, 1));
        let (second, third) = (part(&split, 1, 1), part(&split, 2, 1));
        assert!(third.is_wanted());
        second.failed(Uncomputed::Expired);
        assert!(!third.is_wanted());
        third.failed(Uncomputed::Lost);
        part(&split, 1, 2).computed(computed(tensor(&[2], &[0, 0]), 0, 2));
        assert!(matches!(receiver.await, Ok(Err(Uncomputed::Expired))));
    }

    #[tokio::test]
    async fn a_lost_part_loses_the_call() {
        let (reply, receiver) = oneshot::channel();
        drop(part(&Split::new(3, reply), 0, 1));
        assert!(matches!(receiver.await, Ok(Err(Uncomputed::Lost))));
    }

    #[tokio::test]
    async fn parts_of_different_shapes_are_an_error() {
        let (reply, receiver) = oneshot::channel();
        let split = Split::new(2, reply);
        part(&split, 0, 1).computed(computed(tensor(&[1, 1], &[0]), 0, 1));
        part(&split, 1, 1).computed(computed(tensor(&[1, 2], &[0, 0]), 0, 1));
        let Ok(Ok(Answer::Parts(parts))) = receiver.await else { panic!("not in parts") };
        assert_eq!(parts.join().await.err(), Some(Uncomputed::Uneven { output: "y".into() }));
    }

    #[test]
    fn rows_are_cut_off_every_input() {
        let texts = |shape: &[u64], data: &[u8]| {
            Tensor::new("s", DataType::Bytes, shape.to_vec(), data.to_vec()).expect("texts")
        };
        let mut inputs = [
            tensor(&[3, 2], &[0, 1, 2, 3, 4, 5]),
            texts(&[3, 1], &[1, 0, 0, 0, b'a', 0, 0, 0, 0, 1, 0, 0, 0, b'b']),
        ];
        let first = [tensor(&[1, 2], &[0, 1]), texts(&[1, 1], &[1, 0, 0, 0, b'a'])];
        assert_eq!(cut_off(&mut inputs, 1), first);
        let rest =
            [tensor(&[2, 2], &[2, 3, 4, 5]), texts(&[2, 1], &[0, 0, 0, 0, 1, 0, 0, 0, b'b'])];
        assert_eq!(inputs, rest);
        assert_eq!(cut_off(&mut inputs, 2), rest);
        assert_eq!(inputs, [tensor(&[0, 2], &[]), texts(&[0, 1], &[])]);
    }
}
