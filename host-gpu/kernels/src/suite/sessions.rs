//! What sessions promise, on this device: budgets, ids, memory that nobody else has seen.

use super::Trial;
use crate::{GRANULE_BYTES, Session, SessionError, SessionLimits, TensorId, Usage};
use quern_operators::{
    Binary, Description, Dtype, Fill, Kernel, Operator, Range, Scalar, Shape, View,
};

/// Something that a session promises.
type Case = fn(&Trial) -> Result<(), String>;

pub(super) fn cases(trial: &mut Trial) {
    let cases: [(&str, Case); 5] = [
        ("a budget is kept to before memory is taken", budget),
        ("a view shares the memory of its tensor until the last is released", views),
        ("a dropped session gives back everything", drops),
        ("what is lent stays, and stays charged, until it is dropped", loans),
        ("an order of steps is kept", order),
    ];
    for (name, case) in cases {
        let outcome = case(trial);
        trial.note(name.to_owned(), outcome);
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).expect("shapes of the suite are small")
}

fn fill(session: &mut Session, elements: u64, value: f64) -> Result<TensorId, SessionError> {
    let (shape, value) = (shape(&[elements]), Scalar::Float(value));
    let fill = Kernel::Fill(Fill { dtype: Dtype::Fp32, shape, value });
    Ok(session.run(&fill.into(), &[])?[0])
}

fn budget(trial: &Trial) -> Result<(), String> {
    let mut session = trial.session(4 * GRANULE_BYTES)?;
    let first = fill(&mut session, 192, 1.0).map_err(|e| e.to_string())?;
    let refused = fill(&mut session, 65, 1.0);
    let budget = SessionError::Budget {
        needed: 2 * GRANULE_BYTES,
        used: 3 * GRANULE_BYTES,
        limit: 4 * GRANULE_BYTES,
    };
    ensure(refused == Err(budget), "a tensor beyond the budget is refused")?;
    let wide = Operator::View(View::Broadcast(shape(&[1 << 40, 192])));
    let wide = session.run(&wide, &[first]);
    ensure(matches!(wide, Err(SessionError::Budget { .. })), "a view beyond it is refused, too")?;
    ensure(fill(&mut session, 64, 1.0).is_ok(), "what is left can be had")?;
    session.release(first).map_err(|e| e.to_string())?;
    ensure(fill(&mut session, 192, 1.0).is_ok(), "what was released can be had again")
}

fn views(trial: &Trial) -> Result<(), String> {
    let run = || -> Result<bool, SessionError> {
        let mut session = Session::open(trial.device, SessionLimits::of_bytes(1 << 20))?;
        let base = fill(&mut session, 100, 3.0)?;
        let bytes = session.usage().bytes;
        let view = Operator::View(View::Reshape(shape(&[10, 10])));
        let view = session.run(&view, &[base])?[0];
        let shared = session.usage() == Usage { bytes, tensors: 2 };
        session.release(base)?;
        let kept = session.usage().bytes == bytes;
        let seen = session.read(view)? == [3.0f32; 100].map(f32::to_le_bytes).concat();
        let gone = session.read(base) == Err(SessionError::Unknown(base));
        let twice = session.release(base) == Err(SessionError::Unknown(base));
        session.release(view)?;
        let empty = session.usage() == Usage::default();
        Ok(shared && kept && seen && gone && twice && empty)
    };
    let holds = run().map_err(|error| error.to_string())?;
    ensure(holds, "memory, elements or ids are not as promised")
}

fn drops(trial: &Trial) -> Result<(), String> {
    let before = trial.device.held_bytes();
    let mut session = trial.session(1 << 20)?;
    let id = fill(&mut session, 1_000, 7.0).map_err(|e| e.to_string())?;
    session.finish().map_err(|e| e.to_string())?;
    let held = trial.device.held_bytes() >= before + 4_000;
    let mut other = trial.session(1 << 20)?;
    let foreign = other.read(id) == Err(SessionError::Foreign(id));
    drop(session);
    drop(other);
    ensure(held, "memory that is in use is counted")?;
    ensure(foreign, "a tensor of another session can not be read")?;
    ensure(trial.device.held_bytes() == before, "memory of a dropped session is given back")
}

fn loans(trial: &Trial) -> Result<(), String> {
    let before = trial.device.held_bytes();
    let run = || -> Result<bool, SessionError> {
        let mut session = Session::open(trial.device, SessionLimits::of_bytes(1 << 20))?;
        let elements = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].map(f32::to_le_bytes).concat();
        let x = session.upload(Description::new(Dtype::Fp32, shape(&[2, 3])), &elements)?;
        let [second, all] = [(1, 2), (0, 3)].map(|(start, end)| Range { start, end, step: 1 });
        let row = session.run(&View::Slice(vec![second, all]).into(), &[x])?[0];
        let turned = session.run(&View::Permute(vec![1, 0]).into(), &[x])?[0];
        let mut lent = Vec::new();
        for id in [x, row, turned] {
            let same = session.read(id)?;
            lent.push((session.lend(id)?, same));
            session.release(id)?;
        }
        // The elements themselves, of which the row is a part, and a copy of those that are turned.
        let charged = session.usage() == Usage { bytes: 2 * GRANULE_BYTES, tensors: 0 };
        lent.remove(0);
        let shared = session.usage().bytes == 2 * GRANULE_BYTES;
        let other = fill(&mut session, 6, 9.0)?;
        session.release(other)?;
        let kept = lent.iter().all(|(lent, same)| lent == same);
        lent.pop();
        let returned = session.usage().bytes == GRANULE_BYTES;
        drop(session);
        let outlived = lent.iter().all(|(lent, same)| lent == same);
        Ok(charged && shared && kept && returned && outlived)
    };
    let holds = run().map_err(|error| error.to_string())?;
    ensure(holds, "elements or their charge are not as promised")?;
    ensure(trial.device.held_bytes() == before, "what was lent is given back in the end")
}

/// A thousand operators, each on the result of the one before.
fn order(trial: &Trial) -> Result<(), String> {
    let run = || -> Result<Vec<u8>, SessionError> {
        let mut session = Session::open(trial.device, SessionLimits::of_bytes(1 << 20))?;
        let description = Description::new(Dtype::Fp32, shape(&[3]));
        let one = fill(&mut session, 3, 1.0)?;
        let mut sum = session.upload(description, &[0; 12])?;
        for _ in 0..1_000 {
            let next = session.run(&Kernel::Binary(Binary::Add).into(), &[sum, one])?[0];
            session.release(sum)?;
            sum = next;
        }
        session.finish()?;
        session.read(sum)
    };
    let sum = run().map_err(|error| error.to_string())?;
    ensure(sum == [1_000.0f32; 3].map(f32::to_le_bytes).concat(), "the sum is wrong")
}
