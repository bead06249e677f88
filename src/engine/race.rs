//! The race of the protocols in the engine: who is asked when it begins, who joins it, and what its end means.

#![forbid(unsafe_code)]

use super::discovery::Race;
use super::driver::{Key, Status};
use super::io::{Protocol, Socket};
use super::mapping::{ASKING, State};
use super::schedule::PACKETS_A_RACE;
use super::{Engine, Timer, cx};
use crate::log::log;
use crate::time::Time;
use std::time::Duration;

/// A UPnP device that was lost is searched for at once, and again after these pauses; from then on with each recheck.
const PAUSES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20)];

impl Engine {
    /// Begins a race: the NAT-PMP public-address request and the SSDP searches now, the PCP MAP requests of the
    /// waiting mappings as they are advanced.
    pub(super) fn start_race(&mut self, now: Time) {
        let race = Race::new(now, self.config.discover_timeout);
        self.race = Some(race);
        self.raced = true;
        self.pace.take(now, PACKETS_A_RACE);
        self.timers.set(Timer::Grace, race.grace_ends_at);
        self.timers.set(Timer::RaceEnd, race.ends_at);
        if self.is_allowed(Protocol::Pcp) {
            if self.suspect.has(Protocol::Pcp) {
                self.pcp.doubt();
            }
            self.pcp.probe(cx!(self, now));
        }
        if self.is_allowed(Protocol::NatPmp) {
            if self.suspect.has(Protocol::NatPmp) {
                self.natpmp.doubt();
            }
            self.natpmp.probe(cx!(self, now));
        }
        if self.is_allowed(Protocol::UpnpIgd) {
            self.upnp.search(cx!(self, now));
        }
        for protocol in [Protocol::Pcp, Protocol::NatPmp] {
            if !self.is_up_by_own_account(protocol) {
                self.call_into_race(protocol);
            }
        }
        self.unsettled = true;
    }

    /// A UPnP device that mappings relied on was lost: a race begins, and others after it until the mappings are made.
    pub(super) fn start_rediscovery(&mut self, now: Time) {
        if self.race.is_none() && !self.waiting.is_empty() {
            self.start_race(now);
        }
        if self.timers.get(Timer::Rediscovery).is_none() {
            self.rediscoveries = 0;
            self.timers.set(Timer::Rediscovery, now + PAUSES[0]);
        }
    }

    /// A device that was lost may be back by now.
    pub(super) fn continue_rediscovery(&mut self, now: Time) {
        if self.waiting.is_empty() {
            return;
        }
        self.handle_network_changed(now);
        self.rediscoveries += 1;
        if let Some(&pause) = PAUSES.get(self.rediscoveries) {
            self.timers.set(Timer::Rediscovery, now + pause);
        }
    }

    /// A protocol that was asked for mappings has to be found again: they wait for whoever wins.
    pub(super) fn call_into_race(&mut self, protocol: Protocol) {
        for key in self.keys_asked_by(protocol) {
            if let Some(mapping) = self.mappings.get_mut(&key)
                && mapping.state == (State::Asked { protocol })
            {
                mapping.state = State::Waiting;
                self.waiting.insert(key);
            }
        }
    }

    /// A socket that could not be opened before is open now: its protocol joins the race that was begun without it.
    pub(super) fn join_race(&mut self, now: Time, socket: Socket) {
        match socket {
            Socket::Pcp if self.pcp.status() == Status::Out => self.pcp.probe(cx!(self, now)),
            Socket::NatPmp if self.natpmp.status() == Status::Out => self.natpmp.probe(cx!(self, now)),
            Socket::Ssdp if self.upnp.status() == Status::Out => self.upnp.search(cx!(self, now)),
            _ => return,
        }
        self.unsettled = true;
    }

    /// While the race is open, the mapping's own PCP request is the probe.
    pub(super) fn probe_with(&mut self, now: Time, key: Key) {
        if !self.is_allowed(Protocol::Pcp) || self.pcp.status() == Status::Out {
            return;
        }
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        if !mapping.is_excluded(now, Protocol::Pcp) && !mapping.asked.has(Protocol::Pcp) {
            mapping.note_asked(Protocol::Pcp);
            let suggestion = mapping.suggestion();
            self.pcp.map(cx!(self, now), key, suggestion);
        }
    }

    /// All mappings have their protocol: what was only discovery falls silent.
    pub(super) fn end_race_if_won(&mut self, now: Time) {
        if self.race.is_some() && self.waiting.is_empty() {
            self.stop_race(now);
        }
    }

    /// Whether any protocol that may be used has this status.
    pub(super) fn is_any(&self, status: Status) -> bool {
        ASKING.into_iter().any(|protocol| self.is_allowed(protocol) && self.status(protocol) == status)
    }

    /// Whether the best protocol that may be used is not up.
    pub(super) fn is_the_best_away(&self) -> bool {
        let best = ASKING.into_iter().find(|&protocol| self.is_allowed(protocol));
        best.is_some_and(|protocol| self.status(protocol) != Status::Up)
    }

    /// Whether an answer may still come to what the race has asked.
    pub(super) fn is_race_open(&self, now: Time) -> bool {
        self.race.is_some_and(|race| {
            self.is_any(Status::Working) || self.is_any(Status::Unknown) && now < race.ends_at
        })
    }

    /// The race's time is up: what was silent counts as not there, until the next recheck.
    pub(super) fn end_race_without_winner(&mut self, now: Time) {
        let Some(race) = self.race else { return };
        if self.is_any(Status::Working) && now < race.ends_at_last {
            self.timers.set(Timer::RaceEnd, race.ends_at_last);
            return;
        }
        log!(Debug, "discovery ends without an answer");
        for protocol in ASKING {
            if matches!(self.status(protocol), Status::Unknown | Status::Working) {
                self.exhausted.set(protocol, true);
            }
        }
        if self.natpmp_promised && self.natpmp.status() != Status::Up {
            self.natpmp_promised = false;
            self.exhausted.set(Protocol::NatPmp, true);
        }
        // The drivers' own schedules have ended; what is still answered is followed up.
        self.forget_race();
        self.unsettled = true;
    }

    /// Ends the race; the losers fall silent.
    pub(super) fn stop_race(&mut self, now: Time) {
        self.forget_race();
        for protocol in self.suspect.marked() {
            self.exhausted.set(protocol, true);
        }
        // It can be over because nobody wants anything any more: a promise that was not kept by then is none.
        self.natpmp_promised &= self.natpmp.status() == Status::Up;
        self.natpmp.rest(cx!(self, now));
        self.upnp.rest(cx!(self, now));
    }

    pub(super) fn forget_race(&mut self) {
        self.race = None;
        self.timers.cancel(Timer::Grace);
        self.timers.cancel(Timer::RaceEnd);
    }
}
