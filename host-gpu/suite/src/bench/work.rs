//! Operators on inputs, run again and again until their time is known.

use std::time::{Duration, Instant};

use anyhow::Result;
use quern_kernels::{Device, Session, SessionLimits, TensorId};
use quern_operators::{Description, Dtype, Kernel, Operator, Shape, View};

/// Most memory that a measurement takes.
const BUDGET_BYTES: u64 = 16 << 30;

/// How often something is measured; the middle counts.
const ROUNDS: usize = 5;

/// How thorough measurements are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Whether it is enough that they run.
    pub(crate) tiny: bool,
}

impl Pace {
    /// How long a round takes at least.
    pub(crate) fn period(self) -> Duration {
        Duration::from_millis(if self.tiny { 1 } else { 100 })
    }

    /// A size, or a little one in its place.
    pub(crate) fn size(self, size: u64) -> u64 {
        if self.tiny { size.min(8) } else { size }
    }

    fn rounds(self) -> usize {
        if self.tiny { 1 } else { ROUNDS }
    }
}

/// A session with the inputs of an operator.
pub(crate) struct Work {
    session: Session,
    operator: Operator,
    inputs: Vec<TensorId>,
}

impl Work {
    /// Makes inputs of a type and shapes.
    pub(crate) fn new(
        device: &dyn Device,
        kernel: Kernel,
        dtype: Dtype,
        shapes: &[Vec<u64>],
    ) -> Result<Self> {
        let session = Session::open(device, SessionLimits::of_bytes(BUDGET_BYTES))?;
        let mut work = Self { session, operator: kernel.into(), inputs: Vec::new() };
        for (number, dims) in shapes.iter().enumerate() {
            let input = work.floats(Shape::new(dims)?, number as u64, dtype)?;
            work.inputs.push(input);
        }
        Ok(work)
    }

    /// The same with a further input of indices below a bound.
    pub(crate) fn with_indices(mut self, dims: &[u64], bound: u64) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let index = |place: u64| (place * 7_919 % bound).to_le_bytes();
        let indices: Vec<_> = (0..shape.elements()).flat_map(index).collect();
        let indices = self.session.upload(Description::new(Dtype::Int64, shape), &indices)?;
        self.inputs.push(indices);
        Ok(self)
    }

    /// The same where the first input is seen with its dimensions in another order.
    pub(crate) fn turned(mut self, axes: &[u8]) -> Result<Self> {
        let view = Operator::View(View::Permute(axes.to_vec()));
        let seen = self.session.run(&view, &self.inputs[..1])?[0];
        self.session.release(std::mem::replace(&mut self.inputs[0], seen))?;
        Ok(self)
    }

    /// Numbers between -0.5 and 0.5, few of them made on the host.
    fn floats(&mut self, shape: Shape, number: u64, dtype: Dtype) -> Result<TensorId> {
        const SOME: u64 = 4093;
        let value = |place: u64| ((place * 37 + number * 11) % 101) as f32 / 101.0 - 0.5;
        let few: Vec<_> = (0..SOME).flat_map(|place| value(place).to_le_bytes()).collect();
        let few_shape = Shape::new(&[SOME])?;
        let few = self.session.upload(Description::new(Dtype::Fp32, few_shape), &few)?;
        let few = self.replace(Kernel::Cast(dtype).into(), few)?;
        let times = shape.elements().div_ceil(SOME).max(1);
        let row = View::Reshape(Shape::new(&[1, SOME])?);
        let many = self.replace(row.into(), few)?;
        let many = self.replace(View::Broadcast(Shape::new(&[times, SOME])?).into(), many)?;
        let many = self.replace(View::Reshape(Shape::new(&[times * SOME])?).into(), many)?;
        let part = quern_operators::Range { start: 0, end: shape.elements(), step: 1 };
        let part = self.replace(View::Slice(vec![part]).into(), many)?;
        let part = self.replace(Kernel::Copy.into(), part)?;
        self.replace(View::Reshape(shape).into(), part)
    }

    fn replace(&mut self, operator: Operator, input: TensorId) -> Result<TensorId> {
        let made = self.session.run(&operator, &[input])?[0];
        self.session.release(input)?;
        Ok(made)
    }

    /// Runs it once, and gives up what came out.
    pub(crate) fn once(&mut self) -> Result<()> {
        let outputs = self.session.run(&self.operator, &self.inputs)?;
        outputs.into_iter().try_for_each(|output| self.session.release(output))?;
        Ok(())
    }

    /// Waits until all is done.
    pub(crate) fn finish(&mut self) -> Result<()> {
        Ok(self.session.finish()?)
    }

    /// Seconds that a run takes, where one follows the other.
    pub(crate) fn seconds(&mut self, pace: Pace) -> Result<f64> {
        self.once()?;
        self.finish()?;
        let (mut times, mut seconds) = (1u32, Vec::new());
        while seconds.len() < pace.rounds() {
            let begin = Instant::now();
            for _ in 0..times {
                self.once()?;
            }
            self.finish()?;
            let took = begin.elapsed();
            if took < pace.period() && times < 1 << 20 {
                times *= 2;
                continue;
            }
            seconds.push(took.as_secs_f64() / f64::from(times));
        }
        Ok(median(&mut seconds))
    }
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
