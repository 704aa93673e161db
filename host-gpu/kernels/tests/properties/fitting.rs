//! Fits an operator to tensors that it takes: keeps what it is, chooses its inputs, and brings
//! what else it is given into their range. What it finds may still be refused.

use quern_kernels::{Session, TensorId};
use quern_operators::{
    ArgReduce, Attention, AveragePoolGradient, Clamp, ConvolutionInputGradient, Description, Dtype,
    Fill, Histogram, Kernel, Norm, Operator, Random, Range, Reduce, Scalar, Shape, Sort, TopK,
    View,
};

/// How often inputs are drawn before those that were drawn last are taken.
const TRIES: usize = 100;

/// Choices that follow from a seed (SplitMix64).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound, or 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 8) % bound.max(1)
    }

    /// One of some things, of which there must be one.
    pub(crate) fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len() as u64) as usize]
    }
}

/// The operator with inputs that it takes, if some tries find them.
pub(crate) fn fit(
    operator: &Operator,
    session: &Session,
    ids: &[TensorId],
    draw: &mut Draw,
) -> (Operator, Vec<TensorId>) {
    let tensors: Vec<_> =
        ids.iter().map(|id| (*id, session.describe(*id).expect("a tensor"))).collect();
    let kernel = match operator {
        Operator::View(view) => {
            let (id, x) = *draw.one_of(&tensors);
            return (Operator::View(seen(view, &x, draw)), vec![id]);
        }
        Operator::Kernel(kernel) => kernel,
    };
    let mut found = (kernel.clone(), Vec::new());
    for _ in 0..TRIES {
        let inputs = inputs(kernel, &tensors, draw);
        let descriptions: Vec<_> = inputs.iter().map(|(_, description)| *description).collect();
        let kernel = within(kernel, descriptions.first(), draw);
        let fits = kernel.plan(&descriptions).is_ok();
        found = (kernel, inputs.into_iter().map(|(id, _)| id).collect());
        if fits {
            break;
        }
    }
    (Operator::Kernel(found.0), found.1)
}

/// As many tensors as the kernel takes, of which later ones are often alike the first.
fn inputs(
    kernel: &Kernel,
    tensors: &[(TensorId, Description)],
    draw: &mut Draw,
) -> Vec<(TensorId, Description)> {
    let first = *draw.one_of(tensors);
    let same: Vec<_> = tensors.iter().filter(|(_, other)| *other == first.1).copied().collect();
    let alike = |(_, other): &&(TensorId, Description)| other.dtype == first.1.dtype;
    let alike: Vec<_> = tensors.iter().filter(alike).copied().collect();
    let count = arity(kernel, draw);
    let other = |_| match draw.below(3) {
        0 => *draw.one_of(tensors),
        1 => *draw.one_of(&alike),
        _ => *draw.one_of(&same),
    };
    std::iter::once(first).chain((1..count).map(other)).take(count).collect()
}

fn arity(kernel: &Kernel, draw: &mut Draw) -> usize {
    match kernel {
        Kernel::Fill(_) | Kernel::Random(_) => 0,
        Kernel::Copy | Kernel::Cast(_) | Kernel::Unary(_) | Kernel::Clamp(_) => 1,
        Kernel::Reduce(_) | Kernel::ArgReduce(_) | Kernel::Softmax | Kernel::LogSoftmax => 1,
        Kernel::CumulativeSum(_) | Kernel::Histogram(_) | Kernel::Sort(_) | Kernel::TopK(_) => 1,
        Kernel::Binary(_) | Kernel::Compare(_) | Kernel::Logical(_) | Kernel::Matmul => 2,
        Kernel::RmsNorm(_) | Kernel::Gather(_) | Kernel::Distances(_) => 2,
        Kernel::Where | Kernel::LayerNorm(_) | Kernel::ScatterAdd(_) => 3,
        Kernel::Attention(_) => 3 + draw.below(2) as usize,
        Kernel::Concat(_) => 1 + draw.below(3) as usize,
        Kernel::MaxPool(_) | Kernel::AveragePool(_) | Kernel::AveragePoolGradient(_) => 1,
        Kernel::Convolution(_)
        | Kernel::ConvolutionInputGradient(_)
        | Kernel::ConvolutionWeightGradient(_)
        | Kernel::MaxPoolGradient(_)
        | Kernel::CrossEntropy(_) => 2,
        Kernel::Sgd(sgd) => 2 + usize::from(sgd.momentum != 0.0),
        Kernel::Adam(_) => 4,
    }
}

