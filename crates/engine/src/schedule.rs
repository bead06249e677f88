//! When mappings are renewed and retried, and how many packets a second that may cost the gateway.

use super::io::{Cx, Protocol};
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

/// The next renewal of what was granted at `made_at`: at a random point in 1/2..5/8 of its lifetime, then in 3/4..13/16, in
/// 7/8..29/32 and so on (RFC 6887 §11.2.1), never sooner than the floor from now. Windows that have begun are passed over,
/// however early (after an announcement) or late (in its turn) the renewal in them was. Where too little is left of the
/// lifetime to renew in: its end.
pub fn renewal_at(cx: &mut Cx, made_at: Time, lifetime: Duration) -> Time {
    let end = made_at + lifetime;
    let Some(stage) = (0..=LAST_STAGE).find(|stage| end - lifetime / (2 << stage) > cx.now) else {
        return end;
    };
    // In units of 1/2^(stage+3) of the lifetime the window begins at 2^(stage+3) - 4 and is one unit wide.
    let of = 1u64 << (stage + 3);
    let at = made_at + cx.between(lifetime, of - 4, of - 3, of);
    at.max(cx.now + RENEWAL_FLOOR).min(end)
}

/// How long after a failure to ask again, the first time that it came without a lifetime; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// A refusal holds at least this long (RFC 6887 §7.4: what is over soon is refused for 30 s), and no retry interval is longer
/// unless the recheck interval is.
pub const SHORTEST_REFUSAL: Duration = Duration::from_secs(30);

/// No refusal holds longer, whatever lifetime the gateway gives it.
const LONGEST_REFUSAL: Duration = Duration::from_secs(30 * 60);

/// How long to leave a rung alone that has failed: for the lifetime of the refusal (RFC 6887 §7.4), or, where it has none
/// (silence, an unreadable reply), longer each time, with jitter that only shortens.
pub fn wait_after_failure(cx: &mut Cx, lifetime: Option<Duration>, failures: u8) -> Duration {
    if let Some(lifetime) = lifetime {
        return lifetime.clamp(SHORTEST_REFUSAL, LONGEST_REFUSAL);
    }
    let wait = FIRST_RETRY * (1 << failures.min(16));
    cx.between(wait.min(cx.config.recheck_interval.max(SHORTEST_REFUSAL)), 9, 10, 10)
}

/// Packets that an HTTP exchange costs the gateway: the client's SYN and its ACK, the request, the ACKs of the reply and
/// of its end, FIN.
pub const PACKETS_AN_EXCHANGE: u32 = 6;

/// Packets that one request costs the gateway, for the pace.
pub fn packets(protocol: Protocol) -> u32 {
    if protocol == Protocol::UpnpIgd { PACKETS_AN_EXCHANGE } else { 1 }
}

/// Spreads what the library does by itself (renewals, looks at what is there, remaking after a restart), so that a
/// gateway never sees more than 100 packets in any second for it: a bucket of 20 that gains 50 a second, which
/// leaves 30 for what cannot wait.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the bucket is (or was) full again, in its own currency of time.
    full_at: Time,
}

impl Pace {
    const BURST: u32 = 20;
    /// At most so many packets that could not wait are waited for by others.
    const DEBT: u32 = 60;
    const INTERVAL: Duration = Duration::from_millis(20);

    /// Takes `packets` from the bucket; when they may be sent, `now` if at once.
    pub fn take(&mut self, now: Time, packets: u32) -> Time {
        let depth = Self::INTERVAL * Self::BURST;
        let at = now.max(self.full_at + Self::INTERVAL * packets - depth);
        self.full_at = self.full_at.max(now) + Self::INTERVAL * packets;
        at
    }

    /// `packets` are sent that could not wait: what comes next waits instead, but not for more than [`Self::DEBT`] of them.
    pub fn spend(&mut self, now: Time, packets: u32) {
        let most = Self::INTERVAL * Self::DEBT;
        let full_at = self.full_at.max(now) + Self::INTERVAL * packets;
        self.full_at = self.full_at.max(full_at.min(now + most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Config, Cx, Random};

    struct Lowest;
    impl Random for Lowest {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(0);
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
