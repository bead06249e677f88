//! How a mapping stands, for whoever wants to look: the Rust API does, the C API does not.

#![forbid(unsafe_code)]

use super::driver::{Key, Status};
use super::io::{Event, MappingId, Protocol};
use super::mapping::{ASKING, LeaseStep, State};
use super::{Engine, Timer};
use crate::time::Time;
use crate::wire::Transport;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// What the engine means to do about a mapping, and what is in its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When the next renewal goes out; `None`: none is to come, since it is not made, permanent or direct, or its
    /// renewals are all sent and none was answered.
    pub renew_at: Option<Time>,
    /// When the gateway forgets it unless it is renewed; `None`: not made, permanent or direct.
    pub expires_at: Option<Time>,
    /// Why it is not made; `None`: it is, or nothing is decided yet.
    pub hindrance: Option<Hindrance>,
}

/// Why a mapping cannot be made for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// There is no route.
    NoRoute,
    /// No protocol that may be used has been answered.
    Unanswered,
    /// The gateway has refused it, or left it unanswered though it answered others.
    Refused,
}

impl Engine {
    /// How a mapping of the program stands now; `None`: it is unknown, or being destroyed.
    pub fn standing(&self, now: Time, id: MappingId) -> Option<Standing> {
        let key = *self.ids.get(&id)?;
        let mapping = self.mappings.get(&key)?;
        let mut standing = Standing::default();
        if let State::Mapped { lease: Some(lease), .. } = mapping.state {
            standing.expires_at = Some(lease.expires_at());
            if lease.next != LeaseStep::Expire {
                standing.renew_at = self.timers.get(Timer::Mapping(key));
            }
        }
        // It stands until the mapping is made, also while that is tried again.
        if mapping.holders.get(&id) == Some(&Some(Event::Failure)) {
            let is_refused = ASKING.into_iter().any(|protocol| mapping.is_excluded(now, protocol));
            standing.hindrance = Some(match mapping.state {
                State::Waiting if !self.network.is_up() => Hindrance::NoRoute,
                State::Waiting if !is_refused => Hindrance::Unanswered,
                _ => Hindrance::Refused,
            });
        }
        Some(standing)
    }

    /// Whether the gateway owes an answer to the deletion of a mapping (or its driver has given up waiting for one, within the
    /// last 10 s).
    pub fn is_deletion_open(&self, now: Time, transport: Transport, internal_port: NonZeroU16) -> bool {
        let key = Key { transport, internal_port };
        self.endings.contains_key(&key)
            || ASKING.into_iter().any(|protocol| self.owes_answer(now, protocol, key))
    }

    /// Whether the gateway owes an answer to a deletion by this protocol.
    pub(super) fn owes_answer(&self, now: Time, protocol: Protocol, key: Key) -> bool {
        // One that does not speak the protocol has nothing to say to what was sent on the chance.
        let is_up = self.own_status(protocol) == Status::Up;
        match protocol {
            Protocol::Pcp => is_up && self.pcp.is_deletion_open(now, key),
            Protocol::NatPmp => is_up && self.natpmp.is_deletion_open(now, key),
            Protocol::UpnpIgd => self.upnp.is_deletion_open(key),
            Protocol::Direct => false,
        }
    }

    /// Whom the engine asks; `None`: nobody yet, or there is no gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.network.gateway()
    }
}
