//! Marks of what a thread is inside of. The child of a fork inherits the marks of the thread that forked; the
//! generation in a mark shows whose it is.

#![forbid(unsafe_code)]

use super::generation;
use crate::sync::thread::LocalKey;
use std::cell::Cell;

/// The generation of the process that has marked the thread; 0: none. To be declared by `thread_local!`.
pub type ThreadMark = LocalKey<Cell<u32>>;

/// The process that has marked the calling thread; 0: none.
pub fn marked_in(mark: &'static ThreadMark) -> u32 {
    // A thread that is ending has no thread-locals any more, and no mark.
    mark.try_with(Cell::get).unwrap_or(0)
}

/// Whether this process has marked the calling thread.
pub fn is_marked(mark: &'static ThreadMark) -> bool {
    marked_in(mark) == generation()
}

/// Marks the calling thread permanently.
pub fn set_mark(mark: &'static ThreadMark) {
    let _ = mark.try_with(|mark| mark.set(generation()));
}

/// Marks the calling thread while this value lives, also during a panic.
pub struct Marked(&'static ThreadMark);

impl Marked {
    /// Marks the calling thread.
    pub fn new(mark: &'static ThreadMark) -> Marked {
        set_mark(mark);
        Marked(mark)
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = self.0.try_with(|mark| mark.set(0));
    }
}
