//! The clocks.

#![forbid(unsafe_code)]

use super::super::unix_clock::read;
use plum_engine::time::Time;

/// Now, on the clock that counts the time that the machine sleeps.
pub fn now() -> Time {
    // CLOCK_BOOTTIME is there since Linux 2.6.39; a sandbox that refuses it leaves a library that works awake.
    read(libc::CLOCK_BOOTTIME).unwrap_or_else(monotonic)
}

/// Now, on the clock that does not count the time that the machine sleeps: [`now`] gains on it by each sleep.
pub fn monotonic() -> Time {
    read(libc::CLOCK_MONOTONIC).unwrap_or(Time::ZERO)
}
