//! Attention with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): a few queries meet
//! the keys block by block, so that the products of all queries with all keys are never there at
//! once. Never looks at keys that causality hides from all queries of a block.

use std::ops::Range;

use super::{
    element::Element,
    float::Float,
    launch::{Launch, with_float},
    matmul::{Batch, Matrix, PANEL_DEPTH, Panel, Product, multiply},
    number::Number,
    reduction::{AddUp, Largest},
    source::Source,
    threads::Threads,
    vector::{self, Fold, Function},
};
use crate::LaneError;
use quern_operators::{Attention, Dtype};

/// Queries at a time.
const QUERIES: usize = 64;

/// Keys that they meet at a time.
const KEYS: usize = 256;

pub(super) fn attention(
    launch: &Launch,
    attention: &Attention,
    out: &mut [u8],
) -> Result<(), LaneError> {
    with_float!(launch.description(0).dtype, T => {
        let heads = Heads::<T>::new(launch, attention);
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        if T::DIRECT {
            heads.attend(launch.threads, bytemuck::cast_slice_mut(out));
        } else {
            let mut wide = launch.workspace(out.len())?;
            heads.attend(launch.threads, &mut wide);
            let narrow = |start: usize, chunk: &mut [T]| {
                vector::convert(&wide[start..start + chunk.len()], chunk);
            };
            launch.threads.chunks(out, 1, narrow);
        }
    });
    Ok(())
}

/// The inputs: matrices of queries, keys and values, one of each for each head.
struct Heads<'a, T: Element> {
    query: Batch<'a, T>,
    key: Batch<'a, T>,
    value: Batch<'a, T>,
    mask: Option<Mask<'a, T>>,
    scale: T::Compute,
    causal: bool,
}

