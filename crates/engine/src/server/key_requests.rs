//! The requests about one key and their replies.

use super::Answer;
use crate::io::Suggestion;
use crate::time::Time;
use plum_wire::pcp::Nonce;
use std::time::Duration;

/// How long a request or its reply may be in flight.
const MEMORY: Duration = Duration::from_secs(10);

/// How long a deletion waits for the replies to earlier map requests.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(250);

/// The requests about one key and their replies.
#[derive(Debug, Default)]
pub(super) struct KeyRequests {
    pub(super) state: RequestState,
    pub(super) suggestion: Suggestion,
    /// PCP: the nonce of the mapping.
    pub(super) nonce: Nonce,
    pub(super) maps: Sent,
    pub(super) deletions: Sent,
    /// The reply to the last deletion.
    pub(super) deleted: Option<Answer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestState {
    /// No request is open; late replies may come.
    #[default]
    Idle,
    /// A map request is in the window.
    Map,
    /// A deletion waits until the earlier map requests are answered or have timed out.
    DeletionWaits,
    /// A deletion is in the window.
    Deletion,
}

impl KeyRequests {
    /// Whether a reply may be a duplicate of that to the last deletion.
    pub(super) fn is_copy(&self, now: Time, answer: Answer) -> bool {
        self.deleted == Some(answer) && now.since(self.deletions.last_at) <= MEMORY
    }

    /// The earliest request that a reply received now may answer.
    pub(super) fn asked_at(&self, now: Time) -> Option<Time> {
        [self.maps.open_since(now), self.deletions.open_since(now)].into_iter().flatten().min()
    }
}

/// The shortest wait before a request is repeated: the window's first wait, shortened by jitter.
const SHORTEST_WAIT: Duration = Duration::from_millis(225);

/// The datagrams of one kind that a reply may answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    unanswered: u32,
    /// How many of the unanswered were sent before a deletion: their replies say nothing about what was requested since.
    pub(super) overtaken: u32,
    first_at: Time,
    last_at: Time,
}

impl Sent {
    pub(super) fn note_sent(&mut self, now: Time) {
        if !self.is_open(now) {
            *self = Sent { first_at: now, last_at: now, ..Sent::default() };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_at = now;
    }

    /// One of them was answered. Returns whether that was sent before a deletion: the earliest are answered first.
    pub(super) fn note_answered(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_sub(1);
        let is_overtaken = self.overtaken > 0;
        self.overtaken = self.overtaken.saturating_sub(1);
        is_overtaken
    }

    /// A deletion is sent after them.
    pub(super) fn note_deletion(&mut self, now: Time) {
        self.overtaken = if self.is_open(now) { self.unanswered } else { 0 };
    }

    /// Whether a reply received now may answer one of them.
    pub(super) fn is_open(&self, now: Time) -> bool {
        self.unanswered > 0 && now.since(self.last_at) <= MEMORY
    }

    /// Whether the first was repeated for want of a reply. (One may also be sent twice at once, for two reasons.)
    pub(super) fn is_repeated(&self) -> bool {
        self.unanswered > 1 && self.last_at.since(self.first_at) >= SHORTEST_WAIT
    }

    /// Whether one of them may reach the gateway after all of `others`.
    pub(super) fn follow(&self, now: Time, others: &Sent) -> bool {
        self.is_open(now) && self.last_at >= others.last_at
    }

    /// Until when a deletion waits for their replies, so as not to overtake them; `None`: it need not wait.
    pub(super) fn followed_at(&self, now: Time) -> Option<Time> {
        Some(self.last_at + FOLLOW_TIMEOUT).filter(|&at| self.is_open(now) && now < at)
    }

    /// When the first of those was sent that a reply received now may answer.
    pub(super) fn open_since(&self, now: Time) -> Option<Time> {
        self.is_open(now).then_some(self.first_at)
    }
}
