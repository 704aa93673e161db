//! The operators of ordering, attention, images and training on small inputs, by their names.

use quern_sdk::gpu::{
    Adam, Attention, AveragePoolGradient, Convolution, ConvolutionInputGradient,
    ConvolutionWeightGradient, CrossEntropy, Distribution, Dtype, Error, Metric, Padding, Pool,
    Session, Sgd, Tensor,
};

/// The result of an operator; none if there is none of this name.
pub(crate) fn run(name: &str, session: &Session) -> Option<Result<Tensor, Error>> {
    let x = match session.tensor([2, 3], &[1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0]) {
        Ok(x) => x,
        Err(error) => return Some(Err(error)),
    };
    ordering(name, &x)
        .or_else(|| attention(name, &x))
        .or_else(|| convolution(name, session))
        .or_else(|| pooling(name, session))
        .or_else(|| training(name, &x))
        .or_else(|| random(name, session))
}

fn pick<const N: usize>(made: Result<[Tensor; N], Error>, at: usize) -> Result<Tensor, Error> {
    made.map(|made| made[at].clone())
}

fn ordering(name: &str, x: &Tensor) -> Option<Result<Tensor, Error>> {
    Some(match name {
        "cumulative-sum" => x.cumulative_sum(-1),
        "histogram" => x.histogram(4, -6.0, 6.0),
        "sort" => pick(x.sort(-1, false), 0),
        "sort-places" => pick(x.sort(-1, false), 1),
        "sort-descending" => pick(x.sort(-1, true), 0),
        "top-k" => pick(x.top_k(1, 2, true), 0),
        "top-k-places" => pick(x.top_k(1, 2, true), 1),
        "top-k-smallest" => pick(x.top_k(1, 2, false), 0),
        "euclidean" => x.distances(x, Metric::Euclidean),
        "squared-euclidean" => x.distances(x, Metric::SquaredEuclidean),
        "manhattan" => x.distances(x, Metric::Manhattan),
        "cosine" => x.distances(x, Metric::Cosine),
        _ => return None,
    })
}

fn attention(name: &str, x: &Tensor) -> Option<Result<Tensor, Error>> {
    let scaled = Attention { scale: Some(0.01), causal: false };
    Some(match name {
        "attention" => x.attention(x, x, None, scaled),
        "attention-causal" => x.attention(x, x, None, Attention { causal: true, ..scaled }),
        "attention-masked" => x
            .session()
            .tensor([2, 2], &[true, false, true, true])
            .and_then(|mask| x.attention(x, x, Some(&mask), scaled)),
        _ => return None,
    })
}

fn convolution(name: &str, session: &Session) -> Option<Result<Tensor, Error>> {
    let make = || -> Result<Option<Tensor>, Error> {
        let image: Vec<_> = (1..=9u8).map(f32::from).collect();
        let x = session.tensor([1, 1, 3, 3], &image)?;
        let weights = session.tensor([1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0])?;
        let gradient = session.full([1, 1, 2, 2], 1.0f32)?;
        let convolution = Convolution::default();
        Ok(Some(match name {
            "convolution" => x.convolution(&weights, convolution)?,
            "convolution-strided" => {
                let padding = Padding { top: 1, bottom: 2, left: 0, right: 3 };
                let (strides, dilations) = ((1, 2), (2, 1));
                let strided = Convolution { strides, dilations, padding, ..convolution };
                let ones = session.full([1, 1, 2, 3], 1.0f32)?;
                session.full([1, 1, 5, 7], 1.0f32)?.convolution(&ones, strided)?
            }
            "convolution-grouped" => {
                let x = session.tensor([1, 2, 1, 1], &[2.0f32, 3.0])?;
                let weights = session.tensor([2, 1, 1, 1], &[5.0f32, 7.0])?;
                x.convolution(&weights, Convolution { groups: 2, ..convolution })?
            }
            "convolution-input-gradient" => {
                let of = ConvolutionInputGradient { convolution, image: (3, 3) };
                gradient.convolution_input_gradient(&weights, of)?
            }
            "convolution-weight-gradient" => {
                let of = ConvolutionWeightGradient { convolution, window: (2, 2) };
                x.convolution_weight_gradient(&gradient, of)?
            }
            _ => return Ok(None),
        }))
    };
    make().transpose()
}

