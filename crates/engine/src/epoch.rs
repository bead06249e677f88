//! The gateway's epoch: a clock that starts at zero when the gateway loses its mappings.
//!
//! Every answer tells it. A value that does not fit the ones before means that the mappings are gone.

use super::io::Protocol;
use crate::time::Time;

/// What an answer's epoch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochCheck {
    /// The gateway runs on as before.
    Fits,
    /// The gateway has lost its mappings since the answers before.
    Restarted,
    /// The answer was given before a restart that was noticed already: to be dropped.
    Stale,
    /// Nothing, as far as an announcement goes that nobody asked for: it repeats one of a restart, no answer has told the
    /// epoch yet, or it is no clock.
    Unclear,
}

/// The epoch as the gateway has shown it so far.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Whose rule of validity holds.
    rule: Protocol,
    /// The highest value of the current era, with the time at which it first came.
    current: Option<Sample>,
    /// The era before, and when its end was noticed.
    ended: Option<(Sample, Time)>,
    /// The first value of the current era.
    first: Option<Sample>,
    /// How many eras in a row have ended, or are running, without having been seen to run like a clock.
    unproven: u8,
    /// There was a recheck since the epoch turned out to be no clock.
    rechecked: bool,
}

/// A value of the gateway's clock, and ours at its receipt; micros, as both go into signed differences.
#[derive(Clone, Copy, Debug)]
struct Sample {
    server: i64,
    client: i64,
}

impl Sample {
    fn new(epoch_secs: u32, now: Time) -> Sample {
        Sample { server: i64::from(epoch_secs) * SECOND, client: signed(now) }
    }

    /// The gateway's clock at the start of ours, by this sample.
    fn offset(self) -> i64 {
        self.server - self.client
    }
}

const SECOND: i64 = 1_000_000;

/// An era whose clock was seen to run right for so long is one.
const PROVEN_AFTER: i64 = 10 * SECOND;

/// So many eras in a row that were none, and the gateway's epoch means nothing: some never count, count anything but
/// seconds, or are two gateways in turn. To take each answer for a restart would make all mappings anew without end.
const MOST_UNPROVEN: u8 = 4;

/// Our clock, in a width that leaves room for sums: it is full after 146,000 years.
fn signed(time: Time) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

impl Epoch {
    /// Nothing is known of the gateway's clock yet.
    pub fn new(rule: Protocol) -> Epoch {
        Epoch { rule, current: None, ended: None, first: None, unproven: 0, rechecked: false }
    }

    /// Judges the epoch of an answer received `now`, and remembers it unless it is stale. `asked_at` is the
    /// first sending of the request that it answers (the earliest, if there can be several), `None` if
    /// nobody asked.
    pub fn judge(&mut self, now: Time, asked_at: Option<Time>, epoch_secs: u32) -> EpochCheck {
        let sample = Sample::new(epoch_secs, now);
        let Some(current) = self.current else {
            self.begin_era(sample);
            return EpochCheck::Fits;
        };
        if let Some((before, noticed_at)) = self.ended {
            // Whatever was asked after the restart was noticed is answered by the gateway of today. Of the
            // rest, an answer belongs to the era whose clock it is nearer to.
            let may_be_old = asked_at.is_none_or(|asked_at| asked_at < noticed_at);
            let distance = |era: Sample| (sample.offset() - era.offset()).abs();
            if may_be_old && distance(before) < distance(current) && follows(self.rule, before, sample) {
                return EpochCheck::Stale;
            }
        }
        let fits = follows(self.rule, current, sample);
        // Stricter than the RFCs, whose slack is for answers that overtake each other: this one was given after
        // the higher value had reached us.
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

    /// Judges the epoch of an announcement received `now`, and remembers it if it tells something. `is_repetition`: a
    /// restart was announced just now, and servers repeat that.
    pub fn judge_announcement(&mut self, now: Time, epoch_secs: u32, is_repetition: bool) -> EpochCheck {
        let Some(current) = self.current.filter(|_| self.is_clock()) else { return EpochCheck::Unclear };
        let sample = Sample::new(epoch_secs, now);
        if is_same_second(current, sample) {
            return EpochCheck::Fits;
        }
        // A gateway announces its starts. If its clock is not above what is known it has started anew, though RFC 6887 §8.5
        // finds nothing wrong where it had started just before: 0 after 0.
        if follows(self.rule, current, sample) && sample.server > current.server {
            self.current = Some(sample);
            return EpochCheck::Fits;
        }
        let is_restart = !is_repetition && self.end_era(current, now, sample);
        if is_restart { EpochCheck::Restarted } else { EpochCheck::Unclear }
    }

    /// Whether an answer, or an announcement after one, has told a value.
    pub fn is_known(&self) -> bool {
        self.current.is_some()
    }

    /// The recheck interval has passed: an epoch that was no clock may be one again.
    pub fn note_recheck(&mut self) {
        self.rechecked = true;
    }

    /// Whether the epoch means anything.
    fn is_clock(&self) -> bool {
        self.unproven <= MOST_UNPROVEN
    }

    /// The era of `before` was noticed to be over by `sample`, the first of the next; whether that shows a restart.
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

/// Whether `sample` tells the second that an answer told less than a second ago: the clock has not ticked in between, or
/// the two overtook each other. A clock that has started since then tells 0 or 1.
fn is_same_second(before: Sample, sample: Sample) -> bool {
    sample.client - before.client < SECOND
        && (0..=SECOND).contains(&(before.server - sample.server))
        && sample.server > SECOND
}

/// Whether `sample` can be of the era of `before`, by a protocol's rule.
fn follows(rule: Protocol, before: Sample, sample: Sample) -> bool {
    let client_delta = sample.client - before.client;
    let server_delta = sample.server - before.server;
    match rule {
        // RFC 6887 §8.5, in its order: one second back is reordering; then, with 2 s of slack and 1/16 of drift,
        // neither clock may run away from the other.
        Protocol::Pcp => {
            server_delta >= -SECOND
                && client_delta + 2 * SECOND >= server_delta - server_delta / 16
                && server_delta + 2 * SECOND >= client_delta - client_delta / 16
        }
        // RFC 6886 §3.6: at least 7/8 of the time that passed here, less 2 s.
        _ => server_delta >= client_delta - client_delta / 8 - 2 * SECOND,
    }
}

#[cfg(test)]
mod tests;
