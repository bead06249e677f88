//! The clocks.

#![forbid(unsafe_code)]

use super::super::unix_clock::read;
use crate::time::Time;

/// The clock that counts the time the machine sleeps, and the one that stands still meanwhile.
///
/// clock_gettime(3) of macOS 10.12: CLOCK_MONOTONIC_RAW is mach_continuous_time(3), CLOCK_UPTIME_RAW mach_absolute_time(3).
#[cfg(target_vendor = "apple")]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_UPTIME_RAW];
/// clock_gettime(2) of OpenBSD: CLOCK_UPTIME is CLOCK_BOOTTIME without the time the machine was suspended.
#[cfg(target_os = "openbsd")]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_BOOTTIME, libc::CLOCK_UPTIME];
/// FreeBSD's CLOCK_BOOTTIME is another name of CLOCK_UPTIME, and NetBSD has none: here no clock counts a sleep. Its end is
/// seen by what it does to the links.
#[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC; 2];

/// Now, on the clock that counts the time the machine sleeps.
pub fn now() -> Time {
    read(CLOCKS[0]).unwrap_or_else(monotonic)
}

/// Now, on the clock that stands still while the machine sleeps: [`now`] has gained on it by the time slept.
pub fn monotonic() -> Time {
    read(CLOCKS[1]).unwrap_or(Time::ZERO)
}
