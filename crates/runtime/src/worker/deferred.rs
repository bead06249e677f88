//! Mappings for which there is no memory: they get FAILURE, and are tried again.

#![forbid(unsafe_code)]

use plum_engine::io::{MappingId, Wanted};
use plum_engine::ordered::Pieces;
use plum_engine::time::Time;
use std::time::Duration;

/// The memory that must be available for a mapping, in bytes: some ten times its need, requests in flight included. The
/// mapping allocates it later, in pieces of a few hundred bytes, and the program's other threads need some, too.
const MAPPING_ROOM: usize = 64 * 1024;

/// The wait before deferred mappings are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Whether there is memory for another mapping.
pub(super) fn has_room() -> bool {
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(MAPPING_ROOM).is_ok();
    // Keeps the compiler from removing the unused allocation.
    std::hint::black_box(room);
    is_there
}

/// The mappings that wait for memory.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: Pieces<(MappingId, Wanted)>,
    retry_at: Option<Time>,
}

impl Deferred {
    /// Defers a mapping.
    pub(super) fn add(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        self.waiting.push((id, wanted));
        self.retry_at.get_or_insert(now + RETRY_INTERVAL);
    }

    /// Removes a mapping; `false`: it is not deferred.
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

    /// Takes all mappings.
    pub(super) fn take(&mut self) -> Pieces<(MappingId, Wanted)> {
        self.retry_at = None;
        std::mem::take(&mut self.waiting)
    }
}
