//! Destroying mappings: deletions and cleanup, within bounded time.

use super::driver::{DeletionOutcome, Key, Rung, Slot};
use super::io::{Event, MappingId, OnCleanup, Output, Protocol};
use super::ledger::{DeletionState, Entry};
use super::mapping::{GatewayMapping, MappingState};
use super::network::Network;
use super::protocols::ProtocolState;
use super::reason::Reason;
use super::schedule::packets;
use super::timers::Timers;
use super::{Engine, Timer, with_driver};
use crate::log::log;
use crate::ordered::{Map, Set};
use crate::time::Time;
use plum_wire::pcp::Nonce;
use std::net::IpAddr;
use std::time::Duration;

/// DESTROYED is reported after this, with or without an answer. Cleanup waits for a host until this long after its last
/// answer.
pub const QUIET_TIMEOUT: Duration = Duration::from_millis(800);

/// The longest time that cleanup takes.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after the return to a gateway the entries of mappings destroyed meanwhile are deleted.
const RETURN_WAIT: Duration = Duration::from_secs(5);

/// PCP's refusal to delete what another nonce made.
const NOT_AUTHORIZED: Reason = Reason::Result { protocol: Protocol::Pcp, code: 2 };

/// A gateway mapping that is being deleted.
#[derive(Debug)]
struct Destruction {
    /// The program's mappings without a DESTROYED yet.
    ids: Vec<MappingId>,
    /// The entry that held the mapping: deleted before the others.
    holder: Option<Slot>,
}

/// The mappings that are being destroyed, and deletions that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Destructions {
    by_key: Map<Key, Destruction>,
    is_finished: bool,
    /// When to repeat the refused or unanswered deletions of a key.
    pub(super) repeats: Timers<Key>,
    /// Keys with superfluous entries, each deleted in its turn.
    turns: Timers<Key>,
    /// When the pace has room for the next of these deletions.
    free_at: Time,
    /// Keys whose PCP deletion was NOT_AUTHORIZED: firewall control deletes the pinhole in its place.
    adopted: Set<Key>,
    /// Keys whose PCP deletion was NOT_AUTHORIZED while firewall control was not known: it is searched for.
    unadopted: Set<Key>,
    /// The last answer of each host within CLEANUP_TIMEOUT.
    heard: Vec<(IpAddr, Time)>,
}

impl Destructions {
    fn note_heard(&mut self, now: Time, host: IpAddr) {
        self.heard.retain(|&(known, at)| known != host && now < at + CLEANUP_TIMEOUT);
        self.heard.push((host, now));
    }

    fn heard_at(&self, host: Option<IpAddr>) -> Option<Time> {
        self.heard.iter().find(|(known, _)| Some(*known) == host).map(|&(_, at)| at)
    }
}

impl Engine {
    /// A packet was received from a host.
    pub(super) fn note_sign_of_life(&mut self, now: Time, host: IpAddr) {
        self.destructions.note_heard(now, host);
        // The neighbour table has the gateway's hardware address by now.
        if self.network.gateway() == Some(host) && std::mem::take(&mut self.network.hardware_wanted) {
            self.look_up_route();
        }
    }

    /// Destroys one mapping of the program; with the last of its key, the gateway mapping.
    pub(super) fn destroy(&mut self, now: Time, id: MappingId) {
        let Some(key) = self.mappings.ids.remove(&id) else { return };
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        mapping.ids.remove(&id);
        if !mapping.ids.is_empty() {
            return self.tell(id, Event::Destroyed);
        }
        let Some(mut mapping) = self.mappings.by_key.remove(&key) else { return };
        self.counters.add(mapping.counters);
        self.mappings.seeking.remove(&key);
        self.timers.cancel(Timer::Mapping(key));
        if self.cx.is_cleaning_up() && self.cx.config.on_cleanup == OnCleanup::Keep {
            // A granted mapping stays at the gateway for its lifetime. Its entry is not ours to delete any more, nor
            // are entries whose deletion could remove it.
            for slot in self.slots_where(key, |entry| self.could_hit_holder(entry.slot, &mapping)) {
                self.cx.ledger.end(slot);
            }
        }
        let holder = mapping.hold().map(|hold| hold.slot);
        let asked = mapping.ladder.take_asked();
        for rung in asked.into_iter().chain(holder.map(|slot| slot.rung)) {
            with_driver!(self, now, rung.protocol(), leave(key, rung));
        }
        // Deletions that were refused while the mapping lived are sent once more.
        for slot in self.slots_where(key, |entry| matches!(entry.deletion, DeletionState::Failed)) {
            self.cx.ledger.set_deletion(slot, DeletionState::Unasked);
        }
        self.destructions.by_key.insert(key, Destruction { ids: vec![id], holder });
        self.timers.set(Timer::Destruction(key), now + QUIET_TIMEOUT);
        self.advance_destruction(now, key);
    }

