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

/// Tries the cases of a part of the suite.
type Cases = fn(&mut Trial);

/// The parts of the suite.
const FAMILIES: [(&str, Cases); 14] = [
    ("elementwise", elementwise::cases),
    ("reduction", reduction::cases),
    ("scan", scan::cases),
    ("ordering", ordering::cases),
    ("matmul", matmul::cases),
    ("distances", distances::cases),
    ("attention", attention::cases),
    ("rows", rows::cases),
    ("indexing", indexing::cases),
    ("convolution", convolution::cases),
    ("pooling", pooling::cases),
    ("training", training::cases),
    ("random", random::cases),
    ("sessions", sessions::cases),
];

/// The names of the suite's parts.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// What came of the suite.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases were tried.
    pub cases: usize,
    /// What was wrong, each with its case.
    pub failures: Vec<String>,
}

/// Which cases are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The names of families; all if there are none.
    pub families: Vec<String>,
    /// Most elements of an operator's inputs.
    pub elements: u64,
}

impl Default for Selection {
    fn default() -> Self {
        Self { families: Vec::new(), elements: u64::MAX }
    }
}

/// What came of one case.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The part of the suite that it belongs to.
    pub family: &'static str,
    /// What was tried.
    pub case: &'a str,
    /// What was wrong with it, if anything was.
    pub problem: Option<&'a str>,
}

/// Holds a device to the suite.
pub fn suite(device: &dyn Device) -> Report {
    suite_of(device, &Selection::default(), &mut |_| {})
}

/// Holds a device to some of it; `watch` is told what comes of each case.
pub fn suite_of(
    device: &dyn Device,
    selection: &Selection,
    watch: &mut dyn FnMut(Outcome),
) -> Report {
    let (report, random) = (Report::default(), Random::new(1));
    let most_elements = selection.elements;
    let mut trial = Trial { device, most_elements, watch, family: "", report, random };
    let chosen = |name: &str| {
        selection.families.is_empty() || selection.families.iter().any(|family| family == name)
    };
    for (name, cases) in FAMILIES.iter().filter(|(name, _)| chosen(name)) {
        trial.family = name;
        cases(&mut trial);
    }
    trial.report
}

/// A device under trial.
struct Trial<'a> {
    device: &'a dyn Device,
    most_elements: u64,
    watch: &'a mut dyn FnMut(Outcome),
    family: &'static str,
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
        let elements = inputs.iter().map(|input| input.shape.elements()).sum::<u64>();
        if elements > self.most_elements {
            return;
        }
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
        let problem = outcome.as_ref().err().map(String::as_str);
        (self.watch)(Outcome { family: self.family, case: &case, problem });
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
