//! Keeping signals away from a thread.

/// Calls `body` with all signals blocked in this thread. Threads started in it have them blocked for all their
/// life, without a gap: a thread inherits the mask of its maker.
#[cfg(unix)]
pub fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    use std::mem::MaybeUninit;

    /// Puts the old mask back, also when `body` panics.
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: pthread_sigmask(3) reads the set, which it filled itself below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }

    let mut all = MaybeUninit::uninit();
    let mut old = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) initialises the set it is given and cannot fail for a valid pointer.
    // pthread_sigmask(3) reads that set and fills the old one; SIG_SETMASK is valid, so it cannot fail.
    let old = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    };
    let _restore = Restore(old);
    body()
}

/// Calls `body`; there are no signals to block.
#[cfg(not(unix))]
pub fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    body()
}
