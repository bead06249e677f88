//! When mappings are renewed and retried, and how many packets per second the gateway receives for that.

use super::io::{Cx, Protocol};
use crate::time::Time;
use std::time::Duration;

/// Longer lifetimes count as this, so that a gateway that has restarted is asked again within a day.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// RFC 6887 §11.2.1: the shortest time between two renewals, however short the lifetime.
pub const RENEWAL_FLOOR: Duration = Duration::from_secs(4);

/// The last useful renewal window: after it, less than the floor is left even of a day.
const LAST_WINDOW: u32 = 14;

/// A granted lifetime within our bounds: at most a day, and at least two renewal floors, so that the first renewal
/// comes before the end.
pub fn counted_lifetime(granted: Duration) -> Duration {
    granted.clamp(2 * RENEWAL_FLOOR, LONGEST_LIFETIME)
}

/// When to renew a mapping granted at `made_at`: at a random point in 1/2..5/8 of its lifetime, then in 3/4..13/16, in
/// 7/8..29/32 and so on (RFC 6887 §11.2.1), never sooner than the floor from now. A window that has begun is skipped,
/// however early (after an announcement) or late (waiting for its turn) its renewal was. Without enough time left for a
/// renewal: the end of the lifetime.
pub fn renewal_at(cx: &mut Cx, made_at: Time, lifetime: Duration) -> Time {
    let end = made_at + lifetime;
    let Some(window) = (0..=LAST_WINDOW).find(|window| end - lifetime / (2 << window) > cx.now) else {
        return end;
    };
    // In units of 1/2^(window+3) of the lifetime the window begins at 2^(window+3) - 4 and is one unit wide.
    let of = 1u64 << (window + 3);
    let at = made_at + cx.between(lifetime, of - 4, of - 3, of);
    at.max(cx.now + RENEWAL_FLOOR).min(end)
}

/// The wait after the first failure without a lifetime; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// RFC 6887 §7.4: short lifetime errors last 30 s. No refusal holds for less, and no retry interval is longer unless
/// the recheck interval is.
pub const SHORTEST_REFUSAL: Duration = Duration::from_secs(30);

/// RFC 6887 §7.4: long lifetime errors last 30 minutes. No refusal holds for longer, whatever its lifetime.
const LONGEST_REFUSAL: Duration = Duration::from_secs(30 * 60);

/// How long a failed rung is not asked: the lifetime of the refusal (RFC 6887 §7.4), or, without one (silence, an
/// unreadable reply), a wait that doubles with each failure, shortened by jitter.
pub fn wait_after_failure(cx: &mut Cx, lifetime: Option<Duration>, failures: u8) -> Duration {
    if let Some(lifetime) = lifetime {
        return lifetime.clamp(SHORTEST_REFUSAL, LONGEST_REFUSAL);
    }
    let wait = FIRST_RETRY * (1 << failures.min(16));
    cx.between(wait.min(cx.config.recheck_interval.max(SHORTEST_REFUSAL)), 9, 10, 10)
}

/// Packets that the gateway receives for an HTTP exchange: SYN, ACK, the request, the ACKs of the reply and of its end,
/// FIN.
pub const PACKETS_AN_EXCHANGE: u32 = 6;

/// Packets that the gateway receives for one request, for the pace.
pub fn packets(protocol: Protocol) -> u32 {
    if protocol == Protocol::UpnpIgd { PACKETS_AN_EXCHANGE } else { 1 }
}

/// Limits the packets that the library sends on its own initiative (renewals, entry checks, making mappings again after
/// a restart), so that a gateway never receives more than 100 in any second: a token bucket of 20 that gains 50 per
/// second, which leaves 30 for urgent packets.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the bucket is full again, as a time.
    full_at: Time,
}

impl Pace {
    const BURST: u32 = 20;
    /// Urgent packets that later ones wait for, at most.
    const DEBT: u32 = 60;
    const INTERVAL: Duration = Duration::from_millis(20);

    /// Takes `packets` from the bucket. Returns when they may be sent.
    pub fn take(&mut self, now: Time, packets: u32) -> Time {
        let depth = Self::INTERVAL * Self::BURST;
        let at = now.max(self.full_at + Self::INTERVAL * packets - depth);
        self.full_at = self.full_at.max(now) + Self::INTERVAL * packets;
        at
    }

