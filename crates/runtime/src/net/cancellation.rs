//! Disables thread cancellation (pthread_cancel(3)) inside the library: a cancelled thread would unwind, or end, inside
//! a system call, through frames that do not expect it, and with locks held.

#[cfg(any(target_os = "linux", routing_sockets))]
use std::ffi::c_int;
use std::marker::PhantomData;

/// Disables cancellation of the calling thread while this value lives. A pending cancellation takes effect when it is
/// enabled again.
pub struct Uncancelled {
    #[cfg(any(target_os = "linux", routing_sockets))]
    old: c_int,
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

// pthread.h: the libc crate has neither the function nor, but for Apple's systems, the constant. Android has no cancellation.
#[cfg(any(target_os = "linux", routing_sockets))]
unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}
#[cfg(any(target_os = "linux", routing_sockets))]
const PTHREAD_CANCEL_DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };

impl Uncancelled {
    /// Disables cancellation of the calling thread.
    pub fn begin() -> Uncancelled {
        Uncancelled {
            #[cfg(any(target_os = "linux", routing_sockets))]
            old: set_state(PTHREAD_CANCEL_DISABLE),
            _not_send: PhantomData,
        }
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // This is not a cancellation point: a pending cancellation takes effect at the next one.
        #[cfg(any(target_os = "linux", routing_sockets))]
        set_state(self.old);
    }
}

/// Sets whether the calling thread may be cancelled; returns the previous setting.
#[cfg(any(target_os = "linux", routing_sockets))]
fn set_state(state: c_int) -> c_int {
    let mut old = state;
    // SAFETY: pthread_setcancelstate(3): it takes its own constants, or what it gave, and writes the old state to the pointer.
    unsafe { pthread_setcancelstate(state, &raw mut old) };
    old
}