    /// Sends the next deletions; reports DESTROYED when none is left.
    fn advance_destruction(&mut self, now: Time, key: Key) {
        let Some(holder) = self.destructions.by_key.get(&key).map(|destruction| destruction.holder) else {
            return;
        };
        while !self.has_open_deletion(key) {
            let mut unasked = self.slots_where(key, |entry| entry.deletion == DeletionState::Unasked);
            if unasked.is_empty() {
                return self.end_destruction(key);
            }
            if let Some(holder) = holder.filter(|holder| unasked.contains(holder)) {
                unasked = vec![holder];
            }
            for slot in unasked {
                self.delete(now, slot);
            }
        }
    }

    fn has_open_deletion(&self, key: Key) -> bool {
        self.cx.ledger.of(key).any(|entry| entry.deletion == DeletionState::Open)
    }

    fn slots_where(&self, key: Key, wanted: impl Fn(&Entry) -> bool) -> Vec<Slot> {
        self.cx.ledger.of(key).filter(|entry| wanted(entry)).map(|entry| entry.slot).collect()
    }

    /// Deletes an entry. The answer is awaited if the protocol was ever heard at this gateway.
    fn delete(&mut self, now: Time, slot: Slot) {
        let protocol = slot.rung.protocol();
        let protocols = &self.cx.protocols;
        let is_closed =
            matches!(protocols.state(protocol), ProtocolState::Out { reason: Reason::PortClosed, .. });
        let was_heard = |entry: &Entry| entry.is_certain || protocols.of(protocol).heard_at.is_some();
        let awaited = !is_closed && self.cx.ledger.get(slot).is_some_and(was_heard);
        let deletion = if awaited { DeletionState::Open } else { DeletionState::Unawaited };
        if let Some(mapping) = self.mappings.by_key.get_mut(&slot.key) {
            // The deletion could remove a grant of another rung.
            mapping.confirm |= matches!(mapping.state, MappingState::Seeking { .. });
        }
        self.cx.ledger.set_deletion(slot, deletion);
        with_driver!(self, now, protocol, delete(slot, awaited));
    }

    /// Deletes the entry of a useless grant, unless that could remove the entry that holds the mapping.
    pub(super) fn delete_unless_hit(&mut self, now: Time, slot: Slot) {
        let mapping = self.mappings.by_key.get(&slot.key);
        let is_deleted =
            self.cx.ledger.get(slot).is_none_or(|entry| entry.deletion != DeletionState::Unasked);
        if !is_deleted && mapping.is_none_or(|mapping| !self.could_hit_holder(slot, mapping)) {
            self.delete(now, slot);
        }
    }

    /// Deletes the superfluous entries of a key, in the pace.
    pub(super) fn delete_superfluous(&mut self, now: Time, key: Key) {
        if self.destructions.by_key.contains_key(&key) {
            self.advance_destruction(now, key);
        } else if !self.superfluous(now, key).is_empty() {
            self.destructions.turns.set(key, now);
            self.timers.set_sooner(Timer::Repeat, now.max(self.destructions.free_at));
        }
    }

    /// The superfluous entries of a key whose deletion cannot remove the entry that holds its mapping.
    fn superfluous(&self, now: Time, key: Key) -> Vec<Slot> {
        let mapping = self.mappings.by_key.get(&key);
        let is_needed = |slot: Slot| {
            mapping.is_some_and(|mapping| {
                mapping.ladder.is_asked(slot.rung) || self.could_hit_holder(slot, mapping)
            })
        };
        let is_unasked = |entry: &Entry| entry.deletion == DeletionState::Unasked && entry.is_alive(now);
        self.slots_where(key, |entry| is_unasked(entry) && !is_needed(entry.slot))
    }

