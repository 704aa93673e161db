//! Tensors of the suite: elements as f64, whatever their type, and ways to lay them out on a
//! device.

use half::{bf16, f16};

use crate::{Session, SessionError, TensorId};
use quern_operators::{Description, Dtype, Operator, Range, Shape, View};

/// Numbers that look random and are the same on every run (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Floats from -2 to 2, small integers, or truths.
    pub(super) fn tensor(&mut self, description: Description) -> Host {
        let mut value = || match description.dtype {
            Dtype::Bool => self.below(2) as f64,
            Dtype::Uint8 => self.below(10) as f64,
            Dtype::Int32 | Dtype::Int64 => self.below(11) as f64 - 5.0,
            _ => (self.next() >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0,
        };
        let values = (0..description.shape.elements()).map(|_| value()).collect();
        Host::new(description, values)
    }
}

/// How the elements of an input lie on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One after another.
    Dense,
    /// Dimensions in reverse order.
    Turned,
    /// Every second element of larger dimensions.
    Spread,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Dense, Self::Turned, Self::Spread];
}

/// A tensor as the suite knows it; its values are those of its type exactly.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) dtype: Dtype,
    pub(super) shape: Shape,
    pub(super) values: Vec<f64>,
}

impl Host {
    /// Values become the nearest ones of the type.
    pub(super) fn new(description: Description, values: Vec<f64>) -> Self {
        assert_eq!(values.len() as u64, description.shape.elements(), "a value for each element");
        let tensor = Self { dtype: description.dtype, shape: description.shape, values };
        Self::decode(description, &tensor.encode())
    }

    pub(super) fn of(dtype: Dtype, dims: &[u64], values: Vec<f64>) -> Self {
        let shape = Shape::new(dims).expect("shapes of the suite are small");
        Self::new(Description::new(dtype, shape), values)
    }

    pub(super) fn description(&self) -> Description {
        Description::new(self.dtype, self.shape)
    }

    pub(super) fn dims(&self) -> &[u64] {
        self.shape.dims()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.description().bytes() as usize);
        for &value in &self.values {
            match self.dtype {
                Dtype::Bool => bytes.push(u8::from(value != 0.0)),
                Dtype::Uint8 => bytes.push(value as u8),
                Dtype::Int32 => bytes.extend((value as i32).to_le_bytes()),
                Dtype::Int64 => bytes.extend((value as i64).to_le_bytes()),
                Dtype::Fp16 => bytes.extend(f16::from_f32(value as f32).to_le_bytes()),
                Dtype::Bf16 => bytes.extend(bf16::from_f32(value as f32).to_le_bytes()),
                Dtype::Fp32 => bytes.extend((value as f32).to_le_bytes()),
                Dtype::Fp64 => bytes.extend(value.to_le_bytes()),
            }
        }
        bytes
    }

    pub(super) fn decode(description: Description, bytes: &[u8]) -> Self {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|element| value(*element)).collect()
        }
        let values = match description.dtype {
            Dtype::Bool | Dtype::Uint8 => each(bytes, |[byte]| byte.into()),
            Dtype::Int32 => each(bytes, |bytes| i32::from_le_bytes(bytes).into()),
            Dtype::Int64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::Fp16 => each(bytes, |bytes| f16::from_le_bytes(bytes).into()),
            Dtype::Bf16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).into()),
            Dtype::Fp32 => each(bytes, |bytes| f32::from_le_bytes(bytes).into()),
            Dtype::Fp64 => each(bytes, f64::from_le_bytes),
        };
        Self { dtype: description.dtype, shape: description.shape, values }
    }

    /// The element at an index, where dimensions of size 1 stretch and outer ones are left out.
    pub(super) fn at(&self, index: &[u64]) -> f64 {
        let index = &index[index.len() - self.dims().len()..];
        let place = self
            .dims()
            .iter()
            .zip(index)
            .fold(0, |place, (dim, index)| place * dim + if *dim == 1 { 0 } else { *index });
        self.values[place as usize]
    }

    /// A tensor whose elements are a function of their index.
    pub(super) fn from_indices(
        dtype: Dtype,
        shape: Shape,
        mut value: impl FnMut(&[u64]) -> f64,
    ) -> Self {
        let mut values = Vec::with_capacity(shape.elements() as usize);
        each_index(shape.dims(), |index| values.push(value(index)));
        Self::new(Description::new(dtype, shape), values)
    }

    /// Puts it on a device; what it is laid out from is released.
    pub(super) fn upload(
        &self,
        session: &mut Session,
        form: Form,
    ) -> Result<TensorId, SessionError> {
        let (base, view) = match form {
            Form::Dense => return session.upload(self.description(), &self.encode()),
            Form::Turned => self.turned(),
            Form::Spread => self.spread(),
        };
        let base = session.upload(base.description(), &base.encode())?;
        let seen = session.run(&Operator::View(view), &[base])?;
        session.release(base)?;
        Ok(seen[0])
    }

    fn turned(&self) -> (Self, View) {
        let dims: Vec<_> = self.dims().iter().rev().copied().collect();
        let shape = Shape::new(&dims).expect("the same elements");
        let base = Self::from_indices(self.dtype, shape, |index| {
            self.at(&index.iter().rev().copied().collect::<Vec<_>>())
        });
        (base, View::Permute((0..dims.len() as u8).rev().collect()))
    }

    /// What lies between is NaN, or the largest value: seen, it would be noticed.
    fn spread(&self) -> (Self, View) {
        let between = match self.dtype {
            Dtype::Bool => 1.0,
            dtype if dtype.is_integer() => 99.0,
            _ => f64::NAN,
        };
        let dims: Vec<_> = self.dims().iter().map(|dim| dim * 2 + 1).collect();
        let shape = Shape::new(&dims).expect("shapes of the suite are small");
        let base = Self::from_indices(self.dtype, shape, |index| {
            if index.iter().all(|index| index % 2 == 1) {
                self.at(&index.iter().map(|index| index / 2).collect::<Vec<_>>())
            } else {
                between
            }
        });
        let range = |dim: &u64| Range { start: 1, end: 2 * dim + 1, step: 2 };
        (base, View::Slice(self.dims().iter().map(range).collect()))
    }
}

/// Visits every index of a shape, in row-major order.
pub(super) fn each_index(dims: &[u64], mut visit: impl FnMut(&[u64])) {
    let mut index = vec![0; dims.len()];
    for _ in 0..dims.iter().product::<u64>() {
        visit(&index);
        for (place, dim) in index.iter_mut().zip(dims).rev() {
            *place += 1;
            if *place < *dim {
                break;
            }
            *place = 0;
        }
    }
}
