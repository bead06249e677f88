//! The runtime of the engine: operating system, worker thread, table of mappings, log, DummyTLS.
//!
//! For the packages of this project only: the API is not stable.

// One operation a block, so that the comment on it states the contract of that operation.
#![warn(clippy::multiple_unsafe_ops_per_block)]

pub mod client;
pub mod dummytls;
pub mod log;
#[allow(clippy::disallowed_types, reason = "the clocks of the system are read here")]
pub mod net;
pub mod sync;
pub mod worker;
