//! The status of a mapping, for the Rust API. The C API does not use it.

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

/// The next steps for a mapping, and the reasons of its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingStatus {
    /// When the next renewal is sent; `None`: the mapping is not granted, permanent or direct, or all its renewals were
    /// sent in vain.
    pub renew_at: Option<Time>,
    /// When the mapping expires unless it is renewed; `None`: not granted, permanent or direct.
    pub expires_at: Option<Time>,
    /// The reason of each protocol's failure, the best first; `None`: it is granted, or not decided yet.
    pub reasons: Option<Vec<(Protocol, Reason)>>,
}

impl Engine {
    /// The status of a mapping of the program; `None`: it is unknown, or being destroyed.
    pub fn mapping_status(&self, now: Time, id: MappingId) -> Option<MappingStatus> {
        let key = *self.mappings.ids.get(&id)?;
        let mapping = self.mappings.by_key.get(&key)?;
        let mut status = MappingStatus::default();
        if let MappingState::Held(hold) = &mapping.state {
            status.expires_at = hold.expires_at();
            let next_at = self.timers.get(Timer::Mapping(key));
            status.renew_at = next_at.filter(|&at| hold.expires_at().is_some_and(|end| at < end));
        }
        // FAILURE stays until the mapping is granted, also during retries.
        if mapping.ids.get(&id) == Some(&Some(Event::Failure)) {
            status.reasons = Some(self.reasons(now, key));
        }
        Some(status)
    }

    pub fn is_routed(&self) -> bool {
        self.network.route.is_some()
    }

    /// Whether the deletion of a destroyed mapping is open or was not confirmed.
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
