//! The worker after a panic of the machine or the loop: the program's calls still come to an end.
//!
//! No packet is sent and no socket is polled any more; this loop handles the inbox only.

#![forbid(unsafe_code)]

use super::{Command, ProgramSide};
use crate::log::{self, log};
use crate::net::clock;
use plum_engine::io::{Event, MappingId};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Serves the program until it cleans up.
pub(super) fn serve(side: &mut ProgramSide) {
    guard(|| side.program.handle_panic());
    // Reports the `Destroyed` events that the machine still owed, or that were lost in its output queue.
    for id in side.live.keys_where(|_, &destroying| destroying) {
        tell(side, id, Event::Destroyed);
    }
    // A program side that has panicked would panic again.
    let mut is_program_sound = true;
    while !side.cleaning {
        if is_program_sound && side.is_program_due(clock::now()) {
            let more = guard(|| side.program.handle_timeout(clock::now()));
            is_program_sound = more.is_some();
            side.program_due = more == Some(true);
        }
        let timeout = if !is_program_sound {
            None
        } else if side.program_due {
            Some(clock::now())
        } else {
            side.program.poll_timeout()
        };
        // Dropping the `Worker` sends a Cleanup, so this loop ends.
        let message = side.inbox.wait(timeout.map(|at| at.since(clock::now())));
        match message.and_then(|message| side.take_in(message)) {
            Some(Command::Create(id, _)) => tell(side, id, Event::Failure),
            Some(Command::Destroy(id)) if side.live.contains_key(&id) => tell(side, id, Event::Destroyed),
            Some(Command::Destroy(_) | Command::Cleanup) | None => {}
        }
    }
    while let Some((id, _)) = side.live.first_key_value() {
        tell(side, id, Event::Destroyed);
    }
    guard(|| side.program.handle_finished(clock::now()));
}

fn tell(side: &mut ProgramSide, id: MappingId, event: Event) {
    guard(|| side.tell(clock::now(), id, event));
}

/// Calls the program; `None`: it has panicked, too.
fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            log!(Fatal, "defect in the library: the program's side panicked: {}", log::panic_text(&*panic));
            None
        }
    }
}
