//! Keeping signals away from a thread, and a thread from the child of a fork.

use crate::sync::thread::{self, JoinHandle};
use std::io;

/// Calls `body` with all signals blocked in this thread. Threads started in it have them blocked for all their
/// life, without a gap: a thread inherits the mask of its maker.
#[cfg(unix)]
fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
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
fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    body()
}

/// Starts a thread that has all signals blocked: the program's handlers are not to run on a thread it does not know.
/// `None`: the usual stack.
///
/// # Errors
///
/// The system gives no thread.
// One type of body, since starting a thread is four kilobytes of code for each.
pub fn start_thread(
    name: &str,
    stack_len: Option<usize>,
    body: Box<dyn FnOnce() + Send>,
) -> io::Result<JoinHandle<()>> {
    let mut builder = thread::Builder::new().name(name.to_owned());
    if let Some(stack_len) = stack_len {
        builder = builder.stack_size(stack_len);
    }
    with_all_signals_blocked(|| builder.spawn(body))
}

/// Calls `body`, whose writes to a pipe that nobody reads give an error and no SIGPIPE.
#[cfg(unix)]
pub fn without_sigpipe<T>(body: impl FnOnce() -> T) -> T {
    use std::mem::MaybeUninit;
    use std::ptr::null_mut;

    let mut set = MaybeUninit::uninit();
    let mut old = MaybeUninit::uninit();
    let mut pending = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3), sigaddset(3) and sigpending(2) initialise and fill the sets they are given and cannot fail
    // for valid pointers and this signal; pthread_sigmask(3) as above.
    let (set, old, was_pending) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), old.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        (set.assume_init(), old.assume_init(), libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1)
    };
    let result = body();
    // SAFETY: as above; sigwait(3) takes the signal that is pending, without waiting, and fills the number.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        // One that waited before is somebody else's.
        if !was_pending && libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 {
            let mut signal = 0;
            libc::sigwait(&raw const set, &raw mut signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, null_mut());
    }
    result
}

/// Calls `body`; there are no signals.
#[cfg(not(unix))]
pub fn without_sigpipe<T>(body: impl FnOnce() -> T) -> T {
    body()
}

/// Ends the calling thread, and the process if it has no other: nothing is unwound, no exit handler runs. For
/// what is left of a thread in the child of a fork, where every lock may be held for ever.
pub fn end_thread() -> ! {
    #[cfg(target_os = "linux")]
    loop {
        // SAFETY: _exit(2), "C library/kernel differences": it ends the thread, and touches no memory. The thread's own is not
        // given back; it is that of a copy of the process that has no more use for it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    // SAFETY: _exit(2) has no precondition. Of a fork's child this thread is all there is, but for what it started itself.
    unsafe {
        libc::_exit(0)
    };
    #[cfg(not(unix))]
    unreachable!("no process is forked here")
}
