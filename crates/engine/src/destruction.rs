//! Deletions and cleanup: nothing of ours is left on the gateway, and nobody waits long for it.

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
use crate::ordered::Map;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// DESTROYED is told after this, answered or not; cleanup waits for a host until this long after its last answer.
pub const QUIET_TIMEOUT: Duration = Duration::from_millis(800);

/// Cleanup never takes longer.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after the return to a gateway to delete what it has of mappings destroyed meanwhile.
const RETURN_WAIT: Duration = Duration::from_secs(5);

/// A gateway mapping that is being deleted.
#[derive(Debug)]
struct Destruction {
    /// The program's mappings that have not been told DESTROYED yet.
    ids: Vec<MappingId>,
    /// The entry that held the mapping: deleted first, the others after it.
    holder: Option<Slot>,
}

/// The mappings that are being destroyed, and deletions that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Destructions {
    by_key: Map<Key, Destruction>,
    is_finished: bool,
    /// When to repeat the deletions of a key that were refused or not answered.
    pub(super) repeats: Timers<Key>,
    /// Those of which nobody needs an entry: each is deleted in its turn.
    turns: Timers<Key>,
    /// When the pace has room for the next of them.
    free_at: Time,
    /// When each host answered last, if that was within the time that a cleanup may take.
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
    /// Something came from a host.
    pub(super) fn note_sign_of_life(&mut self, now: Time, host: IpAddr) {
        self.destructions.note_heard(now, host);
        // By now the neighbour table has the gateway's hardware address.
        if self.network.gateway() == Some(host) && std::mem::take(&mut self.network.hardware_wanted) {
            self.look_up_route();
        }
    }

    /// Ends one mapping of the program; the last of its key takes the gateway mapping with it.
    pub(super) fn destroy(&mut self, now: Time, id: MappingId) {
        let Some(key) = self.mappings.ids.remove(&id) else { return };
        let Some(mapping) = self.mappings.by_key.get_mut(&key) else { return };
        mapping.ids.remove(&id);
        if !mapping.ids.is_empty() {
            return self.tell(id, Event::Destroyed);
        }
        let Some(mut mapping) = self.mappings.by_key.remove(&key) else { return };
        self.mappings.seeking.remove(&key);
        self.timers.cancel(Timer::Mapping(key));
        if self.cx.is_cleaning_up() && self.cx.config.on_cleanup == OnCleanup::Keep {
            // A mapping that is made stays at the gateway, for its lifetime: what holds it is not ours to delete any more,
            // nor what could hit that.
            for slot in self.slots_where(key, |entry| self.could_hit_holder(entry.slot, &mapping)) {
                self.cx.ledger.end(slot);
            }
        }
        let holder = mapping.hold().map(|hold| hold.slot);
        let asked = mapping.ladder.take_asked();
        for rung in asked.into_iter().chain(holder.map(|slot| slot.rung)) {
            with_driver!(self, now, rung.protocol(), leave(key, rung));
        }
        // What was refused while the mapping lived is asked once more.
        for slot in self.slots_where(key, |entry| matches!(entry.deletion, DeletionState::Failed)) {
            self.cx.ledger.set_deletion(slot, DeletionState::Unasked);
        }
        self.destructions.by_key.insert(key, Destruction { ids: vec![id], holder });
        self.timers.set(Timer::Destruction(key), now + QUIET_TIMEOUT);
        self.advance_destruction(now, key);
    }

    /// Sends the deletions whose turn it is; when none is open any more, DESTROYED is told.
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

    /// Deletes an entry. An answer is awaited where the protocol was ever heard at this gateway: it has made the entry, say.
    fn delete(&mut self, now: Time, slot: Slot) {
        let protocol = slot.rung.protocol();
        let protocols = &self.cx.protocols;
        let is_closed =
            matches!(protocols.state(protocol), ProtocolState::Out { reason: Reason::PortClosed, .. });
        let was_heard = |entry: &Entry| entry.is_certain || protocols.of(protocol).heard_at.is_some();
        let awaited = !is_closed && self.cx.ledger.get(slot).is_some_and(was_heard);
        let deletion = if awaited { DeletionState::Open } else { DeletionState::Unawaited };
        if let Some(mapping) = self.mappings.by_key.get_mut(&slot.key) {
            // What is made meanwhile by another rung could be hit.
            mapping.confirm |= matches!(mapping.state, MappingState::Seeking { .. });
        }
        self.cx.ledger.set_deletion(slot, deletion);
        with_driver!(self, now, protocol, delete(slot, awaited));
    }

    /// A grant is of no use: its entry is deleted, unless that could hit what stands.
    pub(super) fn delete_unless_hit(&mut self, now: Time, slot: Slot) {
        let mapping = self.mappings.by_key.get(&slot.key);
        let is_deleted =
            self.cx.ledger.get(slot).is_none_or(|entry| entry.deletion != DeletionState::Unasked);
        if !is_deleted && mapping.is_none_or(|mapping| !self.could_hit_holder(slot, mapping)) {
            self.delete(now, slot);
        }
    }

    /// Deletes the entries of a key that nobody needs, in the pace.
    pub(super) fn delete_superfluous(&mut self, now: Time, key: Key) {
        if self.destructions.by_key.contains_key(&key) {
            self.advance_destruction(now, key);
        } else if !self.superfluous(now, key).is_empty() {
            self.destructions.turns.set(key, now);
            self.timers.set_sooner(Timer::Repeat, now.max(self.destructions.free_at));
        }
    }

    /// The entries of a key that nobody needs, as far as their deletion cannot hit the one that holds its mapping.
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

    /// Whether the deletion of an entry could remove the one that holds the mapping: a UPnP deletion hits the external
    /// port, a PCP or NAT-PMP deletion the internal one, and a gateway may keep one table for all protocols.
    fn could_hit_holder(&self, slot: Slot, mapping: &GatewayMapping) -> bool {
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
                // Where the gateway chose the port, it is most likely the holder's.
                Rung::Upnp(_) if slot.port == 0 => slot.rung == hold.slot.rung,
                Rung::Upnp(_) => slot.port == hold.external.port.get(),
                Rung::Pcp | Rung::NatPmp => true,
            }
    }

    /// A driver's deletion is answered, or given up.
    pub(super) fn handle_deleted(&mut self, now: Time, slot: Slot, outcome: DeletionOutcome) {
        let key = slot.key;
        match outcome {
            // Of an entry that was asked for again since: that answer shows what is there.
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
            DeletionOutcome::NotConfirmed(reason) => self.note_not_deleted(now, slot, reason),
        }
        self.advance_destruction(now, key);
    }

    fn note_not_deleted(&mut self, now: Time, slot: Slot, reason: Reason) {
        let key = slot.key;
        let holder = self.destructions.by_key.get(&key).and_then(|destruction| destruction.holder);
        let ledger = &self.cx.ledger;
        let is_certain = ledger.get(slot).is_some_and(|entry| entry.is_certain);
        let was_after_holder =
            holder.map_or(!is_certain, |holder| holder != slot && ledger.get(holder).is_none());
        if was_after_holder && reason == (Reason::Result { protocol: Protocol::Pcp, code: 8 }) {
            // NO_RESOURCES after the holder's deletion: in one table there was nothing else.
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

    /// What was refused, or not answered, is deleted once more, unless the key has a mapping again; and what nobody needs has
    /// its turn.
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
                // As a rule it is two requests: some are sent again, or follow a look.
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

    /// The present gateway was here before: what it has of mappings that were destroyed meanwhile is deleted, once its
    /// services are found.
    pub(super) fn delete_left_over(&mut self, now: Time) {
        for key in self.cx.ledger.keys() {
            if !self.mappings.by_key.contains_key(&key) && !self.slots_where(key, is_left_over).is_empty() {
                self.repeat_at(key, now + RETURN_WAIT);
            }
        }
    }

    /// An ending is over: those that were not told DESTROYED are told now.
    pub(super) fn end_destruction(&mut self, key: Key) {
        self.handle_destruction_timer(key);
        self.destructions.by_key.remove(&key);
        self.timers.cancel(Timer::Destruction(key));
    }

    /// All destructions are over: the gateway cannot be reached any more, and is remembered with what it may have.
    pub(super) fn abandon_destructions(&mut self) {
        for key in self.destructions.by_key.keys() {
            self.end_destruction(key);
        }
    }

    /// The deletion is not answered in time: the program is told, the deletion goes on without it.
    pub(super) fn handle_destruction_timer(&mut self, key: Key) {
        let Some(destruction) = self.destructions.by_key.get_mut(&key) else { return };
        for id in std::mem::take(&mut destruction.ids) {
            self.tell(id, Event::Destroyed);
        }
    }

    /// The program ends: every mapping is removed, unless it is to be kept, then `Output::Finished` comes.
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
        self.timers.set(Timer::Cleanup, now + QUIET_TIMEOUT);
        self.settle(now);
    }

    /// Cleanup waits for each host until 0.8 s after its last answer, and for all of them 5 s at most.
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
                // What follows a deletion that is given up is looked at once more.
                self.timers.set_sooner(Timer::Cleanup, due.max(now));
            }
            self.advance_destruction(now, key);
        }
    }

    /// The host that a rung's requests go to.
    fn host_of(&self, rung: Rung) -> Option<IpAddr> {
        match rung {
            Rung::Pcp | Rung::NatPmp => self.network.gateway(),
            Rung::Upnp(id) => self.drivers.upnp.host(id),
        }
    }

    /// Cleanup is over when nothing is awaited any more.
    pub(super) fn finish_cleanup_if_done(&mut self, now: Time) {
        if !self.cx.is_cleaning_up() || self.destructions.is_finished || !self.destructions.by_key.is_empty()
        {
            return;
        }
        // All entries are looked at: only now, when nothing else is left.
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

/// Whether an entry that no mapping needs is to be deleted still.
fn is_left_over(entry: &Entry) -> bool {
    matches!(entry.deletion, DeletionState::Unasked | DeletionState::Failed)
}
