//! Handles the drivers' notices: grants, failures, restarts, changes of the external address.

use super::addresses::{Scope, is_public, scope_of};
use super::driver::{Grant, Key, Notice, Rung, Slot};
use super::io::{Protocol, Socket};
use super::mapping::{External, Hold, MappingState};
use super::reason::Reason;
use super::{Engine, Timer, with_driver};
use crate::log::log;
use crate::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// Silent protocols are asked again after signs of life at most this often.
const REVIVAL_INTERVAL: Duration = Duration::from_secs(10);

/// The longest random delay before silent protocols are asked again.
const REVIVAL_SPREAD_MILLIS: u64 = 5000;

impl Engine {
    pub(super) fn handle_notice(&mut self, now: Time, notice: Notice) {
        match notice {
            Notice::Changed => {
                self.mappings.unsettled = true;
                self.adopt_waiting(now);
            }
            Notice::Sent { key, within } => self.note_sent(now + within, key),
            Notice::Granted(grant) => self.handle_grant(now, grant),
            Notice::Failed { key, rung, reason, lifetime } => {
                self.handle_failure(now, key, rung, reason, lifetime);
            }
            Notice::Deleted { slot, outcome } => self.handle_deleted(now, slot, outcome),
            Notice::Restarted { protocol, shown_by } => self.remake_all(now, protocol, shown_by),
            Notice::Gone { slot, quiet } => self.handle_gone(now, slot, quiet),
            Notice::EndsIn { slot, left } => self.shorten_lease(now, slot, left),
            Notice::AddressChanged { rung, address } => self.handle_address_changed(rung, address),
            Notice::FirewallOff { key, rung } => self.handle_firewall_off(now, key, rung),
            Notice::FirewallOn => self.handle_firewall_on(),
            Notice::ServiceRestarted { rung } => self.remake_those_of(now, rung),
            Notice::Superfluous { key } => self.handle_superfluous(now, key),
            Notice::Unanswered => self.listen_to_notifications(),
            Notice::BetterService => self.seek_better(),
            Notice::SignOfLife => self.note_change(now),
            Notice::AddressMismatch => self.handle_address_mismatch(now),
            Notice::Doubtful => self.reopen(Socket::NatPmp),
        }
    }