    /// Whether the deletion of an entry could remove the one that holds the mapping: a UPnP deletion names the external
    /// port, a PCP or NAT-PMP deletion the internal port, and a gateway may keep one table for all protocols.
    pub(super) fn could_hit_holder(&self, slot: Slot, mapping: &GatewayMapping) -> bool {
        let Some(hold) = mapping.hold() else { return false };
        if hold.slot == slot {
            return true;
        }
        let upnp = &self.drivers.upnp;
        let same_table = match (slot.rung, hold.slot.rung) {
            (Rung::Upnp(one), Rung::Upnp(other)) => upnp.share_host(one, other),
            (one, other) => upnp.is_rung_on_gateway(one) && upnp.is_rung_on_gateway(other),
        };
        same_table
            && match slot.rung {
                // Those of pinholes hit a client, a transport and an internal port, by whatever protocol.
                _ if self.cx.config.source.is_some() => true,
                // If the gateway chose the port, it is most likely the holder's.
                Rung::Upnp(_) if slot.port == 0 => slot.rung == hold.slot.rung,
                Rung::Upnp(_) => slot.port == hold.external.port.get(),
                Rung::Pcp | Rung::NatPmp => true,
            }
    }

    /// A deletion was answered, or given up.
    pub(super) fn handle_deleted(&mut self, now: Time, slot: Slot, outcome: DeletionOutcome) {
        let key = slot.key;
        match outcome {
            // The entry was requested again since: the answer to that request shows its state.
            _ if self.cx.ledger.get(slot).is_some_and(|entry| entry.deletion == DeletionState::Unasked) => {}
            DeletionOutcome::Deleted => {
                log!(Debug, "{key}: {} has deleted the mapping", slot.rung.protocol());
                self.cx.ledger.end(slot);
            }
            DeletionOutcome::DeletedIn(left) => {
                log!(Info, "{key}: {} keeps the port for {} s", slot.rung.protocol(), left.as_secs());
                if let Some(entry) = self.cx.ledger.get_mut(slot) {
                    let ends_at = now + left;
                    entry.ends_at = Some(entry.ends_at.map_or(ends_at, |known| known.min(ends_at)));
                }
                self.cx.ledger.set_deletion(slot, DeletionState::Unawaited);
            }
            DeletionOutcome::NotConfirmed(reason) if self.adopt(now, slot, reason) => {}
            DeletionOutcome::NotConfirmed(reason) => self.note_not_deleted(now, slot, reason),
        }
        let is_gone = !matches!(outcome, DeletionOutcome::NotConfirmed(_));
        if is_gone && slot.rung != Rung::Pcp && self.destructions.adopted.remove(&key) {
            for slot in self.slots_where(key, is_failed_by_pcp) {
                self.cx.ledger.end(slot);
            }
        }
        self.advance_destruction(now, key);
    }

    /// PCP does not delete a pinhole that it made with another nonce. Firewall control does: the pinhole becomes an entry
    /// of that service, or waits until it is found. Whether it does.
    fn adopt(&mut self, now: Time, slot: Slot, reason: Reason) -> bool {
        let is_for_firewall = self.cx.config.source.is_some() && self.is_allowed(Protocol::UpnpIgd);
        if reason != NOT_AUTHORIZED || !is_for_firewall {
            return false;
        }
        if let Some(rung) = self.drivers.upnp.firewall_control() {
            self.adopt_by(now, slot, rung);
            return true;
        }
        let is_sought = self.drivers.upnp.seek_firewall_control(self.cx.at(now));
        if is_sought {
            self.destructions.unadopted.insert(slot.key);
        }
        is_sought
    }

