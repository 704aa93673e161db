//! Simulations of serving on a virtual clock: the same events and actions as live, settings and
//! loads from tables or generators, and other systems' policies to compare with. No I/O.

mod comparison;
mod engine;
mod outcome;
mod placement;
mod policies;
mod policy;
mod scenario;
mod setting;
mod workload;

pub use comparison::{Spread, Summary, summarise};
pub use engine::{Violation, simulate};
pub use outcome::{Ended, Fate, Outcome};
pub use placement::replicate;
pub use policy::{Policy, PolicyKind, UnknownPolicy};
pub use scenario::{Scenario, ScenarioError};
pub use setting::{DeviceKind, Model, Outage, Setting};
pub use workload::{Arrivals, Request, merged};
