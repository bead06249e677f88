//! Moves mappings along their ladders: asks the next rung, waits for it, or fails.

use super::addresses::is_public;
use super::driver::{Key, RequestKind, Rung};
use super::io::{Cx, Event, MappingId, Output, Protocol};
use super::ladder::{NextStep, RungState};
use super::mapping::{External, MappingState};
use super::protocols::{GRACE, ProtocolState, SILENCE};
use super::reason::Reason;
use super::{Drivers, Engine, Timer, with_driver};
use crate::log::log;
use crate::time::Time;
use std::net::IpAddr;

impl Engine {
    /// Moves all seeking mappings along their ladders.
    pub(super) fn climb_all(&mut self, now: Time) {
        for key in self.mappings.seeking.iter().collect::<Vec<_>>() {
            self.climb(now, key);
        }
    }

    /// Asks the next rungs for one mapping, as many as may be asked now.
    pub(super) fn climb(&mut self, now: Time, key: Key) {
        if !self.network.known || self.cx.is_cleaning_up() {
            return;
        }
        if let Some(address) = self.network.direct {
            return self.map_directly(key, address);
        }
        if self.network.route.is_none() {
            return self.fail(now, key, None);
        }
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let mut has_turn = false;
        if let MappingState::Seeking { not_before, .. } = &mut mapping.state
            && let Some(at) = *not_before
        {
            if now < at {
                // A protocol with an open request may go out and return before the turn comes.
                self.present_rungs(now, key);
                return self.timers.set(Timer::Mapping(key), at);
            }
            // Its turn in the pace has come.
            (*not_before, has_turn) = (None, true);
        }
        if !Protocol::ASKING.into_iter().any(|protocol| works_in(&self.cx, protocol)) {
            self.probe_unasked(now);
        }
        loop {
            let rungs = self.present_rungs(now, key);
            let Some(mapping) = self.mappings.by_key.get(&key) else { return };
            let held_by = mapping.held_by();
            match mapping.ladder.next(now, &rungs, held_by) {
                NextStep::Ask(rung) => {
                    let goes_on = mapping.is_waited_for() || std::mem::take(&mut has_turn);
                    if !goes_on && !self.reserve_turn(now, key) {
                        return;
                    }
                    self.ask(now, key, rung);
                }
                NextStep::Probe => self.probe_unasked(now),
                NextStep::Wait(look_at) => return self.wait(now, key, look_at),
                NextStep::NoneLeft(_) if held_by.is_some() => {
                    self.mappings.seeking.remove(&key);
                    return self.delete_superfluous(now, key);
                }
                NextStep::NoneLeft(retry_at) => return self.fail(now, key, retry_at),
            }
        }
    }

    /// The state of each rung for one mapping. Open requests to rungs that are out or gone are left.
    fn present_rungs(&mut self, now: Time, key: Key) -> Vec<RungState> {
        let rungs = self.rungs(now, key);
        let mapping = self.mappings.by_key.get_mut(&key);
        for rung in mapping.map_or_else(Vec::new, |mapping| mapping.ladder.take_gone(&rungs)) {
            with_driver!(self, now, rung.protocol(), leave(key, rung));
        }
        rungs
    }