    fn adopt_by(&mut self, now: Time, slot: Slot, rung: Rung) {
        let adopted = Slot { rung, ..slot };
        let Some(&Entry { client, ends_at, .. }) = self.cx.ledger.get(slot) else { return };
        if self.cx.ledger.get(adopted).is_none() {
            self.cx.ledger.note_sent(adopted, client, Nonce::default(), ends_at);
        }
        self.cx.ledger.note_not_deleted(slot);
        self.destructions.adopted.insert(slot.key);
        let is_open = |entry: &Entry| entry.deletion == DeletionState::Open;
        if !self.destructions.by_key.contains_key(&slot.key)
            && !self.cx.ledger.get(adopted).is_some_and(is_open)
        {
            self.delete(now, adopted);
        }
    }

    /// Firewall control may have been found, or the search for it may be over.
    pub(super) fn adopt_waiting(&mut self, now: Time) {
        let found = self.drivers.upnp.firewall_control();
        if found.is_none() && self.drivers.upnp.is_firewall_control_sought() {
            return;
        }
        for key in std::mem::take(&mut self.destructions.unadopted) {
            let slot = Slot { rung: Rung::Pcp, key, port: 0 };
            if self.cx.ledger.get(slot).is_none_or(|entry| entry.deletion != DeletionState::Open) {
                continue;
            }
            match found {
                Some(rung) => self.adopt_by(now, slot, rung),
                None => self.note_not_deleted(now, slot, NOT_AUTHORIZED),
            }
            self.advance_destruction(now, key);
        }
    }

    fn note_not_deleted(&mut self, now: Time, slot: Slot, reason: Reason) {
        let key = slot.key;
        let holder = self.destructions.by_key.get(&key).and_then(|destruction| destruction.holder);
        let ledger = &self.cx.ledger;
        let is_certain = ledger.get(slot).is_some_and(|entry| entry.is_certain);
        let was_after_holder =
            holder.map_or(!is_certain, |holder| holder != slot && ledger.get(holder).is_none());
        if was_after_holder && reason == (Reason::Result { protocol: Protocol::Pcp, code: 8 }) {
            // NO_RESOURCES after the holder's deletion: both were in one table, so the entry is gone, too.
            self.cx.ledger.end(slot);
            return;
        }
        log!(Warn, "{key}: the deletion by {} is not confirmed: {reason}", slot.rung.protocol());
        if let Some(wait) = self.cx.ledger.note_not_deleted(slot)
            && !self.cx.is_cleaning_up()
        {
            self.repeat_at(key, now + wait);
        }
    }

    /// Repeats refused and unanswered deletions, unless the key has a mapping again, and deletes superfluous entries in
    /// their turn.
    pub(super) fn handle_repeat_timer(&mut self, now: Time) {
        while let Some(key) = self.destructions.repeats.pop_due(now) {
            if !self.mappings.by_key.contains_key(&key) {
                for slot in self.slots_where(key, |entry| entry.deletion == DeletionState::Failed) {
                    self.cx.ledger.set_deletion(slot, DeletionState::Unasked);
                }
                self.destructions.turns.set(key, now);
            }
        }
        while self.destructions.free_at <= now
            && let Some(key) = self.destructions.turns.pop_due(now)
        {
            if !self.cx.is_cleaning_up()
                && self.network.route.is_some()
                && let Some(&slot) = self.superfluous(now, key).first()
            {
                // It usually takes two requests: some are repeated, or follow a check.
                self.destructions.free_at = self.cx.pace.take(now, 2 * packets(slot.rung.protocol()));
                self.delete(now, slot);
                self.destructions.turns.set(key, now);
            }
        }
        let turn_at = self.destructions.turns.next().map(|at| at.max(self.destructions.free_at));
        self.timers.replace(Timer::Repeat, self.destructions.repeats.next().into_iter().chain(turn_at).min());
    }

    fn repeat_at(&mut self, key: Key, at: Time) {
        self.destructions.repeats.set(key, at);
        self.timers.set_sooner(Timer::Repeat, at);
    }

    /// Back at a known gateway: entries of mappings destroyed meanwhile are deleted, once its services are found.
    pub(super) fn delete_left_over(&mut self, now: Time) {
        for key in self.cx.ledger.keys() {
            if !self.mappings.by_key.contains_key(&key) && !self.slots_where(key, is_left_over).is_empty() {
                self.repeat_at(key, now + RETURN_WAIT);
            }
        }
    }

