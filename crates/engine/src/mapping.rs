//! A gateway mapping: one for each key, shared by all mappings of the program with that key.

use super::driver::{Rung, Slot};
use super::io::{Event, MappingId, Protocol, Suggestion};
use super::ladder::Ladder;
use super::reason::Reason;
use super::status::Counters;
use crate::ordered::{Map, Pieces};
use crate::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// Where a mapping is reachable from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External {
    /// External address.
    pub address: IpAddr,
    /// External port.
    pub port: NonZeroU16,
}

/// The state of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingState {
    /// No rung has granted it: requests are open, or are about to be made.
    Seeking {
        /// It waits for its turn in the pace: no rung is asked before this time.
        not_before: Option<Time>,
        /// When FAILURE is reported although requests are open; `None`: no gateway that answers has been asked yet.
        deadline: Option<Time>,
    },
    /// A rung has granted it.
    Held(Hold),
    /// The local address is public: no gateway is asked, or its firewall for IPv6 is off.
    Direct(External),
}

impl MappingState {
    /// No rung has been asked yet.
    pub const SEEKING: MappingState = MappingState::Seeking { not_before: None, deadline: None };
}

/// A granted mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its entry in the ledger.
    pub slot: Slot,
    /// Where it is reachable.
    pub external: External,
    /// When it was last granted or renewed.
    pub granted_at: Time,
    /// The lifetime, within our bounds; `None`: permanent.
    pub lifetime: Option<Duration>,
    /// When it ends by the gateway's own word, whatever our bounds; `None`: permanent.
    pub ends_at: Option<Time>,
    /// The renewal has its turn in the pace: the timer of the mapping is the time of sending.
    pub has_turn: bool,
    /// Why the last renewal failed.
    pub trouble: Option<Reason>,
}

impl Hold {
    /// When the gateway deletes the entry.
    pub fn expires_at(&self) -> Option<Time> {
        self.lifetime.map(|lifetime| self.granted_at + lifetime)
    }

    /// Whether any other rung may take it over, because no renewal was granted in 7/8 of its lifetime.
    pub fn is_giving_way(&self, now: Time) -> bool {
        self.lifetime.is_some_and(|lifetime| now >= self.granted_at + lifetime - lifetime / 8)
    }
}

/// A gateway mapping and the program's mappings that share it.
#[derive(Debug)]
pub struct GatewayMapping {
    /// The program's mappings that share it, with the last event of each.
    pub ids: Map<MappingId, Option<Event>>,
    /// The external address and port that the first of them suggests.
    pub wish: Suggestion,
    /// Its state.
    pub state: MappingState,
    /// The rungs that were asked, with the outcome of each.
    pub ladder: Ladder,
    /// Its last external address and port: suggested when it is made again.
    pub last: Option<External>,
    /// A deletion sent earlier may still remove it: soon after the grant it is requested again.
    pub confirm: bool,
    pub counters: Counters,
}

impl GatewayMapping {
    /// A mapping for which no rung has been asked yet.
    pub fn new(wish: Suggestion) -> GatewayMapping {
        GatewayMapping {
            ids: Map::new(),
            wish,
            state: MappingState::SEEKING,
            ladder: Ladder::default(),
            last: None,
            confirm: false,
            counters: Counters::default(),
        }
    }

    /// What to suggest to the gateway: what it assigned before, else what the program suggests. (Without either, the
    /// drivers suggest the internal port.)
    pub fn suggestion(&self) -> Suggestion {
        match self.last {
            Some(last) if self.wish.accepts(last.port) => {
                Suggestion { address: Some(last.address), port: Some(last.port), ..self.wish }
            }
            _ => self.wish,
        }
    }

    /// Whether the program waits for it: it is not granted, and some id has not been told FAILURE.
    pub fn is_waited_for(&self) -> bool {
        self.hold().is_none() && self.ids.values().any(|told| *told != Some(Event::Failure))
    }

    /// Whether it needs no gateway.
    pub fn is_direct(&self) -> bool {
        matches!(self.state, MappingState::Direct(_))
    }

    /// Its grant, if there is one.
    pub fn hold(&self) -> Option<&Hold> {
        match &self.state {
            MappingState::Held(hold) => Some(hold),
            MappingState::Seeking { .. } | MappingState::Direct(_) => None,
        }
    }

    pub fn hold_mut(&mut self) -> Option<&mut Hold> {
        match &mut self.state {
            MappingState::Held(hold) => Some(hold),
            MappingState::Seeking { .. } | MappingState::Direct(_) => None,
        }
    }

    /// The rung that has granted it.
    pub fn held_by(&self) -> Option<Rung> {
        self.hold().map(|hold| hold.slot.rung)
    }

    /// The protocol that made it, and its external address and port.
    pub fn external(&self) -> Option<(Protocol, External)> {
        match &self.state {
            MappingState::Held(hold) => Some((hold.slot.rung.protocol(), hold.external)),
            MappingState::Direct(external) => Some((Protocol::Direct, *external)),
            MappingState::Seeking { .. } => None,
        }
    }

    /// Records an event for all ids; returns those for which it is a change.
    pub fn news(&mut self, event: Event) -> Pieces<MappingId> {
        let mut news = Pieces::new();
        self.ids.for_each_mut(|id, told| {
            let is_news = match event {
                // Ids that were told FAILURE keep it until the mapping is granted.
                Event::Pending => matches!(told, Some(Event::Success { .. })),
                _ => *told != Some(event),
            };
            if is_news {
                *told = Some(event);
                news.push(id);
            }
        });
        news
    }
}
