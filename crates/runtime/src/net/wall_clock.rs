//! The time of day, for people.

#[cfg(unix)]
use super::generation;
#[cfg(unix)]
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Hours, minutes and seconds, in the time zone of the machine (in UTC where it cannot be asked for).
pub fn wall_clock() -> (u32, u32, u32) {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    local(secs).unwrap_or_else(|| of_day(secs))
}

/// Hours, minutes and seconds of the day.
fn of_day(secs: u64) -> (u32, u32, u32) {
    ((secs / 3600 % 24) as u32, (secs / 60 % 60) as u32, (secs % 60) as u32)
}

/// glibc has a lock for time zones that it does not reset at a fork: in a child forked while another thread is in
/// localtime_r, that function never returns. So a child keeps the UTC offset that its parent knew.
#[cfg(unix)]
fn local(secs: u64) -> Option<(u32, u32, u32)> {
    const DAY_SECS: u64 = 24 * 60 * 60;
    /// How far local time is ahead of UTC, in seconds; the length of a day: not known.
    static AHEAD_SECS: AtomicU32 = AtomicU32::new(DAY_SECS as u32);
    let ahead = AHEAD_SECS.load(Ordering::Relaxed);
    if generation() > 1 && u64::from(ahead) < DAY_SECS {
        return Some(of_day(secs + u64::from(ahead)));
    }
    let (hours, minutes, seconds) = ask(secs)?;
    let local_secs = u64::from(hours * 3600 + minutes * 60 + seconds);
    AHEAD_SECS.store(((local_secs + DAY_SECS - secs % DAY_SECS) % DAY_SECS) as u32, Ordering::Relaxed);
    Some((hours, minutes, seconds))
}

#[cfg(unix)]
fn ask(secs: u64) -> Option<(u32, u32, u32)> {
    let secs = secs.try_into().ok()?;
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r(3) reads the time and fills the tm; both pointers are valid. It may read TZ of the environment: that
    // nobody changes that meanwhile is what getenv(3) asks of every C program.
    if unsafe { libc::localtime_r(&raw const secs, parts.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: localtime_r(3): it has filled the tm, since it did not return NULL.
    let parts = unsafe { parts.assume_init() };
    Some((
        u32::try_from(parts.tm_hour).ok()?,
        u32::try_from(parts.tm_min).ok()?,
        u32::try_from(parts.tm_sec).ok()?,
    ))
}

#[cfg(windows)]
fn local(_secs: u64) -> Option<(u32, u32, u32)> {
    // It is not asked for a time of ours, but for the time now.
    Some(super::platform::local_time())
}

#[cfg(test)]
mod tests {
    #[test]
    fn tells_a_time_of_day() {
        let (hours, minutes, secs) = super::wall_clock();
        // 60 is a leap second.
        assert!(hours < 24 && minutes < 60 && secs <= 60, "{hours}:{minutes}:{secs}");
    }
}
