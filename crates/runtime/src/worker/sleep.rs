//! Detects that the machine has slept.

#![forbid(unsafe_code)]

use plum_engine::time::Time;
use std::time::Duration;

/// A shorter sleep does not need a check of the network.
const SLEEP_MIN: Duration = Duration::from_secs(2);

/// Compares the clock that counts sleep with the one that does not.
#[derive(Debug)]
pub(super) struct Sleep {
    /// How far the first was ahead of the second at the last detected sleep.
    ahead: Duration,
}

impl Sleep {
    pub(super) fn new(now: Time, awake: Time) -> Sleep {
        Sleep { ahead: now.since(awake) }
    }

    /// How long the machine has slept since the last detected sleep. `now` must be read before `awake`: a delay between
    /// the two then only shortens the result.
    pub(super) fn seen(&mut self, now: Time, awake: Time) -> Option<Duration> {
        let ahead = now.since(awake);
        let gain = ahead.saturating_sub(self.ahead);
        if gain <= SLEEP_MIN {
            return None;
        }
        self.ahead = ahead;
        Some(gain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_sleep_once() {
        let mut sleep = Sleep::new(Time::from_secs(100), Time::from_secs(90));
        assert_eq!(sleep.seen(Time::from_secs(200), Time::from_secs(190)), None);
        let hour = Duration::from_secs(3600);
        assert_eq!(sleep.seen(Time::from_secs(3801), Time::from_secs(191)), Some(hour));
        assert_eq!(sleep.seen(Time::from_secs(3802), Time::from_secs(192)), None);
    }

    #[test]
    fn adds_up_naps() {
        let mut sleep = Sleep::new(Time::from_secs(10), Time::from_secs(10));
        assert_eq!(sleep.seen(Time::from_millis(21_500), Time::from_secs(20)), None);
        let seen = sleep.seen(Time::from_secs(33), Time::from_secs(30));
        assert_eq!(seen, Some(Duration::from_secs(3)));
    }

    #[test]
    fn takes_a_pause_between_the_readings_for_no_sleep() {
        let mut sleep = Sleep::new(Time::from_secs(10), Time::from_secs(10));
        assert_eq!(sleep.seen(Time::from_secs(20), Time::from_secs(25)), None);
        assert_eq!(sleep.seen(Time::from_secs(26), Time::from_secs(26)), None);
    }
}