    /// A request was sent to a gateway that answers: the mapping's deadline starts.
    fn note_sent(&mut self, at: Time, key: Key) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        if let MappingState::Seeking { deadline: deadline @ None, .. } = &mut mapping.state {
            *deadline = Some(at);
            self.timers.set_sooner(Timer::Mapping(key), at);
        }
    }

    fn handle_grant(&mut self, now: Time, grant: Grant) {
        let Grant { slot, address, port, lifetime } = grant;
        let Slot { rung, key, .. } = slot;
        let Some(mapping) = self.mappings.by_key.get(&key) else {
            // The mapping was destroyed meanwhile: the new entry is deleted.
            self.delete_superfluous(now, key);
            return;
        };
        let external = match self.usable(address, port) {
            Ok(external) if mapping.wish.accepts(external.port) => external,
            Err(_) if mapping.held_by() == Some(rung) => {
                log!(Warn, "{key}: {} renews the mapping without an external address", rung.protocol());
                return;
            }
            other => {
                if mapping.held_by() == Some(rung) {
                    self.lose(key);
                }
                let reason = other.err().unwrap_or(Reason::PortsTaken);
                // Deletes the entry first, so that the next rung knows that the deletion may hit its grant.
                self.delete_unless_hit(now, slot);
                self.handle_failure(now, key, rung, reason, None);
                return;
            }
        };
        if let Some(hold) = mapping.hold()
            && hold.slot.rung != rung
            && !self.takes_over(now, hold, rung, external)
        {
            log!(Debug, "{key}: {} grants a mapping that another protocol already holds", rung.protocol());
            if let Some(mapping) = self.mappings.by_key.get_mut(&key) {
                mapping.ladder.forget(rung);
            }
            if self.cx.config.source.is_some() {
                // It is deleted at the end only, and is not renewed until then.
                with_driver!(self, now, rung.protocol(), leave(key, rung));
            }
            self.delete_superfluous(now, key);
            return;
        }
        self.hold(now, slot, external, lifetime);
    }

    /// The external address and port of a grant, if they are usable: an address of the requested family, by IPv6 one that
    /// the internet can reach, and a port.
    fn usable(&self, address: Option<IpAddr>, port: u16) -> Result<External, Reason> {
        let Some(port) = NonZeroU16::new(port) else { return Err(Reason::EmptyGrant) };
        let is_ipv6 = self.cx.config.source.is_some();
        let is_usable = |address: IpAddr| match is_ipv6 {
            true => address.is_ipv6() && is_public(address),
            false => scope_of(address) != Scope::Unusable && (address.is_ipv4() || !self.network.is_ipv4()),
        };
        match address.map(|address| address.to_canonical()) {
            Some(address) if is_usable(address) => Ok(External { address, port }),
            Some(address) if is_ipv6 => Err(Reason::NotGlobal { address }),
            address => Err(Reason::NoAddress { address }),
        }
    }

    /// Whether a grant replaces that of another rung: if the external address and port stay the same, if the other rung
    /// fails to renew, or if the gateway's own device replaces another device.
    fn takes_over(&self, now: Time, hold: &Hold, rung: Rung, external: External) -> bool {
        let is_at_home = |rung| self.drivers.upnp.is_rung_on_gateway(rung);
        let comes_home = !is_at_home(hold.slot.rung) && is_at_home(rung);
        hold.external == external || hold.is_giving_way(now) || comes_home
    }

    /// A rung has granted or renewed a mapping.
    fn hold(&mut self, now: Time, slot: Slot, external: External, lifetime: Option<Duration>) {
        let key = slot.key;
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        if mapping.last != Some(external) {
            warn_of_nat_beyond(key, external.address);
        }
        let old = mapping.hold().map(|hold| hold.slot);
        mapping.counters.note_granted(now, old == Some(slot));
        mapping.ladder.forget(slot.rung);
        let others = mapping.ladder.take_asked();
        let hold = Hold {
            slot,
            external,
            granted_at: now,
            lifetime: None,
            ends_at: None,
            has_turn: false,
            trouble: None,
        };
        mapping.state = MappingState::Held(hold);
        self.mappings.seeking.remove(&key);
        self.begin_lease(now, key, lifetime);
        for rung in others.into_iter().chain(old.map(|old| old.rung)).filter(|&rung| rung != slot.rung) {
            with_driver!(self, now, rung.protocol(), leave(key, rung));
        }
        if slot.rung.protocol() == Protocol::UpnpIgd {
            self.listen_to_notifications();
        }
        self.tell_success(key);
        self.delete_superfluous(now, key);
    }

    fn handle_failure(
        &mut self,
        now: Time,
        key: Key,
        rung: Rung,
        reason: Reason,
        lifetime: Option<Duration>,
    ) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        if let MappingState::Held(hold) = &mut mapping.state
            && hold.slot.rung == rung
        {
            if hold.trouble.replace(reason) != Some(reason) {
                log!(Warn, "{key}: the renewal by {} fails: {reason}", rung.protocol());
            }
            if self.cx.ledger.get(hold.slot).is_some_and(|entry| entry.is_certain) {
                // The entry still lives, and the next renewal tries again.
                return;
            }
            // The entry was gone, or was deleted to be made again.
            self.lose(key);
        }
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        if mapping.is_direct() {
            // Whether the firewall is on again was not answered.
            return;
        }
        let is_news = mapping.ladder.note_failed(self.cx.at(now), rung, reason, lifetime);
        if is_news {
            log!(Info, "{key}: {} fails: {reason}", rung.protocol());
        }
        self.climb(now, key);
    }

    /// The gateway's firewall is off: hosts on the internet reach the address as it is.
    fn handle_firewall_off(&mut self, now: Time, key: Key, rung: Rung) {
        let Some(source) = self.cx.config.source else { return };
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        mapping.ladder.forget(rung);
        if mapping.held_by().is_some_and(|holder| holder != rung) {
            return;
        }
        for other in mapping.ladder.take_asked() {
            with_driver!(self, now, other.protocol(), leave(key, other));
        }
        self.timers.cancel(Timer::Mapping(key));
        self.map_directly(key, source.address.into());
        self.listen_to_notifications();
    }

    /// The gateway's firewall is on again: those that were reached without a pinhole need one.
    fn handle_firewall_on(&mut self) {
        for key in self.mappings.by_key.keys_where(|_, mapping| mapping.is_direct()) {
            self.lose(key);
        }
    }

    /// A recheck: whether the firewall is still off.
    pub(super) fn recheck_firewall(&mut self, now: Time) {
        let direct = self.mappings.by_key.keys_where(|_, mapping| mapping.is_direct());
        if let Some(&key) = direct.iter().next()
            && let Some(rung) = self.drivers.upnp.rung_without_firewall()
        {
            self.drivers.upnp.recheck_firewall(self.cx.at(now), rung, key);
        }
    }

    /// The external address of the mappings of a rung has changed.
    fn handle_address_changed(&mut self, rung: Rung, address: IpAddr) {
        let upnp = &self.drivers.upnp;
        let borrows = |other| rung == Rung::NatPmp && upnp.borrows_address(other);
        let is_its = |hold: &Hold| {
            (hold.slot.rung == rung || borrows(hold.slot.rung)) && hold.external.address != address
        };
        if scope_of(address) == Scope::Unusable {
            // A gateway without a connection has no address for now, but keeps its table.
            return;
        }
        for key in self.mappings.held(is_its) {
            let Some(hold) = self.mappings.hold_mut(key) else { continue };
            log!(Info, "{key}: the external address changes to {address}");
            hold.external.address = address;
            warn_of_nat_beyond(key, address);
            self.tell_success(key);
        }
    }

    /// A gateway shows a sign of life: silent protocols are asked again soon. All hosts of the network see the same
    /// sign, hence the random delay.
    pub(super) fn note_change(&mut self, now: Time) {
        let is_due = self.revived_at.is_none_or(|at| now >= at + REVIVAL_INTERVAL);
        if is_due && !self.mappings.seeking.is_empty() {
            self.revived_at = Some(now);
            let delay = Duration::from_millis(self.cx.random.in_range(0, REVIVAL_SPREAD_MILLIS));
            self.timers.set(Timer::Revive, now + delay);
        }
    }

    /// Silent protocols and rungs may be asked again.
    pub(super) fn revive_silent(&mut self, now: Time) {
        self.cx.protocols.revive(true);
        self.revive_silent_tries(now);
    }

    /// Protocols whose retry time has come may be asked again, and with them all silent ones.
    pub(super) fn wake_protocols(&mut self, now: Time) {
        if self.cx.protocols.handle_timeout(now) {
            self.revive_silent_tries(now);
        }
    }

    fn revive_silent_tries(&mut self, now: Time) {
        self.mappings.by_key.for_each_mut(|_, mapping| {
            mapping.ladder.revive_silent(now);
        });
        self.mappings.unsettled = true;
    }

    /// Mappings on other devices move to the gateway as soon as it grants them.
    pub(super) fn seek_better(&mut self) {
        let upnp = &self.drivers.upnp;
        for key in self.mappings.held(|hold| !upnp.is_rung_on_gateway(hold.slot.rung)) {
            self.mappings.seeking.insert(key);
            self.mappings.unsettled = true;
        }
    }
}

/// Warns that the mapping works, but is not reachable from the internet.
fn warn_of_nat_beyond(key: Key, address: IpAddr) {
    let what = match scope_of(address) {
        Scope::CarrierNat => "of the provider's carrier-grade NAT (RFC 6598): the internet cannot reach it",
        Scope::Private => "private: another NAT stands beyond the gateway",
        Scope::Public | Scope::Unusable => return,
    };
    log!(Warn, "{key}: the external address {address} is {what}");
}
