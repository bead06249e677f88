//! A gateway mapping: one for each key, shared by all mappings of the process with that key.

#![forbid(unsafe_code)]

use super::io::{Event, MappingId, Protocol, Suggestion};
use crate::ordered::Map;
use crate::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// The protocols that ask a gateway, in order of preference.
pub const ASKING: [Protocol; 3] = [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd];

/// A value for each of the protocols that ask a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerProtocol<T>([T; 3]);

impl<T> PerProtocol<T> {
    /// The value of `protocol`; `Direct`, which asks nobody, has none.
    pub fn get(&self, protocol: Protocol) -> Option<&T> {
        self.0.get(protocol as usize)
    }

    /// Sets the value of `protocol`.
    pub fn set(&mut self, protocol: Protocol, value: T) {
        if let Some(slot) = self.0.get_mut(protocol as usize) {
            *slot = value;
        }
    }
}

impl PerProtocol<bool> {
    /// Whether `protocol` is marked.
    pub fn has(&self, protocol: Protocol) -> bool {
        self.get(protocol).copied().unwrap_or(false)
    }

    /// The marked protocols, in order of preference.
    pub fn marked(self) -> impl Iterator<Item = Protocol> {
        ASKING.into_iter().filter(move |&protocol| self.has(protocol))
    }
}

/// Where a mapping is reachable from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// External address.
    pub address: IpAddr,
    /// External port.
    pub port: NonZeroU16,
}

/// How a mapping stands with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No protocol is chosen yet, or none is there: looked at again when anything changes.
    Waiting,
    /// A protocol that is up was asked and has not answered yet.
    Asked {
        /// Whom.
        protocol: Protocol,
    },
    /// Made.
    Mapped {
        /// By whom.
        protocol: Protocol,
        /// Where it is reachable.
        external: External,
        /// When it ends, and its renewals; `None`: permanent, or direct.
        lease: Option<Lease>,
    },
    /// The gateway refused, or did not answer; the mapping's timer says when it is tried again.
    Refused,
}

/// The life of a granted mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When it was granted.
    pub made_at: Time,
    /// What was granted, as counted.
    pub lifetime: Duration,
    /// What the mapping's timer is set for.
    pub next: LeaseStep,
}

/// What comes next in a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// A renewal is due: it takes its place in the pace.
    Renew,
    /// A renewal has its place in the pace: it goes out.
    Send,
    /// The lifetime ends.
    Expire,
}

impl Lease {
    /// When the mapping ends on the gateway.
    pub fn expires_at(&self) -> Time {
        self.made_at + self.lifetime
    }
}

/// A gateway mapping and the program's mappings that share it.
#[derive(Debug)]
pub struct Mapping {
    /// The program's mappings, and what each was told last (`None`: nothing).
    pub holders: Map<MappingId, Option<Event>>,
    /// The wish of the first holder.
    pub wish: Suggestion,
    /// How it stands.
    pub state: State,
    /// Protocols that have been asked and have not answered.
    pub asked: PerProtocol<bool>,
    /// Protocols by which the gateway may hold an entry of ours: to be deleted in the end.
    pub entries: PerProtocol<bool>,
    /// Protocols that refused this mapping for good, and until when.
    pub excluded_until: PerProtocol<Time>,
    /// Where it was reachable last: suggested when it is made anew.
    pub last: Option<External>,
    /// A deletion of it by another protocol may still be under way: once made, it is asked for once more.
    pub confirm: bool,
    /// Such a deletion may have removed it since it was made: it has not been granted once more yet.
    pub unconfirmed: bool,
    /// Its timer is a place in the pace: when it comes, the mapping is asked for.
    pub has_turn: bool,
    /// It had been lost: SUCCESS is told again even if nothing changed.
    pub lost: bool,
    /// In `State::Refused` for silence: a change of the network may be all that was missing.
    pub unanswered: bool,
}

impl Mapping {
    /// A mapping that nobody was asked for yet.
    pub fn new(wish: Suggestion) -> Mapping {
        Mapping {
            holders: Map::new(),
            wish,
            state: State::Waiting,
            asked: PerProtocol::default(),
            entries: PerProtocol::default(),
            excluded_until: PerProtocol::default(),
            last: None,
            confirm: false,
            unconfirmed: false,
            has_turn: false,
            lost: false,
            unanswered: false,
        }
    }

    /// What to suggest to the gateway: what it gave before, else the wish. (Without a wish the drivers
    /// suggest the internal port.)
    pub fn suggestion(&self) -> Suggestion {
        match self.last {
            Some(last) => Suggestion { address: Some(last.address), port: Some(last.port) },
            None => self.wish,
        }
    }

    /// Whether `protocol` has refused this mapping, and that still holds.
    pub fn is_excluded(&self, now: Time, protocol: Protocol) -> bool {
        self.excluded_until.get(protocol).is_some_and(|&until| now < until)
    }

    /// Notes that `protocol` is being asked.
    pub fn note_asked(&mut self, protocol: Protocol) {
        self.asked.set(protocol, true);
        self.entries.set(protocol, true);
    }

    /// The protocol that made it, if it is made.
    pub fn mapped_by(&self) -> Option<Protocol> {
        match self.state {
            State::Mapped { protocol, .. } => Some(protocol),
            _ => None,
        }
    }
}