/// What is known of queries by keys, of one head after the other.
enum Mask<'a, T> {
    /// Whether they meet.
    Seen(Source<'a, u8>),
    /// What is added to their products.
    Added(Source<'a, T>),
}

/// What one thread computes with.
struct Room<T: Element> {
    query: Panel<T>,
    key: Panel<T>,
    value: Panel<T>,
    /// Of queries by keys; in the end their weights.
    scores: Vec<T::Compute>,
    seen: Vec<u8>,
    added: Vec<T>,
}

impl<T: Element> Room<T> {
    fn new() -> Self {
        Self {
            query: Panel::new(),
            key: Panel::new(),
            value: Panel::new(),
            scores: vec![T::Compute::ZERO; QUERIES * KEYS],
            seen: Vec::new(),
            added: Vec::new(),
        }
    }
}

/// Some queries of a head.
#[derive(Clone)]
struct Block {
    head: usize,
    queries: Range<usize>,
}

impl<'a, T: Element<Compute: Float>> Heads<'a, T> {
    fn new(launch: &Launch<'a>, attention: &Attention) -> Self {
        let [query, key, value] = [0, 1, 2].map(|input| Batch::new(launch, input));
        let mask = (launch.inputs().len() > 3).then(|| match launch.description(3).dtype {
            Dtype::Bool => Mask::Seen(launch.source(3)),
            _ => Mask::Added(launch.source(3)),
        });
        let scale = T::Compute::of_f64(attention.scale(query.dims[1] as u64));
        Self { query, key, value, mask, scale, causal: attention.causal }
    }

    /// Writes what each query gets, a row for each.
    fn attend(&self, threads: &Threads, out: &mut [T::Compute]) {
        let ([queries, width], [keys, value_width]) = (self.query.dims, self.value.dims);
        if out.is_empty() {
            return;
        }
        let cost = keys.saturating_mul(width + value_width) / value_width / 16;
        threads.rows(out, QUERIES * value_width, cost, |first, mut chunk| {
            let (mut room, mut at) = (Room::new(), first * QUERIES);
            while !chunk.is_empty() {
                let (head, begin) = (at / queries, at % queries);
                // Cut at the same places however many threads there are.
                let count = (QUERIES - at % QUERIES).min(queries - begin);
                let (now, later) = chunk.split_at_mut(count * value_width);
                let block = Block { head, queries: begin..begin + count };
                self.attend_block(block, now, &mut room);
                chunk = later;
                at += count;
            }
        });
    }

    fn attend_block(&self, block: Block, out: &mut [T::Compute], room: &mut Room<T>) {
        let [keys, width] = self.value.dims;
        let mut softmax = [OnlineSoftmax::new(); QUERIES];
        out.fill(T::Compute::ZERO);
        let end = if self.causal { keys.min(block.queries.end) } else { keys };
        for begin in (0..end).step_by(KEYS) {
            let keys = begin..(begin + KEYS).min(end);
            self.score(&block, keys.clone(), room);
            let rows = block.queries.clone().zip(out.chunks_mut(width)).zip(&mut softmax);
            for (scores, ((query, out), softmax)) in room.scores.chunks_mut(keys.len()).zip(rows) {
                let place = (block.head * self.query.dims[0] + query) * self.key.dims[0];
                let masked = (place + keys.start, &mut *scores);
                self.mask(masked, &mut room.seen, &mut room.added);
                if self.causal {
                    let seen = (query + 1).saturating_sub(keys.start).min(keys.len());
                    scores[seen..].fill(T::Compute::LOWEST);
                }
                let factor = softmax.take(scores);
                if factor != T::Compute::ONE {
                    vector::replace(out, Scaled(factor));
                }
            }
            self.add_values(&block, keys, out, room);
        }
        for (out, softmax) in out.chunks_mut(width).zip(softmax) {
            vector::replace(out, Scaled(softmax.share()));
        }
    }

    /// The products of some queries and some keys.
    fn score(&self, block: &Block, keys: Range<usize>, room: &mut Room<T>) {
        let (query, key) = (self.query.matrix(block.head), self.key.matrix(block.head));
        let (width, stride) = (self.query.dims[1], keys.len());
        let scores = &mut room.scores[..block.queries.len() * stride];
        if width == 0 {
            scores.fill(T::Compute::ZERO);
        }
        for begin in (0..width).step_by(PANEL_DEPTH) {
            let depth = begin..(begin + PANEL_DEPTH).min(width);
            let query = room.query.part(&query, block.queries.clone(), depth.clone());
            let key = room.key.part(&key, keys.clone(), depth).turned();
            let product = Product { elements: scores, stride, add: begin > 0, factor: self.scale };
            multiply(&query, &key, product, gemm::Parallelism::None);
        }
    }

    /// Applies the mask to the scores of one query, of which the first has a place in it.
    fn mask(
        &self,
        (place, scores): (usize, &mut [T::Compute]),
        seen: &mut Vec<u8>,
        added: &mut Vec<T>,
    ) {
        match &self.mask {
            None => {}
            Some(Mask::Seen(mask)) => {
                let seen = mask.elements(place, scores.len(), seen);
                vector::accumulate(scores, seen, Seen::new());
            }
            Some(Mask::Added(mask)) => {
                let added = mask.elements(place, scores.len(), added);
                vector::accumulate(scores, added, AddUp);
            }
        }
    }

    /// Adds values by their weights.
    fn add_values(
        &self,
        block: &Block,
        keys: Range<usize>,
        out: &mut [T::Compute],
        room: &mut Room<T>,
    ) {
        let value = self.value.matrix(block.head);
        let (stride, factor) = (self.value.dims[1], T::Compute::ONE);
        let dims = [block.queries.len(), keys.len()];
        let weights = Matrix::new(&room.scores, dims, [keys.len(), 1]);
        for begin in (0..stride).step_by(PANEL_DEPTH) {
            let columns = begin..(begin + PANEL_DEPTH).min(stride);
            let value = room.value.part(&value, keys.clone(), columns);
            let product = Product { elements: &mut out[begin..], stride, add: true, factor };
            multiply(&weights, &value, product, gemm::Parallelism::None);
        }
    }
}

/// The softmax of one query's scores, of which some have been seen.
#[derive(Clone, Copy)]
struct OnlineSoftmax<C> {
    max: C,
    sum: C,
}

impl<C: Float> OnlineSoftmax<C> {
    fn new() -> Self {
        Self { max: C::LOWEST, sum: C::ZERO }
    }

    /// Makes weights of more scores, in their place. What was weighted before is to be multiplied by the result.
    fn take(&mut self, scores: &mut [C]) -> C {
        let before = self.max;
        self.max = before.larger(vector::fold(scores, Largest));
        if self.max == C::LOWEST {
            scores.fill(C::ZERO);
            return C::ONE;
        }
        let sum = vector::replace_fold(scores, ExpFrom { max: self.max }, AddUp);
        let factor = if before == C::LOWEST { C::ONE } else { before.sub(self.max).exp() };
        self.sum = self.sum.mul(factor).add(sum);
        factor
    }

    /// What makes shares of the weights; 0 if no score has any.
    fn share(&self) -> C {
        if self.sum == C::ZERO { C::ZERO } else { self.sum.reciprocal() }
    }
}

/// `e` to the power of how far an element is from the largest.
#[derive(Clone, Copy)]
pub(super) struct ExpFrom<C> {
    pub(super) max: C,
}

impl<C: Float> Function<C> for ExpFrom<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        x.sub(self.max).exp()
    }
}

/// Times a factor.
#[derive(Clone, Copy)]
pub(super) struct Scaled<C>(pub(super) C);

impl<C: Number> Function<C> for Scaled<C> {
    type Out = C;

    #[inline(always)]
    fn apply(self, x: C) -> C {
        x.mul(self.0)
    }
}

/// Scores stay where a mask is true.
#[derive(Clone, Copy)]
struct Seen<C>(std::marker::PhantomData<C>);

impl<C> Seen<C> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<C: Number> Fold<u8> for Seen<C> {
    type Lane = C;

    fn empty(self) -> C {
        C::LOWEST
    }

    #[inline(always)]
    fn step(self, score: C, seen: u8) -> C {
        if seen == 0 { C::LOWEST } else { score }
    }

    #[inline(always)]
    fn join(self, left: C, right: C) -> C {
        left.larger(right)
    }
}
