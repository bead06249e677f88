//! How a mapping stands, for whoever wants to look: the Rust API does, the C API does not.

#![forbid(unsafe_code)]

use super::driver::Key;
use super::io::{MappingId, Protocol};
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
    /// Why it is not made; `None`: it is, or it is being made.
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
        match mapping.state {
            State::Mapped { lease: Some(lease), .. } => {
                standing.expires_at = Some(lease.expires_at());
                if lease.next != LeaseStep::Expire {
                    standing.renew_at = self.timers.get(Timer::Mapping(key));
                }
            }
            State::Mapped { lease: None, .. } | State::Asked { .. } => {}
            State::Refused => standing.hindrance = Some(Hindrance::Refused),
            State::Waiting if self.network.is_known() && !self.network.is_up() => {
                standing.hindrance = Some(Hindrance::NoRoute);
            }
            State::Waiting
                if self.race.is_none() && self.network.is_known() && self.waiting.contains(&key) =>
            {
                let refused = |protocol: Protocol| mapping.is_excluded(now, protocol);
                let refused = ASKING.into_iter().any(refused);
                standing.hindrance = Some(if refused { Hindrance::Refused } else { Hindrance::Unanswered });
            }
            // It has its place in the pace, or the race is on.
            State::Waiting => {}
        }
        Some(standing)
    }

    /// Whether the deletion of a destroyed mapping is still to be answered by the gateway.
    pub fn is_ending(&self, transport: Transport, internal_port: NonZeroU16) -> bool {
        self.endings.contains_key(&Key { transport, internal_port })
    }

    /// Whom the engine asks; `None`: nobody yet, or there is no gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.network.gateway()
    }
}
