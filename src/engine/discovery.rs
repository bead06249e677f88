//! The race of the protocols: all are asked at the same moment, then the best that answers is taken.

#![forbid(unsafe_code)]

use super::driver::Status;
use super::io::Protocol;
use super::mapping::{ASKING, PerProtocol};
use crate::time::Time;
use std::time::Duration;

/// How long a better protocol's silence holds up a lesser one that has answered.
pub const GRACE: Duration = Duration::from_millis(250);

/// When silence of all is taken for an answer: the last retransmission, after 250, 500 and 1000 ms, has then
/// had 2 s (RFC 6886 §3.1 doubles its waits likewise).
pub const SILENCE: Duration = Duration::from_millis(3750);

/// A race that is being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    /// When it began.
    pub started_at: Time,
    /// When PCP and NAT-PMP, if silent, let others pass.
    pub grace_ends_at: Time,
    /// When it ends without a winner, unless a protocol is still at work.
    pub ends_at: Time,
    /// When it ends whatever happens.
    pub ends_at_last: Time,
}

impl Race {
    /// A race from `now`.
    pub fn new(now: Time, discover_timeout: Duration) -> Race {
        Race {
            started_at: now,
            grace_ends_at: now + GRACE.min(discover_timeout),
            ends_at: now + SILENCE.min(discover_timeout),
            ends_at_last: now + discover_timeout,
        }
    }
}

/// What a mapping that waits should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Ask this protocol: it is up.
    Use(Protocol),
    /// The race is open.
    Wait,
    /// Somebody could still answer, but nobody is being asked: start a race.
    Race,
    /// Nobody is left.
    Nobody,
}

/// How the protocols stand, as far as a choice needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Field {
    /// Those that may be used for this mapping at this gateway.
    pub candidates: PerProtocol<bool>,
    /// Their status; `None` counts as out.
    pub status: PerProtocol<Option<Status>>,
    /// Those that stayed silent for a whole race since the last recheck.
    pub exhausted: PerProtocol<bool>,
}

/// Chooses the protocol of one mapping.
pub fn choose(field: &Field, race: Option<&Race>, now: Time) -> Choice {
    let mut open = false;
    for protocol in ASKING.into_iter().filter(|&protocol| field.candidates.has(protocol)) {
        match field.status.get(protocol).copied().flatten() {
            Some(Status::Up) if open => return Choice::Wait,
            Some(Status::Up) => return Choice::Use(protocol),
            Some(Status::Out) | None => {}
            Some(Status::Unknown | Status::Working) => {
                // PCP and NAT-PMP answer at once or, for all that a lesser protocol should wait, not at all.
                open |= race.is_some_and(|race| protocol == Protocol::UpnpIgd || now < race.grace_ends_at);
            }
        }
    }
    let anyone_left = ASKING.into_iter().any(|protocol| {
        field.candidates.has(protocol)
            && matches!(field.status.get(protocol), Some(Some(Status::Unknown | Status::Working)))
            && (race.is_some() || !field.exhausted.has(protocol))
    });
    match (anyone_left, race) {
        (true, Some(_)) => Choice::Wait,
        (true, None) => Choice::Race,
        (false, _) => Choice::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol::{NatPmp, Pcp, UpnpIgd};
    use super::Status::{Out, Unknown, Up, Working};
    use super::*;

    fn choice_at(millis: u64, pcp: Status, natpmp: Status, upnp: Status) -> Choice {
        let mut field = Field::default();
        for (protocol, status) in [(Pcp, pcp), (NatPmp, natpmp), (UpnpIgd, upnp)] {
            field.candidates.set(protocol, true);
            field.status.set(protocol, Some(status));
        }
        let race = Race::new(Time::ZERO, Duration::from_secs(10));
        choose(&field, Some(&race), Time::from_millis(millis))
    }

    #[test]
    fn the_better_protocol_has_a_grace_of_250_ms_then_the_best_that_answered_is_taken() {
        assert_eq!(choice_at(20, Up, Unknown, Unknown), Choice::Use(Pcp));
        assert_eq!(choice_at(20, Unknown, Up, Up), Choice::Wait);
        assert_eq!(choice_at(250, Unknown, Up, Up), Choice::Use(NatPmp));
        assert_eq!(choice_at(20, Out, Up, Up), Choice::Use(NatPmp));
        assert_eq!(choice_at(249, Unknown, Unknown, Up), Choice::Wait);
        assert_eq!(choice_at(250, Unknown, Unknown, Up), Choice::Use(UpnpIgd));
        assert_eq!(choice_at(40, Out, Out, Up), Choice::Use(UpnpIgd));
        assert_eq!(choice_at(3000, Unknown, Unknown, Working), Choice::Wait);
        assert_eq!(choice_at(40, Out, Out, Out), Choice::Nobody);
    }

    #[test]
    fn without_a_race_the_silent_are_asked_again_but_not_the_exhausted() {
        let mut field = Field::default();
        field.candidates.set(UpnpIgd, true);
        field.status.set(UpnpIgd, Some(Unknown));
        assert_eq!(choose(&field, None, Time::ZERO), Choice::Race);
        field.exhausted.set(UpnpIgd, true);
        assert_eq!(choose(&field, None, Time::ZERO), Choice::Nobody);
    }
}
