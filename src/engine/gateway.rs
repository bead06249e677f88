//! What the drivers' notices mean for the mappings.

#![forbid(unsafe_code)]

use super::direct::{Worth, worth};
use super::discovery::{Choice, choose};
use super::driver::{Key, Notice, Refusal, Status};
use super::io::{Event, Protocol};
use super::lease::packets;
use super::mapping::{External, State};
use super::{Engine, Timer, cx, with_driver};
use crate::log::log;
use crate::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// A refusal without a lifetime of its own holds for this long (the order of RFC 6887's short lifetime errors).
const SHORT_ERROR: Duration = Duration::from_secs(30);

fn warn_of_double_nat(key: Key, address: IpAddr) {
    log!(Warn, "{key}: the external address {address} is private: there is another NAT behind the gateway");
}

impl Engine {
    pub(super) fn handle_notice(&mut self, now: Time, protocol: Protocol, notice: Notice) {
        log!(Verbose, "{protocol}: {notice:?}");
        match notice {
            Notice::StatusChanged => self.handle_status(now, protocol),
            Notice::SpeaksNatPmp => {
                log!(Info, "the gateway speaks NAT-PMP, not PCP");
                if self.race.is_some() {
                    self.natpmp_promised = true;
                } else if !self.is_up_by_own_account(Protocol::NatPmp) {
                    // Nobody would notice if that were not so.
                    self.natpmp.probe(cx!(self, now));
                }
                self.unsettled = true;
            }
            // PCP has been asked already, with the race.
            Notice::SpeaksPcp => log!(Info, "the gateway speaks PCP, not NAT-PMP"),
            Notice::Granted { key, .. } | Notice::Refused { key, .. } | Notice::TimedOut { key }
                if self.is_answer_to_doubt(protocol, key) => {}
            Notice::Granted { key, address, port, lifetime } => {
                self.handle_grant(now, protocol, key, address, port, lifetime);
            }
            Notice::Refused { key, refusal } => self.handle_refusal(now, protocol, key, refusal),
            Notice::TimedOut { key } => self.handle_timed_out(now, protocol, key),
            Notice::Deleted { key, .. } => self.handle_deleted(now, protocol, key),
            Notice::Restarted { shown_by } => {
                self.forget_epoch_beside(now, protocol);
                self.remake_all(now, shown_by);
            }
            Notice::EndsIn { key, left } => {
                if self.mappings.get(&key).is_some_and(|mapping| mapping.mapped_by() == Some(protocol)) {
                    log!(Debug, "{key}: the gateway keeps the mapping for {} s more", left.as_secs());
                    self.begin_lease(now, key, Some(left));
                }
            }
            Notice::Gone { key } => {
                if let Some(mapping) = self.mappings.get_mut(&key)
                    && mapping.mapped_by() == Some(protocol)
                {
                    log!(Info, "{key}: the mapping is gone from the gateway");
                    mapping.entries.set(protocol, false);
                    self.remake(now, key, protocol);
                }
            }
            Notice::AddressChanged { address } => self.handle_address_changed(now, protocol, address),
            Notice::Recheck => self.handle_network_changed(now),
            Notice::Lost => self.handle_lost(now, protocol),
            Notice::AddressMismatch => self.handle_address_mismatch(now),
        }
    }

    /// A protocol has seen a restart. The other asks the same program of the gateway: it is no news when that sees it.
    pub(super) fn forget_epoch_beside(&mut self, now: Time, protocol: Protocol) {
        match protocol {
            Protocol::Pcp => self.natpmp.forget_epoch(cx!(self, now)),
            _ => self.pcp.forget_epoch(),
        }
    }

    fn handle_status(&mut self, now: Time, protocol: Protocol) {
        let status = self.own_status(protocol);
        log!(Debug, "{protocol} is {status:?}");
        match status {
            Status::Up => self.note_answer(now, protocol),
            Status::Out => {
                if protocol == Protocol::NatPmp {
                    self.natpmp_promised = false;
                }
                // There is no doubt any more.
                self.suspect.set(protocol, false);
                // It has dropped all requests. A gateway that does not speak PCP or NAT-PMP holds no entry by them; a
                // UPnP device that was lost may be back, with what its driver knows of.
                let mut stranded = Vec::new();
                self.mappings.for_each_mut(|key, mapping| {
                    let answers_for_all = protocol != Protocol::UpnpIgd;
                    if answers_for_all && mapping.mapped_by() != Some(protocol) && mapping.asked.has(protocol)
                    {
                        mapping.entries.set(protocol, false);
                    }
                    mapping.asked.set(protocol, false);
                    if mapping.state == (State::Asked { protocol }) {
                        stranded.push(key);
                    }
                });
                for key in stranded {
                    self.lose(key);
                }
            }
            Status::Unknown | Status::Working => {}
        }
        self.unsettled = true;
    }

