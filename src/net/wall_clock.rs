//! The time of day, for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Hours, minutes and seconds, in the time zone of the machine (in UTC where it cannot be asked for).
pub fn wall_clock() -> (u32, u32, u32) {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    local(secs).unwrap_or(((secs / 3600 % 24) as u32, (secs / 60 % 60) as u32, (secs % 60) as u32))
}

#[cfg(unix)]
fn local(secs: u64) -> Option<(u32, u32, u32)> {
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