    /// Ends a destruction: reports the DESTROYED events that are still due.
    pub(super) fn end_destruction(&mut self, key: Key) {
        self.handle_destruction_timer(key);
        self.destructions.unadopted.remove(&key);
        self.destructions.by_key.remove(&key);
        self.timers.cancel(Timer::Destruction(key));
    }

    /// Ends all destructions: the gateway cannot be reached any more. The ledger keeps its entries.
    pub(super) fn abandon_destructions(&mut self) {
        for key in self.destructions.by_key.keys() {
            self.end_destruction(key);
        }
    }

    /// The deletion was not answered in time: DESTROYED is reported, and the deletion goes on.
    pub(super) fn handle_destruction_timer(&mut self, key: Key) {
        let Some(destruction) = self.destructions.by_key.get_mut(&key) else { return };
        for id in std::mem::take(&mut destruction.ids) {
            self.tell(id, Event::Destroyed);
        }
    }

    /// The program cleans up: every mapping is deleted, unless it is to be kept. Ends with `Output::Finished`.
    pub fn handle_cleanup(&mut self, now: Time) {
        if self.cx.is_cleaning_up() {
            return;
        }
        self.cx.cleanup_at = Some(now);
        for id in self.mappings.ids.keys() {
            self.destroy(now, id);
        }
        for key in self.cx.ledger.keys() {
            if !self.destructions.by_key.contains_key(&key) {
                for slot in self.slots_where(key, is_left_over) {
                    self.delete(now, slot);
                }
            }
        }
        // Entries of earlier destructions may have ended since, by their lifetime.
        for key in self.destructions.by_key.keys() {
            self.advance_destruction(now, key);
        }
        self.timers.set(Timer::Cleanup, now + QUIET_TIMEOUT);
        self.settle(now);
    }

    /// Cleanup waits for each host until QUIET_TIMEOUT after its last answer, and never longer than CLEANUP_TIMEOUT.
    pub(super) fn handle_cleanup_timer(&mut self, now: Time) {
        let Some(started_at) = self.cx.cleanup_at else { return };
        let last_at = started_at + CLEANUP_TIMEOUT;
        for key in self.cx.ledger.keys() {
            for slot in self.slots_where(key, |entry| entry.deletion == DeletionState::Open) {
                let heard_at = self.destructions.heard_at(self.host_of(slot.rung));
                let due = (heard_at.unwrap_or(started_at).max(started_at) + QUIET_TIMEOUT).min(last_at);
                if due <= now {
                    self.note_not_deleted(now, slot, Reason::Silence);
                }
                // The deletions that follow one that is given up have their own time.
                self.timers.set_sooner(Timer::Cleanup, due.max(now));
            }
            self.advance_destruction(now, key);
        }
    }

    fn host_of(&self, rung: Rung) -> Option<IpAddr> {
        match rung {
            Rung::Pcp | Rung::NatPmp => self.network.gateway(),
            Rung::Upnp(id) => self.drivers.upnp.host(id),
        }
    }

    /// Finishes the cleanup when no deletion is awaited any more.
    pub(super) fn finish_cleanup_if_done(&mut self, now: Time) {
        if !self.cx.is_cleaning_up() || self.destructions.is_finished || !self.destructions.by_key.is_empty()
        {
            return;
        }
        // This scans all entries, so it comes last.
        if self.cx.ledger.has_open_deletions() {
            return;
        }
        self.destructions.is_finished = true;
        self.timers = Timers::default();
        self.close_sockets();
        self.network = Network::default();
        self.start_drivers(now);
        self.cx.outputs.push_back(Output::Finished);
    }
}

fn is_failed_by_pcp(entry: &Entry) -> bool {
    entry.slot.rung == Rung::Pcp && entry.deletion == DeletionState::Failed
}

/// Whether an entry without a mapping is still to be deleted.
fn is_left_over(entry: &Entry) -> bool {
    matches!(entry.deletion, DeletionState::Unasked | DeletionState::Failed)
        || entry.deletion == DeletionState::Unawaited && entry.is_certain
}
