//! Counts the bytes that the calling thread has in use, and the most it had.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting. By thread, so that tests beside each other do not count for each other.
pub struct Counting;

fn count(bytes: isize) {
    // A thread that is being torn down has no thread-locals any more.
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(in_use.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// How many bytes more than at its start the calling thread has ever had in use while `act` ran.
pub fn peak_of<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let start = IN_USE.get();
    PEAK.set(start);
    let result = act();
    (usize::try_from(PEAK.get() - start).expect("the peak is no less than the start"), result)
}
