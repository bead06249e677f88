//! The sources of crates/runtime, but for its sync.rs: its place is taken by a `sync` whose threads and locks a checker schedules.
//! So the checker is a dependency of this package alone.
#![cfg(shuttle)]
#![allow(missing_docs)]

#[path = "../../crates/runtime/src/client/mod.rs"]
pub mod client;
#[path = "../../crates/runtime/src/dummytls/mod.rs"]
pub mod dummytls;
mod harness;
#[path = "../../crates/runtime/src/log.rs"]
pub mod log;
#[path = "../../crates/runtime/src/net/mod.rs"]
pub mod net;
mod sync;
#[path = "../../crates/runtime/src/worker/mod.rs"]
pub mod worker;

pub use harness::*;
