//! What is under way about one key.

use super::Answer;
use crate::io::Suggestion;
use crate::time::Time;
use plum_wire::pcp::Nonce;
use std::time::Duration;

/// How long a datagram, or its answer, may be under way.
const MEMORY: Duration = Duration::from_secs(10);

/// How long a deletion waits for the answers to map requests that were sent before it.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(250);

/// The requests about one key.
#[derive(Debug, Default)]
pub(super) struct KeyRequests {
    pub(super) state: RequestState,
    pub(super) suggestion: Suggestion,
    /// PCP: what the server knows the mapping by.
    pub(super) nonce: Nonce,
    pub(super) maps: Sent,
    pub(super) deletions: Sent,
    /// What the last deletion was answered with.
    pub(super) deleted: Option<Answer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestState {
    /// Nothing is asked; answers to what was sent may come.
    #[default]
    Idle,
    /// A map request is in the window.
    Map,
    /// A deletion is to be sent when the map requests before it are answered, or had their time.
    DeletionWaits,
    /// A deletion is in the window.
    Deletion,
}

impl KeyRequests {
    /// Whether an answer may be a copy of that to the last deletion.
    pub(super) fn is_copy(&self, now: Time, answer: Answer) -> bool {
        self.deleted == Some(answer) && now.since(self.deletions.last_at) <= MEMORY
    }

    /// The earliest sending that an answer of now may answer.
    pub(super) fn asked_at(&self, now: Time) -> Option<Time> {
        [self.maps.open_since(now), self.deletions.open_since(now)].into_iter().flatten().min()
    }
}

/// After how long without an answer a request is repeated at the soonest: the window's first wait, shortened by jitter.
const SHORTEST_WAIT: Duration = Duration::from_millis(225);

/// Datagrams of one kind that an answer may answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    unanswered: u32,
    first_at: Time,
    last_at: Time,
}

impl Sent {
    pub(super) fn note_sent(&mut self, now: Time) {
        if !self.is_open(now) {
            *self = Sent { unanswered: 0, first_at: now, last_at: now };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_at = now;
    }

    pub(super) fn note_answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Whether an answer of now may answer one of them.
    pub(super) fn is_open(&self, now: Time) -> bool {
        self.unanswered > 0 && now.since(self.last_at) <= MEMORY
    }

    /// Whether the first was repeated because no answer came. (One may also be sent twice for two reasons, at once.)
    pub(super) fn is_repeated(&self) -> bool {
        self.unanswered > 1 && self.last_at.since(self.first_at) >= SHORTEST_WAIT
    }

    /// Whether one of them may still reach the gateway after all of `others` that were sent.
    pub(super) fn follow(&self, now: Time, others: &Sent) -> bool {
        self.is_open(now) && self.last_at >= others.last_at
    }

    /// Until when a deletion that must not overtake them waits for their answers; `None`: it need not.
    pub(super) fn followed_at(&self, now: Time) -> Option<Time> {
        Some(self.last_at + FOLLOW_TIMEOUT).filter(|&at| self.is_open(now) && now < at)
    }

    /// The first of those that an answer of now may answer.
    pub(super) fn open_since(&self, now: Time) -> Option<Time> {
        self.is_open(now).then_some(self.first_at)
    }
}
