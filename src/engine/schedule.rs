//! When mappings are renewed and retried, and how many packets a second that may cost the gateway.

#![forbid(unsafe_code)]

use super::io::Cx;
use crate::time::Time;
use std::time::Duration;

/// A lifetime above this counts as this: a gateway that restarts is asked again within a day.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Renewals are never closer than this, however short the lifetime (RFC 6887 §11.2.1).
pub const RENEWAL_FLOOR: Duration = Duration::from_secs(4);

/// The last useful renewal stage: beyond it the share that is left of a day is below the floor.
const LAST_STAGE: u32 = 14;

/// What a granted lifetime counts as: at most a day, and at least two renewal floors, so that the first
/// renewal comes before the end.
pub fn counted_lifetime(granted: Duration) -> Duration {
    granted.clamp(2 * RENEWAL_FLOOR, LONGEST_LIFETIME)
}

/// The renewal point of a stage: a random one in 1/2..5/8 of the lifetime for stage 0, then 3/4..13/16,
/// 7/8..29/32 and so on (RFC 6887 §11.2.1), never sooner than the floor from now. `None`: nothing is left
/// of the lifetime to renew in.
pub fn renewal_at(cx: &mut Cx<'_>, made_at: Time, lifetime: Duration, stage: u32) -> Option<Time> {
    if stage > LAST_STAGE {
        return None;
    }
    // In units of 1/2^(stage+3) of the lifetime the window begins at 2^(stage+3) - 4 and is one unit wide.
    let of = 1u64 << (stage + 3);
    let at = made_at + cx.between(lifetime, of - 4, of - 3, of);
    let at = at.max(cx.now + RENEWAL_FLOOR);
    (at < made_at + lifetime).then_some(at)
}

/// The first stage whose window begins after `now`: the next one after a renewal, however early that was (after an
/// announcement) or late (in its turn).
pub fn stage_after(now: Time, made_at: Time, lifetime: Duration) -> u32 {
    (0..=LAST_STAGE)
        .find(|stage| made_at + (lifetime - lifetime / (2 << stage)) > now)
        .unwrap_or(LAST_STAGE + 1)
}

/// How long after a refusal to try again: after the lifetime of the gateway's answer, never sooner than 30 s
/// or the recheck interval, whichever is shorter, never later than the recheck interval.
pub fn retry_after(answer_lifetime: Duration, recheck_interval: Duration) -> Duration {
    answer_lifetime.max(Duration::from_secs(30)).min(recheck_interval)
}

/// Packets that an HTTP exchange costs the gateway: the client's SYN and its ACK, the request, the ACKs of the reply and
/// of its end, FIN.
pub const PACKETS_AN_EXCHANGE: u32 = 6;

/// Exchanges that an attempt at a mapping takes where the first request is refused: GetExternalIPAddress, AddPortMapping,
/// a look at what is there, AddPortMapping at another port. What goes beyond is reckoned when it comes.
pub const EXCHANGES_AN_ATTEMPT: u32 = 4;

/// Packets that a race costs the gateway in its first second, beside the mappings': twice or thrice six searches, one
/// or two public-address requests.
pub const PACKETS_A_RACE: u32 = 20;

/// Spreads what the library does by itself (renewals, looks at what is there, remaking after a restart), so that a
/// gateway never sees more than 100 packets in any second for it: a bucket of 30 that gains 50 a second, which
/// leaves 20 for retransmissions and for what an attempt takes beyond its reckoning.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the bucket is (or was) full again, in its own currency of time.
    full_at: Time,
}

impl Pace {
    const BURST: u64 = 30;
    const INTERVAL: Duration = Duration::from_millis(20);

    /// Takes `packets` from the bucket; when they may be sent, `now` if at once.
    pub fn take(&mut self, now: Time, packets: u32) -> Time {
        let depth = Self::INTERVAL * (Self::BURST as u32);
        let at = now.max(self.full_at + Self::INTERVAL * packets - depth);
        self.full_at = self.full_at.max(now) + Self::INTERVAL * packets;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::io::{Output, Random};
    use std::collections::VecDeque;

    struct Lowest;
    impl Random for Lowest {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn at(now: Time, lifetime_secs: u64, stage: u32) -> Option<u64> {
        let mut outputs: VecDeque<Output> = VecDeque::new();
        let mut cx = Cx { now, random: &mut Lowest, outputs: &mut outputs, pace: &mut Pace::default() };
        renewal_at(&mut cx, Time::ZERO, Duration::from_secs(lifetime_secs), stage).map(Time::as_millis)
    }

    #[test]
    fn renewal_windows_begin_at_a_half_then_three_quarters_then_seven_eighths() {
        assert_eq!(at(Time::ZERO, 8000, 0), Some(4_000_000));
        assert_eq!(at(Time::from_secs(4500), 8000, 1), Some(6_000_000));
        assert_eq!(at(Time::from_secs(6200), 8000, 2), Some(7_000_000));
    }

    #[test]
    fn the_next_stage_is_the_one_whose_window_is_still_to_come() {
        let stage_after = |secs| stage_after(Time::from_secs(secs), Time::ZERO, Duration::from_secs(8000));
        assert_eq!([0, 3999, 4000, 5000, 5999].map(stage_after), [0, 0, 1, 1, 1]);
        assert_eq!([6000, 6500, 7000, 7500, 7999].map(stage_after), [2, 2, 3, 4, 12]);
        assert_eq!(stage_after(8000), LAST_STAGE + 1);
    }

    #[test]
    fn renewals_keep_four_seconds_apart_and_end_with_the_lifetime() {
        assert_eq!(at(Time::ZERO, 6, 0), Some(4_000));
        assert_eq!(at(Time::from_secs(7), 8, 1), None);
        assert_eq!(at(Time::from_secs(86_399), 86_400, 15), None);
    }

    #[test]
    fn short_and_long_lifetimes_are_counted_within_bounds() {
        assert_eq!(counted_lifetime(Duration::from_secs(1)), Duration::from_secs(8));
        assert_eq!(counted_lifetime(Duration::from_secs(7200)), Duration::from_secs(7200));
        assert_eq!(counted_lifetime(Duration::from_secs(u32::MAX.into())), Duration::from_secs(86_400));
    }

    #[test]
    fn a_refused_mapping_is_retried_within_the_recheck_interval() {
        let secs = Duration::from_secs;
        assert_eq!(retry_after(secs(0), secs(300)), secs(30));
        assert_eq!(retry_after(secs(100), secs(300)), secs(100));
        assert_eq!(retry_after(secs(1800), secs(300)), secs(300));
        assert_eq!(retry_after(secs(1800), secs(5)), secs(5));
    }

    #[test]
    fn the_pace_lets_no_more_than_100_packets_into_any_second() {
        let mut pace = Pace::default();
        let sent: Vec<u64> = (0..500).map(|_| pace.take(Time::from_secs(10), 1).as_millis()).collect();
        for (first, start) in sent.iter().enumerate() {
            let within = sent[first..].iter().take_while(|&&at| at < start + 1000).count();
            assert!(within <= 100, "{within} packets in the second from {start} ms");
        }
        assert_eq!(sent[29], 10_000, "the first 30 are sent at once");
    }
}
