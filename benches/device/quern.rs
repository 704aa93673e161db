//! Our side: cases on the CPU device, in one session.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use anyhow::Result;
use quern_kernels::{CpuDevice, Session, SessionLimits, TensorId};
use quern_operators::{Description, Dtype, Kernel, Operator, Shape};

use super::{cases::Case, median};

/// A session with the inputs of a case.
pub(crate) struct Quern {
    session: Session,
    kernel: Operator,
    inputs: Vec<TensorId>,
}

impl Quern {
    pub(crate) fn open(threads: NonZeroUsize) -> Result<Self> {
        let device = CpuDevice::new(threads)?;
        let session = Session::open(&device, SessionLimits::of_bytes(4 << 30))?;
        Ok(Self { session, kernel: Kernel::Copy.into(), inputs: Vec::new() })
    }

    /// Makes the inputs of a case.
    pub(crate) fn prepare(&mut self, case: &Case) -> Result<()> {
        self.kernel = case.kernel.clone().into();
        for (number, dims) in case.inputs.iter().enumerate() {
            let shape = Shape::new(dims)?;
            let is_index = case.indices && number + 1 == case.inputs.len();
            let input = match is_index {
                true => self.indices(shape, case.inputs[0][0])?,
                false => self.floats(shape, number as u64, case.dtype)?,
            };
            self.inputs.push(input);
        }
        if let Some(view) = case.view() {
            let seen = self.session.run(&view, &self.inputs[..1])?[0];
            self.session.release(std::mem::replace(&mut self.inputs[0], seen))?;
        }
        Ok(())
    }

    fn indices(&mut self, shape: Shape, rows: u64) -> Result<TensorId> {
        let index = |place: u64| (place * 7_919 % rows).to_le_bytes();
        let indices: Vec<_> = (0..shape.elements()).flat_map(index).collect();
        Ok(self.session.upload(Description::new(Dtype::Int64, shape), &indices)?)
    }

    fn floats(&mut self, shape: Shape, number: u64, dtype: Dtype) -> Result<TensorId> {
        let value = |place: u64| ((place * 37 + number * 11) % 101) as f32 / 101.0 - 0.5;
        let floats: Vec<_> =
            (0..shape.elements()).flat_map(|place| value(place).to_le_bytes()).collect();
        let floats = self.session.upload(Description::new(Dtype::Fp32, shape), &floats)?;
        let cast = self.session.run(&Kernel::Cast(dtype).into(), &[floats])?[0];
        self.session.release(floats)?;
        Ok(cast)
    }

    /// What the sizes of the first result's elements add up to.
    pub(crate) fn size(&mut self) -> Result<f64> {
        let outputs = self.session.run(&self.kernel, &self.inputs)?;
        let floats = self.session.run(&Kernel::Cast(Dtype::Fp32).into(), &outputs[..1])?[0];
        let elements = self.session.read(floats)?;
        for id in outputs.into_iter().chain([floats]) {
            self.session.release(id)?;
        }
        let (elements, _) = elements.as_chunks::<4>();
        Ok(elements.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes).abs())).sum())
    }

    /// Seconds that a call takes, the median of those in a period.
    pub(crate) fn measure(&mut self, period: Duration) -> Result<f64> {
        let (start, mut seconds) = (Instant::now(), Vec::new());
        while seconds.is_empty() || start.elapsed() < period {
            let begin = Instant::now();
            let outputs = self.session.run(&self.kernel, &self.inputs)?;
            self.session.finish()?;
            outputs.into_iter().try_for_each(|output| self.session.release(output))?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
        Ok(median(&mut seconds))
    }

    /// Gives back the inputs.
    pub(crate) fn release(&mut self) -> Result<()> {
        for input in std::mem::take(&mut self.inputs) {
            self.session.release(input)?;
        }
        Ok(())
    }
}