    /// Takes a turn in the pace for a mapping that the program does not wait for. Returns whether the turn is now.
    fn reserve_turn(&mut self, now: Time, key: Key) -> bool {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return false };
        if mapping.hold().is_some() && self.timers.get(Timer::Move).is_some() {
            return false;
        }
        let at = self.cx.pace.take(now, 1);
        match &mut mapping.state {
            MappingState::Seeking { not_before, .. } if at > now => {
                *not_before = Some(at);
                self.timers.set(Timer::Mapping(key), at);
                return false;
            }
            MappingState::Held(_) if at > now => self.timers.set(Timer::Move, at),
            _ => {}
        }
        true
    }

    /// Probes all allowed protocols that were not asked yet, at the same time.
    fn probe_unasked(&mut self, now: Time) {
        for protocol in Protocol::ASKING {
            if self.is_allowed(protocol)
                && self.cx.protocols.state(protocol) == ProtocolState::Unasked
                && passed_over_until(&self.cx, now, protocol).is_none()
            {
                self.probe(now, protocol);
            }
        }
    }

    fn probe(&mut self, now: Time, protocol: Protocol) {
        self.cx.protocols.note_asked(now, protocol);
        with_driver!(self, now, protocol, probe());
    }

    /// The state of each rung for one mapping, the best rung first.
    pub(super) fn rungs(&self, now: Time, key: Key) -> Vec<RungState> {
        let mapping = self.mappings.by_key.get(&key);
        let is_possible = |protocol| mapping.is_none_or(|mapping| mapping.wish.is_possible_by(protocol));
        let is_asked = |protocol| self.is_allowed(protocol) && is_possible(protocol);
        let mut rungs = self.drivers.rungs(&self.cx, now, is_asked);
        if let Some(hold) = mapping.and_then(|mapping| mapping.hold())
            && !hold.is_giving_way(now)
        {
            // A mapping that another device holds moves only to the gateway itself.
            let upnp = &self.drivers.upnp;
            let is_own = |rung| upnp.is_rung_on_gateway(rung);
            rungs.retain(|state| matches!(state, RungState::Open { rung, .. } if is_own(*rung)));
        }
        rungs
    }

    /// Whether a protocol may be used at this gateway at all.
    pub(super) fn is_allowed(&self, protocol: Protocol) -> bool {
        let has_server = self.network.gateway().is_some();
        self.network.direct.is_none()
            && self.cx.config.allowed.permits(protocol)
            && match protocol {
                Protocol::Pcp => has_server,
                Protocol::NatPmp => has_server && self.network.is_ipv4(),
                // Firewall control refuses all but global addresses: a connection from another is error 606.
                Protocol::UpnpIgd => match self.cx.config.source {
                    Some(source) => is_public(source.address.into()),
                    None => self.network.is_ipv4(),
                },
                Protocol::Direct => false,
            }
    }

    fn ask(&mut self, now: Time, key: Key, rung: Rung) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        log!(Debug, "{key}: asks {}", rung.protocol());
        mapping.ladder.note_asked(now, rung);
        mapping.counters.note_asked(now);
        let suggestion = mapping.suggestion();
        let request_kind = if mapping.is_waited_for() { RequestKind::Make } else { RequestKind::Retry };
        if self.cx.protocols.state(rung.protocol()) == ProtocolState::Unasked {
            self.probe(now, rung.protocol());
        }
        with_driver!(self, now, rung.protocol(), map(key, rung, suggestion, request_kind));
    }

    /// A rung may still answer: waits, and reports FAILURE at the deadline.
    fn wait(&mut self, now: Time, key: Key, look_at: Option<Time>) {
        let Some(mapping) = self.mappings.by_key.get(&key) else { return };
        let MappingState::Seeking { deadline, .. } = mapping.state else { return };
        if mapping.is_waited_for() && deadline.is_some_and(|deadline| deadline <= now) {
            self.tell_failure(now, key);
        }
        let at = [look_at, deadline.filter(|&deadline| deadline > now)].into_iter().flatten().min();
        self.timers.replace(Timer::Mapping(key), at);
    }

    /// No rung can grant the mapping for now: FAILURE is reported once, and the rungs are asked again at `retry_at`.
    pub(super) fn fail(&mut self, now: Time, key: Key, retry_at: Option<Time>) {
        if self.network.route.is_some() && self.try_other_router(now) {
            return;
        }
        self.timers.replace(Timer::Mapping(key), retry_at);
        self.tell_failure(now, key);
        if self.is_allowed(Protocol::UpnpIgd) {
            // A gateway that answers no search, or starts later, announces itself.
            self.listen_to_notifications();
        }
        // No request is open any more: entries that unclear requests may have left are deleted.
        self.delete_superfluous(now, key);
    }

    /// Reports FAILURE to the ids that do not have it yet.
    pub(super) fn tell_failure(&mut self, now: Time, key: Key) {
        let reasons = self.reasons(now, key);
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let news = mapping.news(Event::Failure);
        if !news.is_empty() {
            log!(Warn, "{key}: no gateway can map the port for now");
            for (protocol, reason) in reasons {
                log!(Warn, "{key}: {protocol}: {reason}");
            }
        }
        for id in news {
            self.tell(id, Event::Failure);
        }
    }

    /// Why each rung has failed.
    pub(super) fn reasons(&self, now: Time, key: Key) -> Vec<(Protocol, Reason)> {
        let rungs = self.rungs(now, key);
        self.mappings.by_key.get(&key).map_or_else(Vec::new, |mapping| mapping.ladder.reasons(&rungs))
    }

    /// The local address is public: the mapping needs no gateway.
    pub(super) fn map_directly(&mut self, key: Key, address: IpAddr) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        mapping.state = MappingState::Direct(External { address, port: key.internal_port });
        self.mappings.seeking.remove(&key);
        self.tell_success(key);
    }

    /// Reports an event to one mapping of the program.
    pub(super) fn tell(&mut self, id: MappingId, event: Event) {
        self.cx.outputs.push_back(Output::Event { id, event });
    }

    /// Reports SUCCESS to the ids that do not have this one yet.
    pub(super) fn tell_success(&mut self, key: Key) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let Some((protocol, external)) = mapping.external() else { return };
        mapping.last = Some(external);
        let event = Event::Success { protocol, address: external.address, port: external.port };
        for id in mapping.news(event) {
            self.tell(id, event);
        }
    }

    /// A granted mapping is lost: it seeks a rung again, and its next SUCCESS is always reported.
    pub(super) fn lose(&mut self, key: Key) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        mapping.counters.losses += u32::from(mapping.external().is_some());
        mapping.state = MappingState::SEEKING;
        let news = mapping.news(Event::Pending);
        self.mappings.seeking.insert(key);
        self.mappings.unsettled = true;
        self.timers.cancel(Timer::Mapping(key));
        for id in news {
            self.tell(id, Event::Pending);
        }
    }
}

