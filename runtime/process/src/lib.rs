//! What processes have in common that the server starts of its own program, to have done there what
//! may end a process: the [`socket`] to the server, what they are kept from, and how long they live.
//! Never knows what they do.

mod confinement;
mod lifetime;
pub mod socket;

pub use confinement::{Files, confine, confine_driver, leave_files, leave_files_but_drivers};
pub use lifetime::outlive_nobody;
