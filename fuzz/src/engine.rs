//! The engine, as a list of operations: what the program does, what the network and those on it do, and time.
//!
//! A simulated gateway answers by itself whatever the engine sends, well or by its faults; beside it anybody sends anything
//! at any time that the contract of `plum_engine::io` allows. What must hold at every step is in the testkit's `Checks`
//! and in `machine`.

mod answers;
pub mod faults;
mod machine;
pub mod operations;

use arbitrary::Unstructured;
use machine::{Machine, Setup};
use plum_runtime::log::{self, Level};
use std::sync::Arc;

/// The most operations of one input.
const MAX_OPERATIONS: usize = 400;

/// The first octets say what the world is like, each of the others begins an operation.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::read(&mut u) else { return };
    // The log of a process is made with its first use, and stays.
    log::close();
    plum_engine::log::set_sink(log::ENGINE_SINK);
    if setup.logs {
        // What is logged is formatted then, and fit for a line.
        let check = |_: Level, message: &std::ffi::CStr| {
            let text = message.to_str().expect("a message is UTF-8");
            assert!(!text.contains(char::is_control), "control characters in the log: {text:?}");
        };
        log::open(Some(Level::Verbose), Some(Arc::new(check)));
    }
    let mut machine = Machine::new(setup);
    for _ in 0..MAX_OPERATIONS {
        if u.is_empty() || machine.has_finished() {
            break;
        }
        // Too few octets for an operation: that was the last.
        if operations::carry_out(&mut machine, &mut u).is_err() {
            break;
        }
    }
    machine.end();
    log::close();
}