/// The kernel with what else it is given in the range of its first input.
fn within(kernel: &Kernel, first: Option<&Description>, draw: &mut Draw) -> Kernel {
    let Some(x) = first else {
        let shape = small(draw);
        return match kernel {
            Kernel::Fill(Fill { dtype, value: given, .. }) => {
                Kernel::Fill(Fill { dtype: *dtype, shape, value: value(*given, *dtype) })
            }
            Kernel::Random(random) => Kernel::Random(Random { shape, ..*random }),
            kernel => kernel.clone(),
        };
    };
    let rank = x.shape.rank().max(1) as u8;
    match kernel {
        Kernel::Clamp(clamp) => {
            let [min, max] = [clamp.min, clamp.max].map(|bound| bound.map(|b| value(b, x.dtype)));
            let turned = matches!((min, max), (Some(min), Some(max)) if above(min, max));
            Kernel::Clamp(if turned { Clamp { min: max, max: min } } else { Clamp { min, max } })
        }
        Kernel::Reduce(reduce) => {
            let mut axes: Vec<_> = reduce.axes.iter().map(|axis| axis % rank).collect();
            axes.sort_unstable();
            axes.dedup();
            axes.truncate(x.shape.rank());
            Kernel::Reduce(Reduce { axes, ..reduce.clone() })
        }
        Kernel::ArgReduce(reduce) => {
            Kernel::ArgReduce(ArgReduce { axis: reduce.axis % rank, ..*reduce })
        }
        Kernel::CumulativeSum(axis) => Kernel::CumulativeSum(axis % rank),
        Kernel::Sort(sort) => Kernel::Sort(Sort { axis: sort.axis % rank, ..*sort }),
        Kernel::TopK(top) => {
            let axis = top.axis % rank;
            let size = x.shape.dims().get(usize::from(axis)).copied().unwrap_or(0);
            let count = top.count % (size + 1);
            Kernel::TopK(TopK { axis, count, ..*top })
        }
        Kernel::Histogram(histogram) => Kernel::Histogram(Histogram {
            bins: histogram.bins % 100 + 1,
            min: -f64::from(histogram.bins % 7),
            max: 1.0,
        }),
        Kernel::Attention(attention) => {
            let scale = attention.scale.filter(|scale| scale.is_finite());
            Kernel::Attention(Attention { scale, ..*attention })
        }
        Kernel::LayerNorm(norm) => Kernel::LayerNorm(positive(norm)),
        Kernel::RmsNorm(norm) => Kernel::RmsNorm(positive(norm)),
        Kernel::Concat(axis) => Kernel::Concat(axis % rank),
        Kernel::Gather(axis) => Kernel::Gather(axis % rank),
        Kernel::ScatterAdd(axis) => Kernel::ScatterAdd(axis % rank),
        Kernel::ConvolutionInputGradient(gradient) => {
            let image = pixels(x);
            Kernel::ConvolutionInputGradient(ConvolutionInputGradient { image, ..*gradient })
        }
        Kernel::AveragePoolGradient(gradient) => {
            let image = pixels(x);
            Kernel::AveragePoolGradient(AveragePoolGradient { image, ..*gradient })
        }
        kernel => kernel.clone(),
    }
}

/// Rows and columns of images, as many as there are: windows of three with a padding of one
/// leave them so.
fn pixels(x: &Description) -> [u64; 2] {
    x.shape.dims().last_chunk().copied().unwrap_or([1; 2])
}

fn above(left: Scalar, right: Scalar) -> bool {
    match (left, right) {
        (Scalar::Int(left), Scalar::Int(right)) => left > right,
        (Scalar::Float(left), Scalar::Float(right)) => left > right,
        _ => false,
    }
}

fn positive(norm: &Norm) -> Norm {
    let epsilon = norm.epsilon.abs();
    Norm { epsilon: if epsilon.is_finite() { epsilon } else { 1e-5 } }
}

/// A value of a type, whichever was given.
fn value(given: Scalar, dtype: Dtype) -> Scalar {
    let number = match given {
        Scalar::Bool(truth) => i64::from(truth),
        Scalar::Int(number) => number,
        Scalar::Float(number) => number as i64,
    };
    match dtype {
        Dtype::Bool => Scalar::Bool(number % 2 == 0),
        Dtype::Uint8 => Scalar::Int(number & 0xff),
        Dtype::Int32 => Scalar::Int(i64::from(number as i32)),
        Dtype::Int64 => Scalar::Int(number),
        _ => match given {
            Scalar::Float(number) if !number.is_nan() => given,
            _ => Scalar::Float(number as f64),
        },
    }
}

fn small(draw: &mut Draw) -> Shape {
    let dims: Vec<_> = (0..draw.below(4)).map(|_| draw.below(5)).collect();
    Shape::new(&dims).expect("a small shape")
}

/// A view that can be had of a tensor.
fn seen(view: &View, x: &Description, draw: &mut Draw) -> View {
    let dims = x.shape.dims();
    let shape = |dims: &[u64]| Shape::new(dims).unwrap_or(x.shape);
    match view {
        View::Permute(_) => {
            let mut axes: Vec<_> = (0..dims.len() as u8).collect();
            for place in (1..axes.len()).rev() {
                axes.swap(place, draw.below(place as u64 + 1) as usize);
            }
            View::Permute(axes)
        }
        View::Reshape(_) => match draw.below(3) {
            0 => View::Reshape(shape(&[x.shape.elements()])),
            1 => View::Reshape(shape(&[dims, &[1]].concat())),
            _ => View::Reshape(shape(&dims.iter().rev().copied().collect::<Vec<_>>())),
        },
        View::Broadcast(_) => {
            let mut wide = vec![1 + draw.below(3)];
            wide.extend(dims.iter().map(|dim| if *dim == 1 { 1 + draw.below(4) } else { *dim }));
            View::Broadcast(shape(&wide))
        }
        View::Slice(_) => {
            let range = |dim: &u64| {
                let start = draw.below(dim + 1);
                Range { start, end: start + draw.below(dim - start + 1), step: 1 + draw.below(3) }
            };
            View::Slice(dims.iter().map(range).collect())
        }
    }
}
