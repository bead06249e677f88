//! SIGINT (Ctrl-C), SIGTERM, SIGHUP: the first ends the command in order, the second at once.

use crate::exit::{Exit, Failure};
use std::sync::atomic::{AtomicBool, Ordering};

/// Calls `stop` when the command is to end, on a thread of its own.
pub fn on_stop(stop: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted as i32);
        }
        stop();
    })
    .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be caught: {error}")))
}
