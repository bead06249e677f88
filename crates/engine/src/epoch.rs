//! The gateway's epoch: a clock that starts at zero when the gateway loses its mappings.
//!
//! Every reply carries it. A value that does not fit the earlier ones shows that the mappings are gone.

use super::io::Protocol;
use crate::time::Time;

/// What the epoch of a reply shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochCheck {
    /// The gateway has not restarted.
    Fits,
    /// The gateway has lost its mappings since the earlier replies.
    Restarted,
    /// The reply is older than a restart that was already detected: it is dropped.
    Stale,
    /// An announcement that shows nothing: it repeats that of a restart, no reply has told the epoch yet, or the epoch
    /// is not a clock.
    Unclear,
}

/// The epoch values of a gateway so far.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// The protocol whose validity rule applies.
    rule: Protocol,
    /// The highest value of the current era, and when it was first received.
    current: Option<Sample>,
    /// The last value of the previous era, and when its end was detected.
    ended: Option<(Sample, Time)>,
    /// The first value of the current era.
    first: Option<Sample>,
    /// Consecutive eras, the current one included, that did not run like a clock.
    unproven: u8,
    /// There was a recheck since the epoch was found not to be a clock.
    rechecked: bool,
}

/// A value of the gateway's clock, and of ours at its receipt, in microseconds: signed, for differences.
#[derive(Clone, Copy, Debug)]
struct Sample {
    server: i64,
    client: i64,
}

impl Sample {
    fn new(epoch_secs: u32, now: Time) -> Sample {
        Sample { server: i64::from(epoch_secs) * SECOND, client: signed(now) }
    }

    /// The gateway's clock at the start of our clock, by this sample.
    fn offset(self) -> i64 {
        self.server - self.client
    }
}

const SECOND: i64 = 1_000_000;

/// An era whose epoch ran like a clock for this long is proven.
const PROVEN_AFTER: i64 = 10 * SECOND;

/// With more unproven eras than this in a row the epoch means nothing: some gateways never count, count other units
/// than seconds, or are two gateways in turn. To take each of their replies for a restart would make all mappings again
/// without end.
const MOST_UNPROVEN: u8 = 4;

/// Our clock as a signed number with room for sums: it is full after 146,000 years.
fn signed(time: Time) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

impl Epoch {
    /// An epoch without a value yet.
    pub fn new(rule: Protocol) -> Epoch {
        Epoch { rule, current: None, ended: None, first: None, unproven: 0, rechecked: false }
    }

    /// Checks the epoch of a reply received `now`, and records it unless it is stale. `asked_at`: when the request was
    /// first sent (the earliest, if there are several); `None`: unsolicited.
    pub fn judge(&mut self, now: Time, asked_at: Option<Time>, epoch_secs: u32) -> EpochCheck {
        let sample = Sample::new(epoch_secs, now);
        let Some(current) = self.current else {
            self.begin_era(sample);
            return EpochCheck::Fits;
        };
        if let Some((before, noticed_at)) = self.ended {
            // A request sent after the restart was detected is answered in the new era. Other replies belong to the era
            // whose clock they are nearer to.
            let may_be_old = asked_at.is_none_or(|asked_at| asked_at < noticed_at);
            let distance = |era: Sample| (sample.offset() - era.offset()).abs();
            if may_be_old && distance(before) < distance(current) && follows(self.rule, before, sample) {
                return EpochCheck::Stale;
            }
        }
        let fits = follows(self.rule, current, sample);
        // Stricter than the RFCs, whose slack is for replies that overtake each other: this request was sent after the
        // higher value had been received.
        let decreased = sample.server < current.server
            && asked_at.is_some_and(|asked_at| signed(asked_at) >= current.client);
        if fits && !decreased {
            if sample.server > current.server {
                self.current = Some(sample);
            }
            if let Some(first) = self.first
                && (self.is_clock() || self.rechecked)
                && sample.client - first.client >= PROVEN_AFTER
                && follows(Protocol::Pcp, first, sample)
            {
                self.unproven = 0;
            }
            return EpochCheck::Fits;
        }
        if self.end_era(current, now, sample) { EpochCheck::Restarted } else { EpochCheck::Fits }
    }

    /// Checks the epoch of an announcement received `now`, and records it if it shows something. `is_repetition`: a
    /// restart was announced just before, and gateways repeat such announcements.
    pub fn judge_announcement(&mut self, now: Time, epoch_secs: u32, is_repetition: bool) -> EpochCheck {
        let Some(current) = self.current.filter(|_| self.is_clock()) else { return EpochCheck::Unclear };
        let sample = Sample::new(epoch_secs, now);
        if is_same_second(current, sample) {
            return EpochCheck::Fits;
        }
        // A gateway announces its starts. If its epoch is not above the known value, it has restarted, although RFC
        // 6887 §8.5 accepts 0 after 0.
        if follows(self.rule, current, sample) && sample.server > current.server {
            self.current = Some(sample);
            return EpochCheck::Fits;
        }
        let is_restart = !is_repetition && self.end_era(current, now, sample);
        if is_restart { EpochCheck::Restarted } else { EpochCheck::Unclear }
    }

    /// Whether a value is known.
    pub fn is_known(&self) -> bool {
        self.current.is_some()
    }

    /// The recheck interval has passed: an epoch that was not a clock may be one again.
    pub fn note_recheck(&mut self) {
        self.rechecked = true;
    }

    /// Whether the epoch is a clock, so that its values mean something.
    fn is_clock(&self) -> bool {
        self.unproven <= MOST_UNPROVEN
    }

    /// Ends the era of `before` with the first sample of the next. Returns whether that shows a restart.
    fn end_era(&mut self, before: Sample, now: Time, sample: Sample) -> bool {
        let was_clock = self.is_clock();
        self.begin_era(sample);
        if was_clock {
            self.rechecked = false;
        }
        self.ended = self.is_clock().then_some((before, now));
        self.is_clock()
    }

    fn begin_era(&mut self, sample: Sample) {
        self.current = Some(sample);
        self.first = Some(sample);
        self.unproven = self.unproven.saturating_add(1);
    }
}

/// Whether `sample` has the same second as a value received less than a second ago: the clock has not ticked in
/// between, or the two overtook each other. A clock that has restarted since then tells 0 or 1.
fn is_same_second(before: Sample, sample: Sample) -> bool {
    sample.client - before.client < SECOND
        && (0..=SECOND).contains(&(before.server - sample.server))
        && sample.server > SECOND
}

/// Whether `sample` can belong to the era of `before`, by the validity rule of a protocol.
fn follows(rule: Protocol, before: Sample, sample: Sample) -> bool {
    let client_delta = sample.client - before.client;
    let server_delta = sample.server - before.server;
    match rule {
        // RFC 6887 §8.5, in its order: one second backwards is reordering; with 2 s of slack and 1/16 of drift, neither
        // clock may run ahead of the other.
        Protocol::Pcp => {
            server_delta >= -SECOND
                && client_delta + 2 * SECOND >= server_delta - server_delta / 16
                && server_delta + 2 * SECOND >= client_delta - client_delta / 16
        }
        // RFC 6886 §3.6: at least 7/8 of the time that has passed here, minus 2 s.
        _ => server_delta >= client_delta - client_delta / 8 - 2 * SECOND,
    }
}

#[cfg(test)]
mod tests;
