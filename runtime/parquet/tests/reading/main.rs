//! Files through the process that reads them: real ones that are written here, and such as nobody
//! writes who means well.

mod files;
mod hostile;
mod process;
mod values;
