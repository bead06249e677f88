//! Identifies the process. The child of a fork starts as a copy of its parent, and nothing in the copy shows that it is
//! one.
//!
//! The generation numbers the processes in a line of ancestors that have used this library, from 1 on. So it
//! distinguishes a process from all whose memory it may have a copy of. It is stored in the mark: a word in a page that
//! the kernel clears in every child (MADV_WIPEONFORK), whether made by fork(3) or by clone(2), which the C library does
//! not notice. Without such a page, a handler of pthread_atfork(3) clears the mark in the child, and the process id is
//! compared as well, which helps unless parent and child are both process 1. The child of vfork(2) shares its parent's
//! memory, and its mark.

#[cfg(unix)]
pub use unix::generation;

/// One for ever: no process is forked here.
#[cfg(not(unix))]
pub fn generation() -> u32 {
    1
}

#[cfg(unix)]
mod unix {
    use super::super::descriptors;
    use std::process::id;
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    /// Value of the mark: this process has no generation yet.
    const NONE: u32 = 0;
    /// Value of the mark: another thread is setting the generation.
    const BUSY: u32 = u32::MAX;

    /// The address of the mark, once it was needed.
    static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

    /// The mark, if the kernel wipes no page.
    static KEPT_MARK: AtomicU32 = AtomicU32::new(NONE);

    /// The process that last set the mark. Used with [`KEPT_MARK`] only.
    static PROCESS_ID: AtomicU32 = AtomicU32::new(0);

    /// The last generation that was assigned: this process's or, as long as it has none, an ancestor's.
    static LAST: AtomicU32 = AtomicU32::new(NONE);

    /// The generation of this process. Takes no lock, and some nanoseconds but for the first time.
    pub fn generation() -> u32 {
        let mark = mark();
        // Looked at before the mark, and set after it in `begin`: where this is right, the mark is not an older one.
        let is_ours = is_of_this_process(mark);
        match mark.load(Ordering::Acquire) {
            NONE | BUSY => begin(mark),
            generation if is_ours => generation,
            _ => begin(mark),
        }
    }

    fn is_of_this_process(mark: &AtomicU32) -> bool {
        !std::ptr::eq(mark, &raw const KEPT_MARK) || PROCESS_ID.load(Ordering::Acquire) == id()
    }

    /// Assigns a generation to this process, unless another thread does.
    #[cold]
    fn begin(mark: &AtomicU32) -> u32 {
        loop {
            let is_ours = is_of_this_process(mark);
            let old = mark.load(Ordering::Acquire);
            if old != NONE && old != BUSY && is_ours {
                return old;
            }
            // The other thread is a few instructions from the end.
            if old == BUSY || mark.compare_exchange(old, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                std::thread::yield_now();
                continue;
            }
            let generation = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            PROCESS_ID.store(id(), Ordering::Release);
            mark.store(generation, Ordering::Release);
            return generation;
        }
    }

    fn mark() -> &'static AtomicU32 {
        // SAFETY: null, or a pointer that `make_mark` has put there: to a static, or to a page that stays. An atomic word may be
        // shared, also with the kernel that zeroes it.
        unsafe { MARK.load(Ordering::Acquire).as_ref() }.unwrap_or_else(make_mark)
    }

    #[cold]
    fn make_mark() -> &'static AtomicU32 {
        // Several threads may come here at once. The handlers may well be called twice.
        // SAFETY: pthread_atfork(3): the functions may be called whenever a process is forked. Without memory for them the page
        // is left, or the process id.
        unsafe { libc::pthread_atfork(Some(before_fork), None, Some(in_child)) };
        let page = wiped_page();
        let kept = &raw const KEPT_MARK;
        let new = page.unwrap_or(kept.cast_mut());
        let is_late = MARK.compare_exchange(null_mut(), new, Ordering::AcqRel, Ordering::Acquire).is_err();
        if is_late && let Some(page) = page {
            unmap(page);
        }
        mark()
    }

    /// Runs in the thread that forks. A process that was made by clone(2) and has not called since gets its generation, so that
    /// its child takes no descriptor for its own parent's.
    extern "C" fn before_fork() {
        let mark = mark();
        if mark.load(Ordering::Acquire) == NONE {
            begin(mark);
        }
    }

    /// Runs in the child, while it has one thread and nobody has done anything.
    extern "C" fn in_child() {
        mark().store(NONE, Ordering::Relaxed);
        descriptors::close_those_of(LAST.load(Ordering::Relaxed));
    }

    const MARK_LEN: usize = size_of::<AtomicU32>();

    /// A page for the mark that the kernel hands to children as zeroes: Linux since 4.14.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn wiped_page() -> Option<*mut AtomicU32> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: mmap(2): memory of its own, wherever there is room; the length is rounded up to a page.
        let page = unsafe { libc::mmap(null_mut(), MARK_LEN, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        let page = page.cast::<AtomicU32>();
        // SAFETY: madvise(2): the page is ours, private and anonymous; the length is rounded up.
        if unsafe { libc::madvise(page.cast(), MARK_LEN, libc::MADV_WIPEONFORK) } != 0 {
            unmap(page);
            return None;
        }
        Some(page)
    }

    /// No other system has one under a name that all its releases know.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn wiped_page() -> Option<*mut AtomicU32> {
        None
    }

    fn unmap(page: *mut AtomicU32) {
        // SAFETY: munmap(2): a page that `wiped_page` has mapped and nobody else knows of.
        unsafe { libc::munmap(page.cast(), MARK_LEN) };
    }
}
