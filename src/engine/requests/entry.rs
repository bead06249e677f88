//! What is known of one key, and of the datagrams about it.

#![forbid(unsafe_code)]

use crate::engine::driver::Key;
use crate::engine::io::Suggestion;
use crate::time::Time;
use crate::wire::pcp::Nonce;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// How long a datagram may be under way: answers to a deletion are told from a mapping's for this long.
pub(super) const MEMORY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Entry {
    /// PCP's nonce. NAT-PMP has none, and leaves it zero.
    pub(super) nonce: Nonce,
    pub(super) state: State,
    pub(super) suggestion: Suggestion,
    /// Where the gateway mapped it last.
    pub(super) external: Option<(Option<IpAddr>, NonZeroU16)>,
    /// The gateway's clock when it granted that.
    pub(super) granted_epoch_secs: u32,
    /// The gateway has it, by its last word.
    pub(super) mapped: bool,
    /// A map request was sent, and the gateway has not said what became of it.
    pub(super) doubtful: bool,
    /// The map request is our own idea: its failure is nobody's business.
    pub(super) unasked: bool,
    /// The map request follows a deletion: to be sent once more.
    pub(super) confirm: bool,
    pub(super) late_grants: u8,
    pub(super) sent: Sent,
    pub(super) deletion: Option<Deletion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is asked.
    Idle,
    /// A map request is in the window.
    Mapping,
    /// A deletion is in the window.
    Deleting,
    /// A deletion was sent, whose answer nobody awaits.
    Abandoned,
    /// A map request is to be made when the deletion that was sent is answered, or had its time.
    Following,
    /// Deleted: known only for what may still be under way.
    Gone { until: Time },
}

/// The latest deletion of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    pub(super) sent_at: Time,
    pub(super) answered: bool,
}

/// Datagrams that an answer may answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) unanswered: u32,
    pub(super) first_at: Time,
    pub(super) last_at: Time,
}

impl Sent {
    pub(super) fn note_sent(&mut self, now: Time) {
        if self.unanswered == 0 || now.since(self.last_at) > MEMORY {
            *self = Sent { unanswered: 0, first_at: now, last_at: now };
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_at = now;
    }

    pub(super) fn note_answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// The earliest sending that an answer of now may answer.
    pub(super) fn asked_at(&self) -> Option<Time> {
        (self.unanswered > 0).then_some(self.first_at)
    }
}

impl Entry {
    /// Nothing is known, nothing is asked.
    pub(super) fn new(nonce: Nonce) -> Entry {
        Entry {
            nonce,
            state: State::Idle,
            suggestion: Suggestion::default(),
            external: None,
            granted_epoch_secs: 0,
            mapped: false,
            doubtful: false,
            unasked: false,
            confirm: false,
            late_grants: 0,
            sent: Sent::default(),
            deletion: None,
        }
    }

    /// The deletion that was sent and may still reach the gateway, or its answer us.
    pub(super) fn pending_deletion(&self, now: Time) -> Option<Deletion> {
        self.deletion.filter(|deletion| !deletion.answered && now.since(deletion.sent_at) < MEMORY)
    }

    pub(super) fn note_deletion_answered(&mut self) {
        if let Some(deletion) = &mut self.deletion {
            deletion.answered = true;
        }
        self.mapped = false;
        self.doubtful = false;
    }

    /// What to suggest: without a wish what it had, or the internal port.
    pub(super) fn suggestion(&self, key: Key) -> Suggestion {
        let had = self.external;
        Suggestion {
            address: self.suggestion.address.or(had.and_then(|(address, _)| address)),
            port: self.suggestion.port.or(had.map(|(_, port)| port)).or(Some(key.internal_port)),
        }
    }
}
