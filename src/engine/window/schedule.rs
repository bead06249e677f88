//! How long each kind of request is waited for, and when it is given up.

#![forbid(unsafe_code)]

use std::time::Duration;

/// What sort of request it is: how long it is worth trying, and what goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About the gateway itself: all others may depend on it.
    Query,
    /// About the gateway itself, but not every gateway answers it: its loss says nothing.
    Check,
    /// Makes or renews a mapping.
    Map,
    /// Deletes one.
    Deletion,
}

/// For a gateway that answers: how long nothing at all must come for a request to count as lost.
const WAITS: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// The first of them.
pub(super) const FIRST_WAIT: Duration = WAITS[0];

/// While the gateway has not answered, one request alone is sent again after these.
const DISCOVERY_WAITS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];

/// How long a request is tried on the same schedule at a gateway that is known: its last sending has 2 s.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_millis(3750);

/// Deletions are sent 0, 200 and 500 ms after the start and then left alone.
const DELETION_WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(300)];

/// A deletion is given up when nothing at all has come for this long.
pub(super) const DELETION_TIMEOUT: Duration = Duration::from_millis(800);

/// A deletion is given up after this, whatever comes.
pub(super) const DELETION_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait after a sending, `step` losses after the first; `None`: as long as it takes.
pub(super) fn wait(kind: Kind, step: usize, known: bool) -> Option<Duration> {
    match kind {
        Kind::Deletion => DELETION_WAITS.get(step).copied(),
        Kind::Check => DISCOVERY_WAITS.get(step).copied(),
        Kind::Query | Kind::Map if known => WAITS.get(step).or(WAITS.last()).copied(),
        Kind::Query | Kind::Map => None,
    }
}

/// How long to wait until the first request of discovery is sent again, when it was `sent_again` times.
pub(super) fn discovery_wait(sent_again: usize) -> Option<Duration> {
    DISCOVERY_WAITS.get(sent_again).copied()
}
