//! How threads share data and wait for each other. tests/interleavings compiles the other modules with a file of its own in
//! place of this one: the same names, from a checker that decides at every step which thread runs.

#![forbid(unsafe_code)]

pub use crossbeam_channel::{Receiver, Sender, unbounded};
pub use parking_lot::{Condvar, Mutex};
pub use std::sync::atomic;
pub use std::thread;
pub use std::thread_local;