    /// A protocol has answered: it is there after all.
    fn note_answer(&mut self, now: Time, protocol: Protocol) {
        self.answered_at.set(protocol, Some(now));
        if self.suspect.has(protocol) || self.exhausted.has(protocol) {
            self.suspect.set(protocol, false);
            self.exhausted.set(protocol, false);
            self.unsettled = true;
        }
    }

    fn handle_grant(
        &mut self,
        now: Time,
        protocol: Protocol,
        key: Key,
        address: IpAddr,
        port: u16,
        lifetime: Option<Duration>,
    ) {
        self.note_answer(now, protocol);
        let Some(mapping) = self.mappings.get_mut(&key) else {
            // Destroyed meanwhile, and the driver did not know: nothing is left behind.
            with_driver!(self, protocol, delete(now, key));
            return;
        };
        mapping.asked.set(protocol, false);
        mapping.entries.set(protocol, true);
        let value = worth(address);
        let good_port = NonZeroU16::new(port).filter(|_| value != Worth::None);
        if good_port.is_none() {
            log!(Warn, "{key}: the gateway has no external address ({address}:{port})");
        }
        if let State::Mapped { protocol: old, external, .. } = mapping.state
            && old != protocol
            && old != Protocol::Direct
        {
            // A protocol that has refused to renew what it made gives way to any other.
            let old_refuses = mapping.is_excluded(now, old);
            let leaver = if good_port.is_some() && (protocol < old || old_refuses) { old } else { protocol };
            mapping.entries.set(leaver, false);
            mapping.asked.set(leaver, false);
            // An entry of the same external port may be the same entry, by the name of another protocol; not on another
            // device.
            let is_one_table = !self.upnp.is_elsewhere() || ![old, protocol].contains(&Protocol::UpnpIgd);
            if port == 0 || (port == external.port.get() && is_one_table) {
                with_driver!(self, leaver, forget(now, key));
            } else {
                with_driver!(self, leaver, delete(now, key));
                // Where the gateway has one table for all protocols, that may have removed what stays, too.
                self.confirm(now, key);
            }
            if leaver == protocol {
                if good_port.is_none() {
                    self.stay_without(now, key, protocol, Duration::ZERO);
                }
                return;
            }
        }
        let Some(port) = good_port else {
            self.refuse(now, key, Duration::ZERO);
            return;
        };
        if protocol == Protocol::Pcp {
            self.network.forgive_mismatch();
        }
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let external = External { address, port };
        if value == Worth::BehindNat && mapping.last != Some(external) {
            warn_of_double_nat(key, address);
        }
        mapping.state = State::Mapped { protocol, external, lease: None };
        self.waiting.remove(&key);
        self.begin_lease(now, key, lifetime);
        if protocol == Protocol::UpnpIgd {
            self.listen_to_notifications();
        }
        self.tell_success(key);
    }

    fn handle_refusal(&mut self, now: Time, protocol: Protocol, key: Key, refusal: Refusal) {
        self.note_answer(now, protocol);
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.asked.set(protocol, false);
        if mapping.mapped_by() != Some(protocol) {
            mapping.entries.set(protocol, false);
        }
        let is_wooed = mapping.mapped_by().is_some_and(|old| protocol < old);
        match (refusal, mapping.state) {
            // It was asked whether it would take over what a lesser protocol has made.
            (Refusal::NextProtocol { retry_after } | Refusal::Failed { retry_after }, _) if is_wooed => {
                self.stay_without(now, key, protocol, retry_after);
            }
            (Refusal::NextProtocol { retry_after }, state) => {
                mapping.excluded_until.set(protocol, now + retry_after.max(SHORT_ERROR));
                log!(Info, "{key}: {protocol} refuses for good, next protocol");
                match state {
                    // What it granted before holds until its lifetime ends; meanwhile another may take over.
                    State::Mapped { .. } => self.move_on(now, key),
                    _ => {
                        mapping.state = State::Waiting;
                        self.waiting.insert(key);
                        self.advance(now, key);
                    }
                }
            }
            // The next renewal tries again.
            (Refusal::Failed { .. }, State::Mapped { .. }) => log!(Warn, "{key}: a renewal is refused"),
            (Refusal::Failed { retry_after }, _) => self.refuse(now, key, retry_after),
        }
    }

