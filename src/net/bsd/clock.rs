//! The clocks.

use crate::time::Time;
use std::mem::MaybeUninit;

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

/// Now, on the clock that counts the time the machine sleeps.
pub fn now() -> Time {
    read(CLOCKS[0]).unwrap_or_else(monotonic)
}

/// Now, on the clock that stands still while the machine sleeps: [`now`] has gained on it by the time slept.
pub fn monotonic() -> Time {
    read(CLOCKS[1]).unwrap_or(Time::ZERO)
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
