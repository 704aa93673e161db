//! Every operator on small inputs, by its name.

use quern_sdk::gpu::{Dtype, Error, Range, Reduction, Session, Tensor};

/// The result of an operator; none if there is none of this name.
pub(crate) fn run(name: &str, session: &Session) -> Option<Result<Tensor, Error>> {
    let inputs = match Inputs::new(session) {
        Ok(inputs) => inputs,
        Err(error) => return Some(Err(error)),
    };
    inputs
        .view(name)
        .or_else(|| inputs.unary(name))
        .or_else(|| inputs.pair(name))
        .or_else(|| inputs.reduction(name))
        .or_else(|| inputs.other(name))
}

struct Inputs {
    session: Session,
    /// `[[1, -2, 3], [-4, 5, -6]]`
    x: Tensor,
    /// `[2, 3, 3]`
    y: Tensor,
    /// `[0.75, 2.5, 4]`
    small: Tensor,
    /// `[true, false, true]` and `[true, true, false]`
    truths: [Tensor; 2],
    /// `[1, 0]`
    indices: Tensor,
}

impl Inputs {
    fn new(session: &Session) -> Result<Self, Error> {
        Ok(Self {
            session: session.clone(),
            x: session.tensor([2, 3], &[1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0])?,
            y: session.tensor([3], &[2.0f32, 3.0, 3.0])?,
            small: session.tensor([3], &[0.75f32, 2.5, 4.0])?,
            truths: [
                session.tensor([3], &[true, false, true])?,
                session.tensor([3], &[true, true, false])?,
            ],
            indices: session.tensor([2], &[1i32, 0])?,
        })
    }

    fn view(&self, name: &str) -> Option<Result<Tensor, Error>> {
        let x = &self.x;
        let every_other = Range { start: 0, end: 3, step: 2 };
        Some(match name {
            "permute" => x.permute(&[1, 0]),
            "transpose" => x.transpose(),
            "reshape" => x.reshape([3, 2]),
            "broadcast" => self.y.broadcast([2, 3]),
            "slice" => x.slice(&[Range { start: 1, end: 2, step: 1 }, every_other]),
            "narrow" => x.narrow(-1, 1..3),
            _ => return None,
        })
    }

    fn unary(&self, name: &str) -> Option<Result<Tensor, Error>> {
        let (x, small) = (&self.x, &self.small);
        Some(match name {
            "neg" => x.neg(),
            "abs" => x.abs(),
            "sign" => x.sign(),
            "square" => x.square(),
            "relu" => x.relu(),
            "exp" => small.exp(),
            "log" => small.log(),
            "sqrt" => small.sqrt(),
            "rsqrt" => small.rsqrt(),
            "reciprocal" => small.reciprocal(),
            "sin" => small.sin(),
            "cos" => small.cos(),
            "tanh" => small.tanh(),
            "erf" => small.erf(),
            "sigmoid" => small.sigmoid(),
            "silu" => small.silu(),
            "gelu" => small.gelu(),
            "gelu-tanh" => small.gelu_tanh(),
            "floor" => small.floor(),
            "ceil" => small.ceil(),
            "round" => small.round(),
            "not" => self.truths[0].not(),
            _ => return None,
        })
    }

    fn pair(&self, name: &str) -> Option<Result<Tensor, Error>> {
        let (x, y, [left, right]) = (&self.x, &self.y, &self.truths);
        Some(match name {
            "add" => x.add(y),
            "sub" => x.sub(y),
            "mul" => x.mul(y),
            "div" => x.div(y),
            "pow" => x.pow(y),
            "min" => x.min(y),
            "max" => x.max(y),
            "eq" => x.eq(y),
            "ne" => x.ne(y),
            "lt" => x.lt(y),
            "le" => x.le(y),
            "gt" => x.gt(y),
            "ge" => x.ge(y),
            "and" => left.and(right),
            "or" => left.or(right),
            "xor" => left.xor(right),
            _ => return None,
        })
    }

    fn reduction(&self, name: &str) -> Option<Result<Tensor, Error>> {
        let (x, truths) = (&self.x, &self.truths[0]);
        Some(match name {
            "sum" => x.sum(&[1]),
            "sum-kept" => x.reduce(Reduction::Sum, &[-1], true),
            "sum-all" => x.sum_all(),
            "mean" => x.mean(&[1]),
            "mean-all" => x.mean_all(),
            "product" => x.reduce(Reduction::Product, &[0], false),
            "max-along" => x.max_along(&[0]),
            "min-along" => x.min_along(&[0]),
            "any" => truths.reduce(Reduction::Any, &[0], false),
            "all" => truths.reduce(Reduction::All, &[0], false),
            "arg-max" => x.arg_max(-1),
            "arg-min" => x.arg_min(-1),
            _ => return None,
        })
    }

    fn other(&self, name: &str) -> Option<Result<Tensor, Error>> {
        let Self { session, x, y, small, truths, indices } = self;
        Some(match name {
            "fill" => session.full([2], 7i64),
            "fill-bf16" => session.fill(Dtype::Bf16, [2], 0.5),
            "constant" => x.constant(0.5).and_then(|half| x.mul(&half)),
            "copy" => x.copy(),
            "cast" => small.cast(Dtype::Int32),
            "select" => truths[0].select(y, small),
            "clamp" => x.clamp(Some((-2.0).into()), Some(3.0.into())),
            "matmul" => x.transpose().and_then(|turned| x.matmul(&turned)),
            "softmax" => y.softmax(),
            "log-softmax" => y.log_softmax(),
            "layer-norm" => x.layer_norm(y, small, 0.0),
            "rms-norm" => x.rms_norm(y, 0.0),
            "concat" => Tensor::concat(&[y, small], 0),
            "gather" => x.gather(0, indices),
            "scatter-add" => x.scatter_add(0, indices, x),
            _ => return None,
        })
    }
}
