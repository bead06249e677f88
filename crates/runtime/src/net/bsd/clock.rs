//! The clocks.

#![forbid(unsafe_code)]

use super::super::unix_clock::read;
use plum_engine::time::Time;

/// The clock that counts the time the machine sleeps, and the one that stands still meanwhile.
///
/// clock_gettime(3) of macOS 10.12 (Libc, gen/clock_gettime.c): CLOCK_MONOTONIC_RAW is mach_continuous_time(3), CLOCK_UPTIME_RAW
/// mach_absolute_time(3).
#[cfg(target_vendor = "apple")]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_UPTIME_RAW];
/// clock_gettime(2) of OpenBSD: CLOCK_UPTIME is CLOCK_BOOTTIME without the time the machine was suspended.
#[cfg(target_os = "openbsd")]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_BOOTTIME, libc::CLOCK_UPTIME];
/// clock_gettime(2) of FreeBSD, since 2024: CLOCK_MONOTONIC goes on while the machine is suspended, CLOCK_UPTIME does not. So it
/// is to be: in sys/kern/kern_time.c both were still one clock that counts no sleep, and then this is as on NetBSD.
/// (CLOCK_BOOTTIME is another name, in sys/_clock_id.h, at first of the one and now of the other.)
#[cfg(target_os = "freebsd")]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC, libc::CLOCK_UPTIME];
/// NetBSD has no clock that counts a sleep. Its end is seen by what it does to the links.
#[cfg(not(any(target_vendor = "apple", target_os = "openbsd", target_os = "freebsd")))]
const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC; 2];

/// Now, on the clock that counts the time that the machine sleeps.
pub fn now() -> Time {
    read(CLOCKS[0]).unwrap_or_else(monotonic)
}

/// Now, on the clock that does not count the time that the machine sleeps: [`now`] gains on it by each sleep.
pub fn monotonic() -> Time {
    read(CLOCKS[1]).unwrap_or(Time::ZERO)
}
