//! A gateway mapping: one for each key, shared by all mappings of the program with that key.

use super::driver::{Rung, Slot};
use super::io::{Event, MappingId, Protocol, Suggestion};
use super::ladder::Ladder;
use super::reason::Reason;
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

/// How a mapping stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingState {
    /// It is being asked for, or is going to be.
    Seeking {
        /// It has a place in the pace: nobody is asked before this time.
        not_before: Option<Time>,
        /// When FAILURE is told though requests are open; `None`: no gateway that has answered was asked yet.
        deadline: Option<Time>,
    },
    /// A rung has made it.
    Held(Hold),
    /// The local address is public: nobody is asked.
    Direct(External),
}

impl MappingState {
    /// Nobody was asked yet.
    pub const SEEKING: MappingState = MappingState::Seeking { not_before: None, deadline: None };
}

/// A mapping that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its entry.
    pub slot: Slot,
    /// Where it is reachable.
    pub external: External,
    /// When it was granted last.
    pub granted_at: Time,
    /// For how long, as counted; `None`: for ever.
    pub lifetime: Option<Duration>,
    /// Its renewal has its place in the pace: the next time of the mapping's timer is that of sending.
    pub has_turn: bool,
    /// Why the last renewal failed.
    pub trouble: Option<Reason>,
}

impl Hold {
    /// When the gateway forgets it.
    pub fn expires_at(&self) -> Option<Time> {
        self.lifetime.map(|lifetime| self.granted_at + lifetime)
    }

    /// Whether its renewals have failed for so long that any other rung may take it over: from 7/8 of its lifetime.
    pub fn is_giving_way(&self, now: Time) -> bool {
        self.lifetime.is_some_and(|lifetime| now >= self.granted_at + lifetime - lifetime / 8)
    }
}

/// A gateway mapping and the program's mappings that share it.
#[derive(Debug)]
pub struct GatewayMapping {
    /// The program's mappings that share it, and what each was told last (`None`: nothing).
    pub ids: Map<MappingId, Option<Event>>,
    /// The wish of the first of them.
    pub wish: Suggestion,
    /// How it stands.
    pub state: MappingState,
    /// The rungs that were asked for it.
    pub ladder: Ladder,
    /// Where it was reachable last: suggested when it is made anew.
    pub last: Option<External>,
    /// A deletion that was sent before may still hit it: once made, it is asked for again, soon.
    pub confirm: bool,
}

impl GatewayMapping {
    /// A mapping that nobody was asked for yet.
    pub fn new(wish: Suggestion) -> GatewayMapping {
        GatewayMapping {
            ids: Map::new(),
            wish,
            state: MappingState::SEEKING,
            ladder: Ladder::default(),
            last: None,
            confirm: false,
        }
    }

    /// What to suggest to the gateway: what it gave before, else the wish. (Without a wish the drivers suggest the internal
    /// port.)
    pub fn suggestion(&self) -> Suggestion {
        match self.last {
            Some(last) => Suggestion { address: Some(last.address), port: Some(last.port) },
            None => self.wish,
        }
    }

    /// Whether the program waits for it: it is neither made nor told FAILURE.
    pub fn is_waited_for(&self) -> bool {
        self.hold().is_none() && self.ids.values().any(|told| *told != Some(Event::Failure))
    }

    /// Its grant, if a gateway has made it.
    pub fn hold(&self) -> Option<&Hold> {
        match &self.state {
            MappingState::Held(hold) => Some(hold),
            MappingState::Seeking { .. } | MappingState::Direct(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn hold_mut(&mut self) -> Option<&mut Hold> {
        match &mut self.state {
            MappingState::Held(hold) => Some(hold),
            MappingState::Seeking { .. } | MappingState::Direct(_) => None,
        }
    }

    /// The rung that has made it.
    pub fn held_by(&self) -> Option<Rung> {
        self.hold().map(|hold| hold.slot.rung)
    }

    /// Who made it, and where it is reachable.
    pub fn external(&self) -> Option<(Protocol, External)> {
        match &self.state {
            MappingState::Held(hold) => Some((hold.slot.rung.protocol(), hold.external)),
            MappingState::Direct(external) => Some((Protocol::Direct, *external)),
            MappingState::Seeking { .. } => None,
        }
    }

    /// Notes an event for all ids; gives back those for which it is news.
    pub fn news(&mut self, event: Event) -> Pieces<MappingId> {
        let mut news = Pieces::new();
        self.ids.for_each_mut(|id, told| {
            let is_news = match event {
                // Those that were told FAILURE stay so until it is made.
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
