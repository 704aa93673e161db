//! Cases of reductions.

use super::{Host, Tolerance, Trial, host::each_index};
use quern_operators::{ArgReduce, Description, Dtype, Extreme, Kernel, Reduce, Reduction, Shape};

/// Shapes with the axes that go; lines that are short, long, side by side and none.
const SHAPES: [(&[u64], &[u8]); 13] = [
    (&[], &[]),
    (&[5], &[]),
    (&[7], &[0]),
    (&[3, 5], &[1]),
    (&[3, 5], &[0]),
    (&[37, 33], &[0]),
    (&[2, 3, 4, 5], &[2, 0]),
    (&[2, 1_100], &[1]),
    (&[70, 1_100], &[0]),
    (&[4, 0], &[0]),
    (&[0, 4], &[0]),
    (&[3, 1, 2], &[1]),
    (&[140_003], &[0]),
];

pub(super) fn cases(trial: &mut Trial) {
    for (dims, axes) in SHAPES {
        for dtype in Dtype::ALL {
            for function in
                Reduction::ALL.into_iter().filter(|function| function.accepts().contains(dtype))
            {
                reduce(trial, function, dtype, dims, axes);
            }
            if let [axis] = axes[..]
                && dtype != Dtype::Bool
                && dims[usize::from(axis)] > 0
            {
                arg_reduce(trial, dtype, dims, axis);
            }
        }
    }
    nan(trial);
}

/// The elements of each line, in the order of results.
fn lines(x: &Host, axes: &[u8], keep: bool) -> (Shape, Vec<Vec<f64>>) {
    let goes = |axis: usize| axes.iter().any(|gone| usize::from(*gone) == axis);
    let all: Vec<_> =
        x.dims().iter().enumerate().map(|(axis, dim)| if goes(axis) { 1 } else { *dim }).collect();
    let kept: Vec<_> = (0..all.len()).filter(|axis| !goes(*axis)).map(|axis| all[axis]).collect();
    let mut lines = vec![Vec::new(); all.iter().product::<u64>() as usize];
    each_index(x.dims(), |index| {
        let place = index
            .iter()
            .zip(&all)
            .fold(0, |place, (index, dim)| place * dim + if *dim == 1 { 0 } else { *index });
        lines[place as usize].push(x.at(index));
    });
    let shape = Shape::new(if keep { &all } else { &kept });
    (shape.expect("fewer dimensions"), lines)
}

fn fold(function: Reduction, line: &[f64]) -> f64 {
    let larger =
        |left: f64, right: &f64| if left > *right || left.is_nan() { left } else { *right };
    let smaller =
        |left: f64, right: &f64| if left < *right || left.is_nan() { left } else { *right };
    match function {
        Reduction::Sum => line.iter().sum(),
        Reduction::Mean => line.iter().sum::<f64>() / line.len() as f64,
        Reduction::Product => line.iter().product(),
        Reduction::Max => line.iter().fold(f64::NEG_INFINITY, larger),
        Reduction::Min => line.iter().fold(f64::INFINITY, smaller),
        Reduction::Any => f64::from(u8::from(line.contains(&1.0))),
        Reduction::All => f64::from(u8::from(!line.contains(&0.0))),
    }
}

fn reduce(trial: &mut Trial, function: Reduction, dtype: Dtype, dims: &[u64], axes: &[u8]) {
    let mut x = trial.random(dtype, dims);
    if function == Reduction::Product {
        // Near 1, so that long products neither vanish nor grow beyond what is exact.
        let near = |x: &f64| if dtype.is_float() { 1.0 + x / 1024.0 } else { 1.0 };
        x = Host::new(x.description(), x.values.iter().map(near).collect());
    }
    for keep in [false, true] {
        let (shape, lines) = lines(&x, axes, keep);
        let chooses = matches!(function, Reduction::Max | Reduction::Min);
        if chooses && lines.iter().any(Vec::is_empty) {
            return;
        }
        let wide = matches!(function, Reduction::Sum | Reduction::Product);
        let result = if wide && dtype.is_integer() { Dtype::Int64 } else { dtype };
        let values = lines.iter().map(|line| fold(function, line)).collect();
        let expected = Host::new(Description::new(result, shape), values);
        let size = lines.iter().map(|line| line.iter().map(|x| x.abs()).sum::<f64>());
        let size = match function {
            Reduction::Sum => size.fold(0.0, f64::max),
            Reduction::Product => lines.iter().map(Vec::len).max().unwrap_or(0) as f64,
            _ => 2.0,
        };
        let kernel = Kernel::Reduce(Reduce { function, axes: axes.to_vec(), keep });
        trial.operator(kernel, &[&x], &expected, Tolerance::of_sum(result, size));
    }
}

fn arg_reduce(trial: &mut Trial, dtype: Dtype, dims: &[u64], axis: u8) {
    let x = trial.random(dtype, dims);
    for (extreme, keep) in [(Extreme::Max, false), (Extreme::Min, true)] {
        let (shape, lines) = lines(&x, &[axis], keep);
        let place = |line: &Vec<f64>| {
            let function = if extreme == Extreme::Max { Reduction::Max } else { Reduction::Min };
            let best = fold(function, line);
            let same = |x: &f64| *x == best || x.is_nan() && best.is_nan();
            line.iter().position(same).expect("one is the best") as f64
        };
        let values = lines.iter().map(place).collect();
        let expected = Host::new(Description::new(Dtype::Int64, shape), values);
        let kernel = Kernel::ArgReduce(ArgReduce { extreme, axis, keep });
        trial.operator(kernel, &[&x], &expected, Tolerance::EXACT);
    }
}

/// NaN is what comes of it, and where the first one is.
fn nan(trial: &mut Trial) {
    for dtype in [Dtype::Fp16, Dtype::Bf16, Dtype::Fp32, Dtype::Fp64] {
        for place in [0, 33, 1_500] {
            let mut x = trial.random(dtype, &[3_000]);
            (x.values[place], x.values[2_500]) = (f64::NAN, f64::NAN);
            for function in [Reduction::Sum, Reduction::Max, Reduction::Min] {
                let kernel = Kernel::Reduce(Reduce { function, axes: vec![0], keep: false });
                let expected = Host::of(dtype, &[], vec![f64::NAN]);
                trial.operator(kernel, &[&x], &expected, Tolerance::EXACT);
            }
            for extreme in [Extreme::Max, Extreme::Min] {
                let kernel = Kernel::ArgReduce(ArgReduce { extreme, axis: 0, keep: false });
                let expected = Host::of(Dtype::Int64, &[], vec![place as f64]);
                trial.operator(kernel, &[&x], &expected, Tolerance::EXACT);
            }
        }
    }
}