    /// A better protocol would not take over a mapping: it is left alone for a while, and the renewal that was due goes
    /// to one that will.
    fn stay_without(&mut self, now: Time, key: Key, protocol: Protocol, retry_after: Duration) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        log!(Debug, "{key}: {protocol} does not take it over");
        mapping.excluded_until.set(protocol, now + retry_after.max(SHORT_ERROR));
        self.move_on(now, key);
    }

    /// Asks the next protocol for a mapping that has one that refused to renew it.
    fn move_on(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.get(&key) else { return };
        let field = self.field(now, mapping);
        if let Choice::Use(next) = choose(&field, None, now)
            && let Some(mapping) = self.mappings.get_mut(&key)
        {
            mapping.note_asked(next);
            let suggestion = mapping.suggestion();
            // What this costs, those that wait for their turn make up for.
            self.pace.take(now, packets(next));
            with_driver!(self, next, map(now, key, suggestion));
        }
    }

    /// The gateway cannot make the mapping now: FAILURE, tried again.
    pub(super) fn refuse(&mut self, now: Time, key: Key, answer_lifetime: Duration) {
        let after = super::schedule::retry_after(answer_lifetime, self.config.recheck_interval);
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.lost |= mapping.mapped_by().is_some();
        mapping.state = State::Refused;
        mapping.unanswered = false;
        self.waiting.remove(&key);
        self.timers.set(Timer::Mapping(key), now + after);
        self.tell_all(key, Event::Failure);
    }

    fn handle_timed_out(&mut self, now: Time, protocol: Protocol, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.asked.set(protocol, false);
        // Perhaps it is another gateway now: the next attempt asks them all.
        self.suspect_unheard_since(protocol, now - self.config.mapping_timeout);
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        if mapping.mapped_by().is_some_and(|other| protocol < other) {
            self.stay_without(now, key, protocol, self.config.recheck_interval);
            return;
        }
        if mapping.state == (State::Asked { protocol }) {
            log!(Warn, "{key}: no answer by {protocol}");
            self.refuse(now, key, Duration::ZERO);
            if let Some(mapping) = self.mappings.get_mut(&key) {
                mapping.unanswered = true;
            }
        }
        // Else a renewal, and the next one tries again; or a race, and its end decides.
    }

    /// A protocol let requests time out. Unless it answered others meanwhile, it has to show that it is still there, and
    /// so has the other that the same program of the gateway speaks. (UPnP finds out by itself.)
    pub(super) fn suspect_unheard_since(&mut self, protocol: Protocol, since: Time) {
        let is_heard = |engine: &Engine, protocol| {
            engine.answered_at.get(protocol).copied().flatten().is_some_and(|at| at > since)
        };
        if protocol == Protocol::UpnpIgd || is_heard(self, protocol) {
            return;
        }
        for protocol in [Protocol::Pcp, Protocol::NatPmp] {
            if !is_heard(self, protocol) && self.is_up_by_own_account(protocol) {
                self.suspect.set(protocol, true);
            }
        }
    }

    fn handle_address_changed(&mut self, now: Time, protocol: Protocol, address: IpAddr) {
        log!(Info, "{protocol}: the external address is now {address}");
        for key in self.keys_asked_by(protocol) {
            let Some(mapping) = self.mappings.get_mut(&key) else { continue };
            let State::Mapped { external, .. } = &mut mapping.state else { continue };
            if worth(address) == Worth::None {
                self.refuse(now, key, Duration::ZERO);
            } else if external.address != address {
                external.address = address;
                if worth(address) == Worth::BehindNat {
                    warn_of_double_nat(key, address);
                }
                self.tell_success(key);
            }
        }
    }

    /// The control point is lost: whoever relied on it waits, and the search begins anew.
    fn handle_lost(&mut self, now: Time, protocol: Protocol) {
        log!(Warn, "{protocol}: the gateway does not answer any more");
        for mapping in self.mappings.values_mut() {
            mapping.asked.set(protocol, false);
        }
        for key in self.keys_asked_by(protocol) {
            self.lose(key);
        }
        self.start_rediscovery(now);
    }
}
