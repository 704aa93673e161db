//! Elements that go to a device and come back through the staging of sessions, beside plain copies
//! of pinned memory, which is the most that there is, and of memory that is not.

use std::time::Instant;

use anyhow::Result;
use quern_cuda::{CudaDevice, PlainCopies};
use quern_kernels::{Session, SessionLimits};
use quern_operators::{Description, Dtype, Shape};

use super::work::{Pace, median};
use crate::report::{Rate, Ratio, Row, Unit};

/// Of a plain copy's speed, what is aimed at.
const AIM: f64 = 0.8;

pub(crate) fn measure(device: &CudaDevice, pace: Pace, keep: &mut dyn FnMut(Row)) -> Result<()> {
    for bytes in [600 << 10, 16 << 20, 256 << 20] {
        let bytes = if pace.tiny { 4096 } else { bytes };
        let elements = vec![1u8; bytes];
        let mut plain = PlainCopies::new(device, bytes)?;
        let description = Description::new(Dtype::Uint8, Shape::new(&[bytes as u64])?);
        let mut session = Session::open(device, SessionLimits::of_bytes(bytes as u64 * 2))?;
        let mut row = |operator, seconds: f64, peer: Option<f64>| {
            keep(Row {
                part: "elements in and out",
                operator,
                dtype: "UINT8".to_owned(),
                inputs: vec![vec![bytes as u64]],
                value: seconds,
                unit: Unit::Seconds,
                rate: Some(Rate::BytesPerSecond(bytes as f64 / seconds)),
                ratio: peer.map(|peer| Ratio {
                    to: "a plain copy of pinned memory",
                    value: peer / seconds,
                    aim: Some(AIM),
                }),
            });
        };
        let pinned_in = seconds(pace, || Ok(plain.pinned_in()?))?;
        row("plain copy in, pinned", pinned_in, None);
        row("plain copy in", seconds(pace, || Ok(plain.copy_in(&elements)?))?, None);
        let upload = seconds(pace, || {
            let tensor = session.upload(description, &elements)?;
            session.finish()?;
            Ok(session.release(tensor)?)
        })?;
        row("upload", upload, Some(pinned_in));
        let pinned_out = seconds(pace, || Ok(plain.pinned_out()?))?;
        row("plain copy out, pinned", pinned_out, None);
        let tensor = session.upload(description, &elements)?;
        let read = seconds(pace, || {
            session.read(tensor)?;
            Ok(())
        })?;
        row("read", read, Some(pinned_out));
        if pace.tiny {
            break;
        }
    }
    Ok(())
}

/// What a copy takes, the middle one of those of a few periods.
fn seconds(pace: Pace, mut copy: impl FnMut() -> Result<()>) -> Result<f64> {
    copy()?;
    let (begin, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < 5 || begin.elapsed() < 3 * pace.period() {
        let copied = Instant::now();
        copy()?;
        seconds.push(copied.elapsed().as_secs_f64());
    }
    Ok(median(&mut seconds))
}
