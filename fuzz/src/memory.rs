//! How much memory the calling thread holds, so that a target can say what it may be.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what passes through the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Octets that this thread allocated, less those that it freed (whoever allocated them).
pub fn held() -> i64 {
    HELD.with(Cell::get)
}

fn count(octets: usize, sign: i64) {
    // A thread that is being torn down has no thread-locals any more, and counts nothing.
    let _ = HELD.try_with(|held| held.set(held.get() + sign * i64::try_from(octets).unwrap_or(i64::MAX)));
}

// SAFETY: the system's allocator does all the work, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the same contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the same contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}
