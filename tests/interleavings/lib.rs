//! The library's own sources, but for src/sync.rs: its place is taken by a `sync` whose threads and locks a checker schedules.
//! So the checker is a dependency of this package alone.
#![cfg(shuttle)]
#![allow(missing_docs)]

#[path = "../../src/client/mod.rs"]
pub mod client;
#[path = "../../src/dummytls/mod.rs"]
pub mod dummytls;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
mod ground;
#[path = "../../src/log.rs"]
pub mod log;
#[path = "../../src/net/mod.rs"]
pub mod net;
#[path = "../../src/ordered/mod.rs"]
pub mod ordered;
mod sync;
#[path = "../../src/time.rs"]
pub mod time;
#[path = "../../src/wire/mod.rs"]
pub mod wire;
#[path = "../../src/worker/mod.rs"]
pub mod worker;

pub use ground::*;