    /// Takes urgent packets, sent at once, from the budget of later ones, which wait for at most [`Self::DEBT`] of
    /// them.
    pub fn spend(&mut self, now: Time, packets: u32) {
        let most = Self::INTERVAL * Self::DEBT;
        let full_at = self.full_at.max(now) + Self::INTERVAL * packets;
        self.full_at = self.full_at.max(full_at.min(now + most));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::io::{Config, Cx, Random};

    /// Draws the lowest number each time.
    pub(crate) struct Lowest;
    impl Random for Lowest {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
        }

        fn fork(&mut self) -> Box<dyn Random> {
            Box::new(Lowest)
        }
    }

    fn at(now: u64, lifetime_secs: u64) -> u64 {
        let mut cx = Cx::new(Config::default(), Box::new(Lowest));
        let now = cx.at(Time::from_secs(now));
        renewal_at(now, Time::ZERO, Duration::from_secs(lifetime_secs)).as_millis()
    }

    #[test]
    fn renewal_windows_begin_at_a_half_then_three_quarters_then_seven_eighths() {
        assert_eq!([0, 3990].map(|now| at(now, 8000)), [4_000_000; 2]);
        assert_eq!([4000, 4500, 5990].map(|now| at(now, 8000)), [6_000_000; 3]);
        assert_eq!([6000, 6200, 6990].map(|now| at(now, 8000)), [7_000_000; 3]);
        assert_eq!(at(7000, 8000), 7_500_000);
    }

    #[test]
    fn renewals_keep_four_seconds_apart_and_end_with_the_lifetime() {
        assert_eq!(at(0, 6), 4_000);
        assert_eq!(at(3999, 8000), 4_003_000);
        assert_eq!(at(7, 8), 8_000);
        assert_eq!(at(86_399, 86_400), 86_400_000);
        assert_eq!(at(9000, 8000), 8_000_000);
    }

    #[test]
    fn short_and_long_lifetimes_are_counted_within_bounds() {
        assert_eq!(counted_lifetime(Duration::from_secs(1)), Duration::from_secs(8));
        assert_eq!(counted_lifetime(Duration::from_secs(7200)), Duration::from_secs(7200));
        assert_eq!(counted_lifetime(Duration::from_secs(u32::MAX.into())), Duration::from_secs(86_400));
    }

    #[test]
    fn a_refusal_holds_for_its_lifetime_and_silence_for_longer_each_time() {
        let mut cx = Cx::new(Config::default(), Box::new(Lowest));
        let mut wait = |lifetime: Option<u64>, failures| {
            let lifetime = lifetime.map(Duration::from_secs);
            wait_after_failure(cx.at(Time::ZERO), lifetime, failures).as_millis()
        };
        assert_eq!(
            [0, 100, 1800, 86_400].map(|secs| wait(Some(secs), 9)),
            [30_000, 100_000, 1_800_000, 1_800_000]
        );
        // A tenth less by jitter, and never longer than the recheck interval.
        assert_eq!(
            [0, 1, 2, 5, 6, 7, 255].map(|failures| wait(None, failures)),
            [4500, 9000, 18_000, 144_000, 270_000, 270_000, 270_000]
        );
    }

    #[test]
    fn the_pace_lets_no_more_than_100_packets_into_any_second() {
        let mut pace = Pace::default();
        let sent: Vec<u64> = (0..500).map(|_| pace.take(Time::from_secs(10), 1).as_millis()).collect();
        for (first, start) in sent.iter().enumerate() {
            let within = sent[first..].iter().take_while(|&&at| at < start + 1000).count();
            assert!(within <= 100, "{within} packets in the second from {start} ms");
        }
        assert_eq!(sent[19], 10_000, "the first 20 are sent at once");
    }

    #[test]
    fn what_is_sent_without_waiting_is_waited_for_by_the_next_but_not_for_long() {
        let mut pace = Pace::default();
        pace.spend(Time::from_secs(10), 19);
        assert_eq!(
            [1, 1].map(|packets| pace.take(Time::from_secs(10), packets).as_millis()),
            [10_000, 10_020]
        );
        pace.spend(Time::from_secs(10), 1000);
        assert_eq!(pace.take(Time::from_secs(10), 1).as_millis(), 10_820);
    }
}
