//! What several tenants get of one device, each with a lane of its own, and how many tiny operators
//! a second has room for.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use quern_cuda::CudaDevice;
use quern_operators::{Binary, Dtype, Kernel};

use super::work::{Pace, Work};
use crate::report::{Ratio, Row, Unit};

/// Tenants that share the device.
const TENANTS: usize = 4;

/// What an operator and its wait took, one after another.
type Times = Vec<Duration>;

pub(crate) fn measure(device: &CudaDevice, pace: Pace, keep: &mut dyn FnMut(Row)) -> Result<()> {
    shared(device, pace, keep)?;
    tiny(device, pace, keep)
}

/// Each tenant multiplies matrices, and waits for each product.
fn shared(device: &CudaDevice, pace: Pace, keep: &mut dyn FnMut(Row)) -> Result<()> {
    let size = pace.size(1024);
    let matrix = vec![size, size];
    let work = || Work::new(device, Kernel::Matmul, Dtype::Fp32, &[matrix.clone(), matrix.clone()]);
    let alone = run(vec![work()?], pace)?;
    let together = run((0..TENANTS).map(|_| work()).collect::<Result<_>>()?, pace)?;
    let mut row = |operator, value, unit, ratio| {
        keep(Row {
            part: "tenants that share the device",
            operator,
            dtype: Dtype::Fp32.to_string(),
            inputs: vec![matrix.clone(), matrix.clone()],
            value,
            unit,
            rate: None,
            ratio,
        });
    };
    let rates = |times: &[Times]| -> Vec<f64> { times.iter().map(rate).collect() };
    let (one, all) = (rates(&alone)[0], rates(&together));
    row("products of one tenant", one, Unit::PerSecond, None);
    let sum = all.iter().sum::<f64>();
    let ratio = Ratio { to: "one tenant", value: sum / one, aim: None };
    row("products of four tenants", sum, Unit::PerSecond, Some(ratio));
    let squares = all.iter().map(|rate| rate * rate).sum::<f64>();
    let fairness = sum * sum / (all.len() as f64 * squares);
    row("fairness between them (Jain's index)", fairness, Unit::Share, None);
    let p99 = |times: &[Times]| {
        let mut all: Vec<_> = times.iter().flatten().map(Duration::as_secs_f64).collect();
        all.sort_by(f64::total_cmp);
        all[(all.len() * 99 / 100).min(all.len() - 1)]
    };
    row("p99 of one tenant", p99(&alone), Unit::Seconds, None);
    row("p99 of four tenants", p99(&together), Unit::Seconds, None);
    Ok(())
}

fn rate(times: &Times) -> f64 {
    times.len() as f64 / times.iter().map(Duration::as_secs_f64).sum::<f64>()
}

/// Runs each work in a thread of its own for some periods, all from the same time on.
fn run(works: Vec<Work>, pace: Pace) -> Result<Vec<Times>> {
    let (start, time) = (Barrier::new(works.len()), 20 * pace.period());
    let run = |mut work: Work| -> Result<Times> {
        // Whatever goes wrong must not keep the others waiting.
        let ready = work.once().and_then(|()| work.finish());
        start.wait();
        ready?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || begin.elapsed() < time {
            let before = Instant::now();
            work.once()?;
            work.finish()?;
            times.push(before.elapsed());
        }
        Ok(times)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = works.into_iter().map(|w| scope.spawn(move || run(w))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a tenant's thread panicked")?)
            .collect()
    })
}

/// Additions of a few elements, one lane and several at a time.
fn tiny(device: &CudaDevice, pace: Pace, keep: &mut dyn FnMut(Row)) -> Result<()> {
    let add = Kernel::Binary(Binary::Add);
    let shape = || vec![16];
    let work = || Work::new(device, add.clone(), Dtype::Fp32, &[shape(), shape()]);
    let mut row = |operator, value, ratio| {
        keep(Row {
            part: "tiny operators",
            operator,
            dtype: Dtype::Fp32.to_string(),
            inputs: vec![shape(), shape()],
            value,
            unit: Unit::PerSecond,
            rate: None,
            ratio,
        });
    };
    let one = work()?.seconds(pace)?.recip();
    row("add, one lane", one, None);
    let works: Vec<_> = (0..TENANTS).map(|_| work()).collect::<Result<_>>()?;
    let rates: Vec<_> = thread::scope(|scope| {
        let run = |mut work: Work| scope.spawn(move || work.seconds(pace));
        let threads: Vec<_> = works.into_iter().map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a lane's thread panicked")?)
            .collect::<Result<Vec<f64>>>()
    })?;
    let all = rates.iter().map(|seconds| seconds.recip()).sum::<f64>();
    let ratio = Ratio { to: "one lane", value: all / one, aim: None };
    row("add, four lanes", all, Some(ratio));
    Ok(())
}
