//! The device over the mock driver: a `libcuda` over the host's memory that runs the very kernels
//! on the processor. A test that wants one starts itself again in a process with that library, and
//! perhaps a fault, as drivers are found by the path of libraries and break whole processes.

mod absences;
mod building;
mod driver;
mod faults;
mod memory;
mod ordering;
mod products;
mod suite;
