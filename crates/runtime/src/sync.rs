//! How threads share data and wait for each other: std's locks, without poison. tests/interleavings compiles the other modules
//! with a file of its own in place of this one: the same names, from a checker that decides at every step which thread runs.
//!
//! std's locks have no state but their own: one that was made in the child of a fork works there, whatever threads of the
//! parent did at that moment. (parking_lot's waiters stand in one table of the process, parts of which such a thread may hold.)

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "they are wrapped here")]

mod locks;

pub use crossbeam_channel::{Receiver, Sender, unbounded};
pub use locks::{Condvar, Mutex};
pub use std::sync::{MutexGuard, atomic};
pub use std::thread;
pub use std::thread_local;

use std::sync as base;
