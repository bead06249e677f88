//! Renewals, expiry, and making mappings again after a restart of the gateway.

use super::driver::{Key, RequestKind, Rung, Slot};
use super::io::Protocol;
use super::ledger::Entry;
use super::mapping::{GatewayMapping, Hold, MappingState};
use super::schedule::{counted_lifetime, packets, renewal_at};
use super::{Drivers, Engine, Timer, with_driver};
use crate::log::log;
use crate::time::Time;
use std::time::Duration;

/// When a mapping that an earlier deletion may have removed is requested again.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    /// Sets the first renewal after a grant. `None`: permanent.
    pub(super) fn begin_lease(&mut self, now: Time, key: Key, granted: Option<Duration>) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let confirm_at = mapping.confirm.then(|| now + CONFIRM_AFTER);
        let MappingState::Held(hold) = &mut mapping.state else { return };
        hold.lifetime = granted.map(counted_lifetime);
        hold.ends_at = granted.map(|granted| now + granted);
        hold.has_turn = false;
        let renewal = hold.lifetime.map(|lifetime| renewal_at(self.cx.at(now), now, lifetime));
        self.timers.replace(Timer::Mapping(key), renewal.into_iter().chain(confirm_at).min());
    }

    /// The timer of a mapping is due: its state says for what.
    pub(super) fn handle_mapping_timer(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let hold = match &mut mapping.state {
            MappingState::Seeking { .. } => return self.climb(now, key),
            MappingState::Direct(_) => return,
            MappingState::Held(hold) => hold,
        };
        let expires_at = hold.expires_at();
        if expires_at.is_some_and(|at| at <= now) {
            return self.expire(key);
        }
        if !hold.has_turn {
            let at = self.cx.pace.take(now, packets(hold.slot.rung.protocol()));
            if at > now && expires_at.is_none_or(|expires_at| at < expires_at) {
                hold.has_turn = true;
                return self.timers.set(Timer::Mapping(key), at);
            }
        }
        // Sends a renewal, and sets the timer for the next if this one is not answered.
        let (rung, gives_way) = (hold.slot.rung, hold.is_giving_way(now));
        (hold.has_turn, mapping.confirm) = (false, false);
        if let Some(lifetime) = hold.lifetime {
            let at = renewal_at(self.cx.at(now), hold.granted_at, lifetime);
            self.timers.set(Timer::Mapping(key), at);
        }
        let suggestion = mapping.suggestion();
        mapping.counters.note_asked(now);
        with_driver!(self, now, rung.protocol(), map(key, rung, suggestion, RequestKind::Renew));
        if gives_way {
            self.mappings.seeking.insert(key);
            self.climb(now, key);
        }
    }

    /// An entry has appeared that the mapping does not need. If it may have replaced the one that holds the mapping, the
    /// lifetime is now its own: the holder is asked again.
    pub(super) fn handle_superfluous(&mut self, now: Time, key: Key) {
        let replaces = |mapping: &GatewayMapping, entry: &Entry| {
            mapping.held_by() != Some(entry.slot.rung) && self.could_hit_holder(entry.slot, mapping)
        };
        let mapping = self.mappings.by_key.get(&key);
        if mapping.is_some_and(|mapping| self.cx.ledger.of(key).any(|entry| replaces(mapping, entry))) {
            self.timers.set_sooner(Timer::Mapping(key), now + CONFIRM_AFTER);
        }
        self.delete_superfluous(now, key);
    }

    /// The lifetime has ended without an answered renewal: the mapping seeks a rung again.
    fn expire(&mut self, key: Key) {
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let MappingState::Held(hold) = mapping.state else { return };
        mapping.ladder.forget_failures();
        log!(Warn, "{key}: the mapping expires, no renewal was answered");
        let (protocol, granted_at) = (hold.slot.rung.protocol(), hold.granted_at);
        if self.cx.protocols.of(protocol).heard_at.is_none_or(|at| at <= granted_at) {
            // The protocol has to be found again, as have those that were silent before it.
            self.cx.protocols.doubt(protocol);
            self.cx.protocols.revive(true);
        }
        self.lose(key);
    }

    /// The gateway has restarted and lost its mappings: all are made again, paced so that a gateway that has just
    /// started can bear it. `shown_by`: the key whose answer shows the restart.
    pub(super) fn remake_all(&mut self, now: Time, protocol: Protocol, shown_by: Option<Key>) {
        log!(Info, "{protocol}: the gateway has restarted");
        self.counters.restarts += 1;
        // The other protocol must not detect the same restart again: its next answer starts a new epoch.
        let Drivers { pcp, natpmp, .. } = &mut self.drivers;
        let other = if protocol == Protocol::Pcp { natpmp } else { pcp };
        other.forget_epoch(self.cx.at(now));
        self.note_change(now);
        for key in self.mappings.held(|_| true) {
            match shown_by {
                Some(shown_by) if shown_by == key => self.lose(key),
                _ => self.remake(now, key, Duration::ZERO),
            }
        }
    }

    /// The device of a UPnP service has restarted: its mappings are made again, and the service may be asked for
    /// mappings that it refused before.
    pub(super) fn remake_those_of(&mut self, now: Time, rung: Rung) {
        for key in self.mappings.held(|hold| hold.slot.rung == rung) {
            self.remake(now, key, Duration::ZERO);
        }
        self.mappings.by_key.for_each_mut(|_, mapping| {
            if !mapping.ladder.is_asked(rung) {
                mapping.ladder.forget(rung);
            }
        });
        self.mappings.unsettled = true;
    }

    /// An entry is gone from the gateway's table: the mapping is made again in its turn.
    pub(super) fn handle_gone(&mut self, now: Time, slot: Slot, quiet: bool) {
        let Some(mapping) = self.mappings.by_key.get_mut(&slot.key) else { return };
        let Some(_) = mapping.hold().filter(|hold| hold.slot == slot) else { return };
        if quiet {
            // The program has had it for seconds only: nothing is reported unless the new one differs.
            let (suggestion, protocol) = (mapping.suggestion(), slot.rung.protocol());
            // One request for the mapping and one for the external address.
            self.cx.pace.spend(now, 2 * packets(protocol));
            with_driver!(self, now, protocol, map(slot.key, slot.rung, suggestion, RequestKind::Make));
            return;
        }
        self.remake(now, slot.key, Duration::ZERO);
    }

    /// Makes a granted mapping again in its turn, `delay` from now at the earliest.
    pub(super) fn remake(&mut self, now: Time, key: Key, delay: Duration) {
        let Some(&mut Hold { slot, .. }) = self.mappings.hold_mut(key) else { return };
        self.lose(key);
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        let at = self.cx.pace.take(now + delay, packets(slot.rung.protocol()));
        if at > now {
            mapping.state = MappingState::Seeking { not_before: Some(at), deadline: None };
            self.timers.set(Timer::Mapping(key), at);
        }
    }

    /// The gateway keeps an entry for less time than it has granted.
    pub(super) fn shorten_lease(&mut self, now: Time, slot: Slot, left: Duration) {
        if let Some(hold) = self.mappings.hold_mut(slot.key).filter(|hold| hold.slot == slot) {
            hold.granted_at = now;
            self.begin_lease(now, slot.key, Some(left));
        }
    }
}
