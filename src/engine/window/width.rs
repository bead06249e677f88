//! How wide the window is, how long a round trip takes, and which sendings were overtaken.
//!
//! Sendings are numbered from 1 in the order in which they went out.

#![forbid(unsafe_code)]

use std::time::Duration;

/// Requests in flight at the start.
pub const START: usize = 64;

/// Requests in flight at most.
pub const MAX: usize = 128;

/// Requests in flight that any loss leaves.
pub const MIN: usize = 8;

/// A sending that this many later ones were answered before is lost.
const LATER_ANSWERS: usize = 3;

/// An answer later than this tells of a gateway that was away, not of the way to it.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Width {
    limit: usize,
    smoothed_round_trip: Option<Duration>,
    /// The highest sendings that were answered.
    answered: [u64; LATER_ANSWERS],
    round: Round,
    /// A loss of a sending before this belongs to a halving that has been done.
    halved_at: u64,
}

/// From one answer to the answer to what was sent after it.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It is over when nothing sent before this is in flight; set by its first answer.
    ends_with: Option<u64>,
    lost: bool,
    /// Something had to wait for room.
    full: bool,
}

/// What is known of an answered request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) first_sending: u64,
    pub(super) last_sending: u64,
    /// Since the last sending.
    pub(super) round_trip: Duration,
}

impl Default for Width {
    fn default() -> Width {
        Width {
            limit: START,
            smoothed_round_trip: None,
            answered: [0; LATER_ANSWERS],
            round: Round::default(),
            halved_at: 0,
        }
    }
}

impl Width {
    /// How many requests may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Back to the width of the start.
    pub(super) fn reset_limit(&mut self) {
        self.limit = START;
        self.round = Round::default();
    }

    /// How long nothing must come for silence: the schedule's wait, but room for two round trips.
    pub(super) fn patience(&self, wait: Duration) -> Duration {
        wait.max(self.smoothed_round_trip.unwrap_or_default() * 2)
    }

    /// A request had to wait for room.
    pub(super) fn note_full(&mut self) {
        self.round.full = true;
    }

    /// An answer came. The sendings before the one returned are lost.
    pub(super) fn note_answer(&mut self, answer: Answered) -> u64 {
        let Answered { first_sending, last_sending, round_trip } = answer;
        let smoothed = self.smoothed_round_trip;
        if first_sending == last_sending && round_trip <= LONGEST_ROUND_TRIP {
            // Of what was sent more than once nobody knows which sending is answered (Karn's rule).
            self.smoothed_round_trip =
                Some(smoothed.map_or(round_trip, |smoothed| (smoothed * 7 + round_trip) / 8));
        }
        // An answer that comes too soon for the latest sending is to an earlier one.
        let too_soon = round_trip * 2 < smoothed.unwrap_or_default();
        let answered = if too_soon { first_sending } else { last_sending };
        if let Some(lowest) = self.answered.iter_mut().min()
            && *lowest < answered
        {
            *lowest = answered;
        }
        self.answered.iter().min().copied().unwrap_or(0)
    }

    /// A sending was lost: the window is halved, once for all that was sent before it was.
    pub(super) fn note_loss(&mut self, sending: u64, next_sending: u64) {
        self.round.lost = true;
        if sending >= self.halved_at {
            self.limit = (self.limit / 2).max(MIN);
            self.halved_at = next_sending;
        }
    }

    /// An answer and its losses were noted. When all that was sent before the round began is answered or lost, it
    /// is over; if nothing was lost in it and the window was full, the window doubles.
    pub(super) fn end_round(&mut self, first_in_flight: Option<u64>, next_sending: u64) {
        let ends_with = *self.round.ends_with.get_or_insert(next_sending);
        if first_in_flight.is_none_or(|sending| sending >= ends_with) {
            if self.round.full && !self.round.lost {
                self.limit = (self.limit * 2).min(MAX);
            }
            let ends_with = first_in_flight.map(|_| next_sending);
            self.round = Round { ends_with, lost: false, full: false };
        }
    }
}
