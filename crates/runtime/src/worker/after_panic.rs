//! What is left when the machine, or the loop, has panicked: the program's calls still come to an end.
//!
//! Nothing is sent any more and no socket is polled; the notes alone drive this loop.

#![forbid(unsafe_code)]

use super::{Command, Front};
use crate::log::{self, log};
use crate::net::clock;
use plum_engine::io::{Event, MappingId};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Serves the program until it cleans up.
pub(super) fn serve(front: &mut Front) {
    guard(|| front.program.handle_panic());
    // Those that wait for a Destroyed which the machine owed them, or had given out in vain.
    for id in front.live.keys_where(|_, &destroying| destroying) {
        tell(front, id, Event::Destroyed);
    }
    // What panics once would panic for ever.
    let mut is_program_sound = true;
    while !front.cleaning {
        if is_program_sound && front.is_program_due(clock::now()) {
            let more = guard(|| front.program.handle_timeout(clock::now()));
            is_program_sound = more.is_some();
            front.program_due = more == Some(true);
        }
        let timeout = if !is_program_sound {
            None
        } else if front.program_due {
            Some(clock::now())
        } else {
            front.program.poll_timeout()
        };
        // Whoever drops the `Worker` leaves a Cleanup: this ends.
        let note = front.notes.wait(timeout.map(|at| at.since(clock::now())));
        match note.and_then(|note| front.take_in(note)) {
            Some(Command::Create(id, _)) => tell(front, id, Event::Failure),
            Some(Command::Destroy(id)) if front.live.contains_key(&id) => tell(front, id, Event::Destroyed),
            Some(Command::Destroy(_) | Command::Cleanup) | None => {}
        }
    }
    while let Some((id, _)) = front.live.first_key_value() {
        tell(front, id, Event::Destroyed);
    }
    guard(|| front.program.handle_finished(clock::now()));
}

fn tell(front: &mut Front, id: MappingId, event: Event) {
    guard(|| front.tell(clock::now(), id, event));
}

/// Calls the program; `None`: it panicked, too.
fn guard<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            log!(Fatal, "The program's side panicked: {}", log::panic_text(&*panic));
            None
        }
    }
}
