//! The status of a mapping, for the Rust API. The C API does not use it.

use super::driver::Key;
use super::io::{Event, MappingId, Protocol};
use super::ladder::NextStep;
use super::ledger::DeletionState;
use super::mapping::MappingState;
use super::reason::Reason;
use super::{Engine, Timer};
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// What was counted of a mapping, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests to make or renew it, without their repetitions.
    pub requests: u32,
    /// Renewals that were granted.
    pub renewals: u32,
    /// How often it was made and lost.
    pub losses: u32,
    /// Restarts of the gateway that were seen (of all mappings only).
    pub restarts: u32,
    /// From the last granted request to its answer, with its repetitions.
    pub round_trip: Option<Duration>,
    asked_at: Option<Time>,
}

impl Counters {
    pub fn note_asked(&mut self, now: Time) {
        self.requests += 1;
        self.asked_at = Some(now);
    }

    pub fn note_granted(&mut self, now: Time, is_renewal: bool) {
        self.renewals += u32::from(is_renewal);
        self.round_trip = self.asked_at.take().map(|at| now.since(at)).or(self.round_trip);
    }

    /// Adds those of other mappings, or of another engine.
    pub fn add(&mut self, other: Counters) {
        self.requests += other.requests;
        self.renewals += other.renewals;
        self.losses += other.losses;
        self.restarts += other.restarts;
        self.round_trip = other.round_trip.or(self.round_trip);
    }
}

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
    /// When what has failed is tried again; `None`: it is being tried, or no time is set.
    pub retry_at: Option<Time>,
    /// What was counted.
    pub counters: Counters,
}

impl Engine {
    /// The status of a mapping of the program; `None`: it is unknown, or being destroyed.
    pub fn mapping_status(&self, now: Time, id: MappingId) -> Option<MappingStatus> {
        let key = *self.mappings.ids.get(&id)?;
        let mapping = self.mappings.by_key.get(&key)?;
        let mut status = MappingStatus { counters: mapping.counters, ..MappingStatus::default() };
        if let MappingState::Held(hold) = &mapping.state {
            status.expires_at = hold.ends_at;
            let next_at = self.timers.get(Timer::Mapping(key));
            status.renew_at = next_at.filter(|&at| hold.expires_at().is_some_and(|end| at < end));
        }
        // FAILURE stays until the mapping is granted, also during retries.
        if mapping.ids.get(&id) == Some(&Some(Event::Failure)) {
            status.reasons = Some(self.reasons(now, key));
            if let NextStep::NoneLeft(at) = mapping.ladder.clone().next(now, &self.rungs(now, key), None) {
                status.retry_at = at;
            }
        }
        Some(status)
    }

    pub fn is_routed(&self) -> bool {
        self.network.route.is_some()
    }

    /// Whether the deletion of a destroyed mapping is open or was not confirmed.
    pub fn is_deletion_unconfirmed(&self, key: Key) -> bool {
        let is_open = |deletion| matches!(deletion, DeletionState::Open | DeletionState::Failed);
        self.cx.ledger.of(key).any(|entry| is_open(entry.deletion))
    }

    /// The gateway's address; `None`: there is none, or it is not known yet.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.network.gateway()
    }
}
