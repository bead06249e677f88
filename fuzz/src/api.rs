//! The C API, as a list of calls: every function, with good arguments and bad ones, at any time, also from inside callbacks.
//!
//! The gateway is a simulated one on a loopback address of its own, or nobody. What each call may return says `model`; what
//! the callbacks may say, `callbacks`. Which outcomes depend on the worker thread's time is in no way decided by the input:
//! there the model allows several.

mod arguments;
mod callbacks;
mod calls;
mod harness;

pub use calls::op;

use arbitrary::Unstructured;
use calls::Session;

/// The most calls of one input.
const MAX_CALLS: usize = 60;

/// Each octet begins a call.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut session = Session::new();
    for _ in 0..MAX_CALLS {
        // Too few octets for a call: that was the last.
        if u.is_empty() || session.call(&mut u).is_err() {
            break;
        }
    }
    session.end();
}
