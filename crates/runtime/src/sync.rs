//! Synchronisation between threads: std's locks without poisoning. tests/interleavings replaces this file with one of
//! the same names from a checker, which schedules the threads.
//!
//! std's locks have no global state: a lock created in the child of a fork works there, whatever the parent's threads
//! did at that moment. (parking_lot has one table of waiters for the process, parts of which such a thread may hold.)

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "they are wrapped here")]

mod locks;

pub use crossbeam_channel::{Receiver, Sender, unbounded};
pub use locks::{Condvar, Mutex};
/// What the worker waits in, and what other threads end that wait with.
pub use mio::{Poll, Waker};
pub use std::sync::{MutexGuard, atomic};
pub use std::thread;
pub use std::thread_local;

use std::sync as base;