fn works_in(cx: &Cx, protocol: Protocol) -> bool {
    cx.protocols.state(protocol) == ProtocolState::Works
}

impl Drivers {
    /// The state of each rung for a new mapping, the best rung first; `is_allowed`: whether a protocol may be used.
    pub fn rungs(&self, cx: &Cx, now: Time, is_allowed: impl Fn(Protocol) -> bool) -> Vec<RungState> {
        let mut rungs = Vec::new();
        let protocols = &cx.protocols;
        let silence = SILENCE.min(cx.config.discover_timeout);
        for protocol in Protocol::ASKING.into_iter().filter(|&protocol| is_allowed(protocol)) {
            let state = protocols.state(protocol);
            if let ProtocolState::Out { reason, until } = state {
                rungs.push(RungState::Out { protocol, reason, until });
                continue;
            }
            if state == ProtocolState::Unasked
                && let Some(until) = passed_over_until(cx, now, protocol)
            {
                rungs.push(RungState::Out { protocol, reason: Reason::Silence, until });
                continue;
            }
            let is_silent = matches!(state, ProtocolState::Unasked | ProtocolState::Asked { .. });
            // If UPnP answers too, the first NAT-PMP grant has to be confirmed by a second.
            let is_doubtful =
                protocol == Protocol::NatPmp && !protocols.of(protocol).has_worked && self.upnp.is_there(now);
            let patience = (is_silent || is_doubtful).then_some(GRACE);
            match (protocol, state) {
                (Protocol::Pcp, _) => rungs.push(RungState::Open { rung: Rung::Pcp, patience }),
                (_, ProtocolState::Unasked) => rungs.push(RungState::Unasked),
                (Protocol::NatPmp, ProtocolState::Asked { since, is_promised: false }) => {
                    rungs.push(RungState::Coming { hold_until: since + GRACE, until: since + silence });
                }
                (Protocol::NatPmp, _) => rungs.push(RungState::Open { rung: Rung::NatPmp, patience }),
                (Protocol::UpnpIgd, _) => self.upnp.rungs(now, &cx.config, &mut rungs),
                (Protocol::Direct, _) => {}
            }
        }
        rungs
    }
}

/// Until when a protocol is skipped: it failed within the last recheck interval, and a less preferred one works.
fn passed_over_until(cx: &Cx, now: Time, protocol: Protocol) -> Option<Time> {
    let until = cx.protocols.of(protocol).out_at? + cx.config.recheck_interval;
    let works = |lesser| lesser > protocol && works_in(cx, lesser);
    (now < until && Protocol::ASKING.into_iter().any(works)).then_some(until)
}
