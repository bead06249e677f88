//! What is counted.

use std::time::Duration;

/// What was counted of a mapping ([`Mapping::counters`](super::Mapping::counters)) or of all mappings of a session
/// ([`Session::counters`](super::Session::counters)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Counters {
    /// Requests to make or renew a mapping; repetitions of one that was not answered are not counted.
    pub requests: u32,
    /// Renewals that the gateway has granted.
    pub renewals: u32,
    /// How often what was made was lost: by a restart of the gateway, another network, an expiry.
    pub losses: u32,
    /// How often the gateway has restarted. (For a session only.)
    pub restarts: u32,
    /// How long the last request that was granted waited for its answer: in turn, repeated and, by UPnP-IGD, in several steps. `None`: none
    /// was granted yet.
    pub round_trip: Option<Duration>,
}

impl From<plum_engine::status::Counters> for Counters {
    fn from(counted: plum_engine::status::Counters) -> Counters {
        let plum_engine::status::Counters { requests, renewals, losses, restarts, round_trip, .. } = counted;
        Counters { requests, renewals, losses, restarts, round_trip }
    }
}