fn pooling(name: &str, session: &Session) -> Option<Result<Tensor, Error>> {
    let make = || -> Result<Option<Tensor>, Error> {
        let x = session.tensor([1, 1, 2, 4], &[1.0f32, 5.0, 2.0, 3.0, 4.0, 0.0, 9.0, 8.0])?;
        let gradient = session.tensor([1, 1, 1, 2], &[4.0f32, 8.0])?;
        let squares = Pool::squares(2);
        Ok(Some(match name {
            "max-pool" => x.max_pool(squares)?,
            "max-pool-wide" => x.max_pool(Pool { window: (1, 2), strides: (2, 1), ..squares })?,
            "max-pool-gradient" => x.max_pool_gradient(&gradient, squares)?,
            "average-pool" => x.average_pool(squares)?,
            "average-pool-gradient" => {
                let of = AveragePoolGradient { pool: squares, image: (2, 4) };
                gradient.average_pool_gradient(of)?
            }
            _ => return Ok(None),
        }))
    };
    make().transpose()
}

fn training(name: &str, x: &Tensor) -> Option<Result<Tensor, Error>> {
    let make = || -> Result<Option<Tensor>, Error> {
        let session = x.session();
        let labels = session.tensor([2], &[2i32, 0])?;
        let parameter = session.tensor([3], &[2.0f32, 3.0, 3.0])?;
        let gradient = session.tensor([3], &[0.75f32, 2.5, 4.0])?;
        let [zeros, ones] = [session.full([3], 0.0f32)?, session.full([3], 1.0f32)?];
        let loss = CrossEntropy::default();
        let step = Sgd { rate: 0.1, momentum: 0.0, weight_decay: 0.5, nesterov: false };
        let momentum = Sgd { momentum: 0.9, weight_decay: 0.0, ..step };
        let adam = Adam { rate: 0.1, betas: (0.9, 0.99), epsilon: 0.0, ..Adam::default() };
        let stepped = |at| pick(parameter.adam(&gradient, [&zeros, &zeros], adam), at);
        let moved = |at| pick(parameter.sgd_with_momentum(&gradient, &ones, momentum), at);
        Ok(Some(match name {
            "cross-entropy" => pick(x.cross_entropy(&labels, loss), 0)?,
            "cross-entropy-gradient" => pick(x.cross_entropy(&labels, loss), 1)?,
            "cross-entropy-ignored" => {
                let loss = CrossEntropy { ignored: Some(0), ..loss };
                pick(x.cross_entropy(&labels, loss), 0)?
            }
            "cross-entropy-smoothed" => {
                let loss = CrossEntropy { smoothing: 0.3, ..loss };
                pick(x.cross_entropy(&labels, loss), 0)?
            }
            "sgd" => parameter.sgd(&gradient, step)?,
            "sgd-momentum" => moved(0)?,
            "sgd-velocity" => moved(1)?,
            "adam" => stepped(0)?,
            "adam-first" => stepped(1)?,
            "adam-second" => stepped(2)?,
            _ => return Ok(None),
        }))
    };
    make().transpose()
}

fn random(name: &str, session: &Session) -> Option<Result<Tensor, Error>> {
    let draw = |distribution, count: u64, seed, offset| {
        session.random(distribution, Dtype::Fp32, [count], seed, offset)
    };
    let make = || -> Result<Option<Tensor>, Error> {
        let uniform = draw(Distribution::Uniform, 8, 7, 0)?;
        let (zero, one) = (uniform.constant(0.0)?, uniform.constant(1.0)?);
        Ok(Some(match name {
            "random-bounds" => uniform.ge(&zero)?.and(&uniform.lt(&one)?)?,
            "random-offset" => {
                uniform.narrow(0, 4..8)?.eq(&draw(Distribution::Uniform, 4, 7, 1)?)?
            }
            "random-seed" => uniform.eq(&draw(Distribution::Uniform, 8, 8, 0)?)?,
            "random-normal" => {
                // Of so many, one in a hundred at least lies beyond 2 on either side.
                let normal = draw(Distribution::Normal, 10_000, 7, 0)?;
                let beyond = normal.abs()?.gt(&normal.constant(2.0)?)?.cast(Dtype::Fp32)?;
                let share = beyond.mean_all()?;
                share.gt(&share.constant(0.01)?)?
            }
            _ => return Ok(None),
        }))
    };
    make().transpose()
}
