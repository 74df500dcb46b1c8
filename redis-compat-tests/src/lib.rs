//! Other people's judges, run against Cairn: Redis's own Tcl suite.
//!
//! Nothing of the suite is kept here: `source` gets it from Debian's source
//! package into a cache, `unit` runs one file of it and reads what it prints,
//! `ratchet` compares that with what is expected, and `suite` does it for all
//! units, two at a time. The tests in `tests/` name the servers to be judged.

pub mod ratchet;
pub mod source;
pub mod suite;
pub mod unit;
