//! The clocks of Unix.

use plum_engine::time::Time;
use std::mem::MaybeUninit;

/// What a clock shows, counted from wherever it counts; `None`: the system has no such clock, or refuses it.
pub fn read(clock: libc::clockid_t) -> Option<Time> {
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
