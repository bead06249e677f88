//! How a mapping stands, for those who want to look: the Rust API does, the C API does not.

use super::driver::Key;
use super::io::{Event, MappingId, Protocol};
use super::ledger::DeletionState;
use super::mapping::MappingState;
use super::reason::Reason;
use super::{Engine, Timer};
use crate::time::Time;
use plum_wire::Transport;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// What the engine means to do about a mapping, and what is in its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingStatus {
    /// When the next renewal goes out; `None`: none is to come, since it is not made, permanent or direct, or its
    /// renewals are all sent and none was answered.
    pub renew_at: Option<Time>,
    /// When the gateway forgets it unless it is renewed; `None`: not made, permanent or direct.
    pub expires_at: Option<Time>,
    /// Why it is not made, the best protocol first; `None`: it is, or nothing is decided yet.
    pub reasons: Option<Vec<(Protocol, Reason)>>,
}

impl Engine {
    /// How a mapping of the program stands now; `None`: it is unknown, or being destroyed.
    pub fn mapping_status(&self, now: Time, id: MappingId) -> Option<MappingStatus> {
        let key = *self.mappings.ids.get(&id)?;
        let mapping = self.mappings.by_key.get(&key)?;
        let mut status = MappingStatus::default();
        if let MappingState::Held(hold) = &mapping.state {
            status.expires_at = hold.expires_at();
            let next_at = self.timers.get(Timer::Mapping(key));
            status.renew_at = next_at.filter(|&at| hold.expires_at().is_some_and(|end| at < end));
        }
        // It stands until the mapping is made, also while that is tried again.
        if mapping.ids.get(&id) == Some(&Some(Event::Failure)) {
            status.reasons = Some(self.reasons(now, key));
        }
        Some(status)
    }

    /// Whether there is a route.
    pub fn is_routed(&self) -> bool {
        self.network.route.is_some()
    }

    /// Whether the gateway has not confirmed the removal of a mapping that was destroyed, or not yet.
    pub fn is_deletion_unconfirmed(&self, transport: Transport, internal_port: NonZeroU16) -> bool {
        let key = Key { transport, internal_port };
        let is_open = |deletion| matches!(deletion, DeletionState::Open | DeletionState::Failed);
        self.cx.ledger.of(key).any(|entry| is_open(entry.deletion))
    }

    /// The gateway's address; `None`: there is none, or it is not known yet.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.network.gateway()
    }
}
