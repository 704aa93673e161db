//! What every device must answer, whatever it is: operators beside references in f64, on inputs
//! of odd sizes, empty ones, NaN, broadcast and scattered ones, and the promises of sessions.
//! Never knows which device it talks to; the inputs are the same on each run.

mod attention;
mod compare;
mod convolution;
mod distances;
mod elementwise;
mod host;
mod indexing;
mod matmul;
mod ordering;
mod pooling;
mod random;
mod reduction;
mod rows;
mod scan;
mod sessions;
mod training;

use crate::{Device, LaneError, Session, SessionError, SessionLimits};
use compare::Tolerance;
use host::{Form, Host, Random};
use quern_operators::{Description, Dtype, Kernel, Operator, Shape};

/// What came of the suite.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases were tried.
    pub cases: usize,
    /// What was wrong, each with its case.
    pub failures: Vec<String>,
}

/// Holds a device to the suite.
pub fn suite(device: &dyn Device) -> Report {
    let mut trial = Trial { device, report: Report::default(), random: Random::new(1) };
    elementwise::cases(&mut trial);
    reduction::cases(&mut trial);
    scan::cases(&mut trial);
    ordering::cases(&mut trial);
    matmul::cases(&mut trial);
    distances::cases(&mut trial);
    attention::cases(&mut trial);
    rows::cases(&mut trial);
    indexing::cases(&mut trial);
    convolution::cases(&mut trial);
    pooling::cases(&mut trial);
    training::cases(&mut trial);
    random::cases(&mut trial);
    sessions::cases(&mut trial);
    trial.report
}

/// A device under trial.
struct Trial<'a> {
    device: &'a dyn Device,
    report: Report,
    random: Random,
}

impl Trial<'_> {
    /// Tries an operator on inputs, each in every form at a time.
    fn operator(&mut self, kernel: Kernel, inputs: &[&Host], expected: &Host, within: Tolerance) {
        self.operators(kernel, inputs, std::slice::from_ref(expected), within);
    }

    /// The same with several outputs.
    fn operators(
        &mut self,
        kernel: Kernel,
        inputs: &[&Host],
        expected: &[Host],
        within: Tolerance,
    ) {
        for form in Form::ALL {
            let shapes: Vec<_> = inputs.iter().map(|input| input.description()).collect();
            let case = format!("{kernel:?} of {shapes:?}, {form:?}");
            let found = self.run(&kernel, inputs, form);
            self.note(case, found.and_then(|found| compare::all_same(&found, expected, within)));
        }
    }

    fn run(&mut self, kernel: &Kernel, inputs: &[&Host], form: Form) -> Result<Vec<Host>, String> {
        let mut session = self.session(1 << 26)?;
        let run = |session: &mut Session| -> Result<Vec<Host>, SessionError> {
            let mut ids = Vec::new();
            for input in inputs {
                ids.push(input.upload(session, form)?);
            }
            let outputs = session.run(&Operator::Kernel(kernel.clone()), &ids)?;
            let mut found = Vec::new();
            for output in &outputs {
                found.push(Host::decode(session.describe(*output)?, &session.read(*output)?));
            }
            for id in ids.into_iter().chain(outputs) {
                session.release(id)?;
            }
            Ok(found)
        };
        let found = run(&mut session).map_err(|error| error.to_string())?;
        match session.usage().bytes {
            0 => Ok(found),
            bytes => Err(format!("{bytes} bytes are in use when all was released")),
        }
    }

    /// An index out of range is told by the time the result is read, and ends the session.
    fn out_of_range(&mut self, kernel: Kernel, inputs: &[&Host], index: i64, size: u64) {
        let expected = LaneError::Index { operator: kernel.name(), index, size };
        let outcome = self.session(1 << 20).and_then(|mut session| {
            let mut ids = Vec::new();
            for input in inputs {
                ids.push(input.upload(&mut session, Form::Dense).map_err(|e| e.to_string())?);
            }
            let outputs = session.run(&Operator::Kernel(kernel.clone()), &ids);
            let told = match outputs {
                Ok(outputs) => session.read(outputs[0]).map(|_| ()),
                Err(error) => Err(error),
            };
            if let Err(SessionError::Lane(error @ LaneError::Unsupported { .. })) = told {
                return Err(error.to_string());
            }
            let again = session.read(ids[0]).map(|_| ());
            let released = session.release(ids[0]);
            let failed = Err(SessionError::Lane(expected));
            match (told == failed, again == failed, released) {
                (true, true, Ok(())) => Ok(()),
                outcome => Err(format!("{told:?}, then {again:?}: {outcome:?}")),
            }
        });
        self.note(format!("{kernel:?} with index {index}"), outcome);
    }

    fn session(&self, bytes: u64) -> Result<Session, String> {
        Session::open(self.device, SessionLimits::of_bytes(bytes)).map_err(|e| e.to_string())
    }

    fn note(&mut self, case: String, outcome: Result<(), String>) {
        self.report.cases += 1;
        if let Err(problem) = outcome {
            self.report.failures.push(format!("{case}: {problem}"));
        }
    }

    /// Elements of a type, drawn from a few simple values or a range.
    fn random(&mut self, dtype: Dtype, dims: &[u64]) -> Host {
        let shape = Shape::new(dims).expect("shapes of the suite are small");
        self.random.tensor(Description::new(dtype, shape))
    }
}
