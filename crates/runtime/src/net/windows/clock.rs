//! The clocks.

use plum_engine::time::Time;
use std::mem::transmute;
use std::sync::OnceLock;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;
use windows_sys::core::w;

/// Interrupt time is told in units of 100 ns.
const UNITS_A_MICROSECOND: u64 = 10;

/// `QueryInterruptTimePrecise` and `QueryUnbiasedInterruptTimePrecise`, as realtimeapiset.h declares them.
type Query = unsafe extern "system" fn(*mut u64);

/// A pair of clocks with one pace.
#[derive(Clone, Copy)]
struct Precise {
    with_sleep: Query,
    awake: Query,
}

/// Now, on the clock that counts the time that the machine sleeps.
pub fn now() -> Time {
    match precise() {
        Some(precise) => read(precise.with_sleep),
        // SAFETY: GetTickCount64 has no precondition.
        None => Time::from_millis(unsafe { GetTickCount64() }),
    }
}

/// Now, on the clock that does not count the time that the machine sleeps: [`now`] gains on it by each sleep.
pub fn monotonic() -> Time {
    if let Some(precise) = precise() {
        return read(precise.awake);
    }
    let mut units = 0;
    // SAFETY: QueryUnbiasedInterruptTime writes a number to the pointer, which is valid for that; it fails only for null.
    unsafe { QueryUnbiasedInterruptTime(&raw mut units) };
    Time::from_micros(units / UNITS_A_MICROSECOND)
}

fn read(query: Query) -> Time {
    let mut units = 0;
    // SAFETY: either function writes a number to the pointer, which is valid for that.
    unsafe { query(&raw mut units) };
    Time::from_micros(units / UNITS_A_MICROSECOND)
}

/// The clocks that are exact; Wine 8 lacks them, and what there is else steps by up to 16 ms.
fn precise() -> Option<Precise> {
    static PRECISE: OnceLock<Option<Precise>> = OnceLock::new();
    *PRECISE.get_or_init(|| {
        // SAFETY: GetModuleHandleW takes a text that ends in 0. kernelbase.dll is part of every process and stays.
        let kernel = unsafe { GetModuleHandleW(w!("kernelbase.dll")) };
        if kernel.is_null() {
            return None;
        }
        // SAFETY: GetProcAddress takes a handle that was not null, and a name that ends in 0.
        let with_sleep = unsafe { GetProcAddress(kernel, c"QueryInterruptTimePrecise".as_ptr().cast()) }?;
        // SAFETY: as above.
        let awake = unsafe { GetProcAddress(kernel, c"QueryUnbiasedInterruptTimePrecise".as_ptr().cast()) }?;
        Some(Precise {
            // SAFETY: a pointer to a function may be cast to that of another type; the type is that of realtimeapiset.h.
            with_sleep: unsafe { transmute::<unsafe extern "system" fn() -> isize, Query>(with_sleep) },
            // SAFETY: as above.
            awake: unsafe { transmute::<unsafe extern "system" fn() -> isize, Query>(awake) },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clocks_never_go_back_and_keep_the_same_pace() {
        let start = (now(), monotonic());
        let mut last = start;
        // Until both have moved on: they may step by 16 ms.
        while now().since(start.0) < Duration::from_millis(50) || monotonic() == start.1 {
            let read = (now(), monotonic());
            assert!(read.0 >= last.0 && read.1 >= last.1, "{read:?} after {last:?}");
            last = read;
        }
        let gained = now().since(start.0).abs_diff(monotonic().since(start.1));
        assert!(gained < Duration::from_secs(2), "a sleep that was none: {gained:?}");
    }
}
