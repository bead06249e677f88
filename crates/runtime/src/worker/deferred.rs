//! Mappings that there is no memory for: told FAILURE, and tried again.

#![forbid(unsafe_code)]

use plum_engine::io::{MappingId, Wanted};
use plum_engine::ordered::Pieces;
use plum_engine::time::Time;
use std::time::Duration;

/// A mapping is taken on if there is as much memory as this, in bytes: some ten times what one needs, with its requests under way.
/// It is asked for in pieces of a few hundred bytes later, and the program's other threads want some, too.
const MAPPING_ROOM: usize = 64 * 1024;

/// How long a mapping waits for memory.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Whether there is memory for another mapping.
pub(super) fn has_room() -> bool {
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(MAPPING_ROOM).is_ok();
    // Else the compiler sees that nobody uses it, and does without.
    std::hint::black_box(room);
    is_there
}

/// The mappings that wait.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: Pieces<(MappingId, Wanted)>,
    retry_at: Option<Time>,
}

impl Deferred {
    /// A mapping waits from now on.
    pub(super) fn add(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        self.waiting.push((id, wanted));
        self.retry_at.get_or_insert(now + RETRY_INTERVAL);
    }

    /// A mapping is wanted no more; `false`: it does not wait.
    pub(super) fn remove(&mut self, id: MappingId) -> bool {
        if !self.waiting.iter().any(|(waiting, _)| *waiting == id) {
            return false;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.0 != id {
                self.waiting.push(waiting);
            }
        }
        true
    }

    /// When to try again.
    pub(super) fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    /// Takes all of them out.
    pub(super) fn take(&mut self) -> Pieces<(MappingId, Wanted)> {
        self.retry_at = None;
        std::mem::take(&mut self.waiting)
    }
}
