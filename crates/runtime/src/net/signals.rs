//! Threads of the library: signals blocked, and ended in the child of a fork.

use super::thread_mark::{marked_in, set_mark};
use super::{Uncancelled, generation};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::thread_local;
use std::cell::Cell;
use std::io;

#[cfg(unix)]
mod mask {
    //! Sets of signals, and the signal mask of the calling thread.
    //!
    //! A set begins as zeroes, which are a valid one: glibc's has 128 bytes, of which it and the kernel fill the first 8.

    use libc::{c_int, sigset_t};
    use std::mem::MaybeUninit;
    use std::ptr::{null, null_mut};

    /// The set that `fill` makes: `sigemptyset` or `sigfillset`.
    pub fn set(fill: unsafe extern "C" fn(*mut sigset_t) -> c_int) -> sigset_t {
        let mut set = MaybeUninit::zeroed();
        // SAFETY: sigemptyset(3), sigfillset(3): they write a set to the pointer, which is valid for that, and cannot fail then.
        unsafe { fill(set.as_mut_ptr()) };
        // SAFETY: every byte is set, and a set is made of integers.
        unsafe { set.assume_init() }
    }

    /// The set of one signal.
    pub fn set_of(signal: c_int) -> sigset_t {
        let mut one = set(libc::sigemptyset);
        // SAFETY: sigaddset(3): it changes the set, which is ours. It cannot fail for the signals that POSIX names.
        unsafe { libc::sigaddset(&raw mut one, signal) };
        one
    }

    /// Whether the process ignores a signal.
    pub fn is_ignored(signal: c_int) -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: sigaction(2): it takes null for a new action, and writes the present one to the pointer, which is valid for that.
        let outcome = unsafe { libc::sigaction(signal, null(), action.as_mut_ptr()) };
        // SAFETY: zeroes are a valid action (no handler), and so is what was written.
        outcome == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    }

    /// Changes the calling thread's mask and returns the old one. `how`: SIG_BLOCK or SIG_SETMASK.
    pub fn change(how: c_int, set: &sigset_t) -> sigset_t {
        let mut old = MaybeUninit::zeroed();
        // SAFETY: pthread_sigmask(3): it reads the set and writes the old mask; both pointers are valid. It cannot fail for these `how`.
        unsafe { libc::pthread_sigmask(how, set, old.as_mut_ptr()) };
        // SAFETY: as in `set`.
        unsafe { old.assume_init() }
    }

    /// Restores the mask that [`change`] returned.
    pub fn put_back(old: &sigset_t) {
        // SAFETY: pthread_sigmask(3): it reads the set, and takes null for the old mask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, null_mut()) };
    }

    /// Whether a blocked signal is pending for this thread or the process.
    pub fn is_pending(signal: c_int) -> bool {
        let mut pending = MaybeUninit::zeroed();
        // SAFETY: sigpending(2): it writes a set to the pointer, which is valid for that.
        unsafe { libc::sigpending(pending.as_mut_ptr()) };
        // SAFETY: sigismember(3): it reads a set, which this is: see `set`.
        unsafe { libc::sigismember(pending.as_ptr(), signal) == 1 }
    }

    /// Takes one pending signal of the set, if there still is one.
    pub fn take_pending(set: &sigset_t) {
        // This must not wait: another thread may have taken a signal that was sent to the process.
        #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
        {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: sigtimedwait(2): it reads the set and the time, and takes null for what it might tell.
            unsafe { libc::sigtimedwait(set, null_mut(), &raw const now) };
        }
        // These systems have no call that does not wait. No program is known in which several threads block SIGPIPE and
        // one of them takes the signal at this moment.
        #[cfg(any(target_vendor = "apple", target_os = "openbsd"))]
        {
            let mut signal = 0;
            // SAFETY: sigwait(3): it reads the set and writes the number; both pointers are valid.
            unsafe { libc::sigwait(set, &raw mut signal) };
        }
    }
}

/// Whether the process ignores a signal, as after `nohup`: for programs that catch only what is not ignored.
#[cfg(unix)]
pub fn ignores_signal(signal: i32) -> bool {
    mask::is_ignored(signal)
}

/// Calls `body` with all signals blocked in this thread. Threads started in it keep them blocked, without a gap: a
/// thread inherits the mask of its creator.
#[cfg(unix)]
fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    /// Restores the old mask, also when `body` panics.
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            mask::put_back(&self.0);
        }
    }

    let _restore = Restore(mask::change(libc::SIG_SETMASK, &mask::set(libc::sigfillset)));
    body()
}

/// Calls `body`; there are no signals to block.
#[cfg(not(unix))]
fn with_all_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    body()
}

thread_local! {
    /// Whether this thread is one of the library's.
    static STARTED_IN: Cell<u32> = const { Cell::new(0) };
}

/// Starts a thread with all signals blocked and without cancellation: the program's handlers must not run on a thread
/// that it does not know.
///
/// # Errors
///
/// The system gives no thread.
// One type of body: starting a thread is four kilobytes of code for each type.
pub fn start_thread(
    name: &str,
    stack_len: Option<usize>,
    body: Box<dyn FnOnce() + Send>,
) -> io::Result<JoinHandle<()>> {
    #[cfg(windows)]
    super::platform::stay_loaded();
    let mut builder = thread::Builder::new().name(name.to_owned());
    if let Some(stack_len) = stack_len {
        builder = builder.stack_size(stack_len);
    }
    let body = move || {
        let _uncancelled = Uncancelled::begin();
        set_mark(&STARTED_IN);
        body();
    };
    with_all_signals_blocked(|| builder.spawn(body))
}

/// Calls `body`, in which a write to a closed pipe returns an error without SIGPIPE.
#[cfg(unix)]
pub(super) fn without_sigpipe<T>(body: impl FnOnce() -> T) -> T {
    let sigpipe = mask::set_of(libc::SIGPIPE);
    let old = mask::change(libc::SIG_BLOCK, &sigpipe);
    let was_pending = mask::is_pending(libc::SIGPIPE);
    let result = body();
    // A signal that was pending before is not ours.
    if !was_pending && mask::is_pending(libc::SIGPIPE) {
        mask::take_pending(&sigpipe);
    }
    mask::put_back(&old);
    result
}

/// To be called after a function of the program that may have forked: ends the child's copy of a library thread, which
/// would otherwise continue the parent's work on the parent's sockets and locks.
pub fn end_thread_in_child() {
    let started_in = marked_in(&STARTED_IN);
    if started_in != 0 && started_in != generation() {
        end_thread();
    }
}

/// Ends the calling thread, and the process if it has no other, without unwinding or exit handlers.
fn end_thread() -> ! {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    loop {
        // SAFETY: _exit(2), "C library/kernel differences": it ends the thread, and touches no memory. The thread's own is not
        // given back; it is that of a copy of the process that has no more use for it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    // SAFETY: _exit(2) has no precondition. Of a fork's child this thread is all there is, but for what it started itself.
    unsafe {
        libc::_exit(0)
    };
    #[cfg(not(unix))]
    unreachable!("no process is forked here")
}
