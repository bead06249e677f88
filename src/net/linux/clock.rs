//! The clocks.

use crate::time::Time;
use std::mem::MaybeUninit;

/// Now, on the clock that counts the time the machine sleeps.
pub fn now() -> Time {
    // CLOCK_BOOTTIME is there since Linux 2.6.39; a sandbox that refuses it leaves a library that works awake.
    read(libc::CLOCK_BOOTTIME).unwrap_or_else(monotonic)
}

/// Now, on the clock that stands still while the machine sleeps: [`now`] has gained on it by the time slept.
pub fn monotonic() -> Time {
    read(libc::CLOCK_MONOTONIC).unwrap_or(Time::ZERO)
}

fn read(clock: libc::clockid_t) -> Option<Time> {
    let mut value = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime(2) writes a timespec to the pointer it is given, which is valid for that.
    let result = unsafe { libc::clock_gettime(clock, value.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: clock_gettime(2) returned 0: it has filled the timespec.
    let value = unsafe { value.assume_init() };
    let secs = u64::try_from(value.tv_sec).ok()?;
    let micros = u64::try_from(value.tv_nsec).ok()? / 1000;
    Some(Time::from_micros(secs.saturating_mul(1_000_000).saturating_add(micros)))
}
