//! The entries that may exist on a gateway because of us. Destroying a mapping and cleanup delete these entries, and no
//! others.
//!
//! An entry is recorded before a request is sent that could create or prolong it. It ends when the gateway confirms its
//! deletion, when the gateway reports that it does not exist, when its only request was refused, or when its latest time
//! has passed; the 33rd entry of one key pushes out another. Refused renewals,
//! refused deletions, unreadable replies, restarts of the gateway and changes of protocol do not end it.

use super::driver::{Key, Rung, ServiceId, Slot};
use crate::ordered::{Map, Pieces};
use crate::time::Time;
use plum_wire::Transport;
use plum_wire::pcp::Nonce;
use std::net::IpAddr;
use std::time::Duration;

/// When a refused or unanswered deletion is repeated, counted from the previous one.
const REPEATS: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(3600)];

/// Entries of one key, at most: a gateway that assigns another port each time must not fill the memory.
const MAX_ENTRIES_OF_A_KEY: usize = 32;

/// UPnP services remembered, at most.
const MAX_REMEMBERED: usize = 64;

/// The hardware address of a gateway, from the neighbour table.
pub type HardwareAddress = [u8; 6];

/// The identity of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address; `None`: the route has no next hop.
    pub address: Option<IpAddr>,
    /// Its hardware address, if known. The IP address alone does not distinguish two home networks.
    pub hardware: Option<HardwareAddress>,
}

/// The gateway that has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    gateway: Gateway,
    /// The number of the visit if the hardware address is unknown: each visit may be to another gateway.
    visit: u32,
}

/// The state of the deletion of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionState {
    /// No deletion was sent.
    Unasked,
    /// A deletion is in flight, and its outcome is awaited.
    Open,
    /// A deletion was sent and its outcome is not awaited: the protocol was never heard at this gateway.
    Unawaited,
    /// The deletion was refused or not answered.
    Failed,
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// What its deletion removes.
    pub slot: Slot,
    place: Place,
    /// The internal address: our address when it was requested.
    pub client: IpAddr,
    /// The external port; 0: not known.
    port: u16,
    /// The PCP nonce; zero for the other protocols.
    pub nonce: Nonce,
    /// The latest time at which it may still exist; `None`: permanent.
    pub ends_at: Option<Time>,
    /// The gateway has granted it. Otherwise it was only requested.
    pub is_certain: bool,
    /// Unanswered requests that could create or prolong it.
    unanswered: u8,
    /// The state of its deletion.
    pub deletion: DeletionState,
    /// How many deletions were refused or not answered.
    failures: u8,
}

impl Entry {
    /// Whether it may still exist at `now`.
    pub fn is_alive(&self, now: Time) -> bool {
        self.ends_at.is_none_or(|ends_at| now < ends_at)
    }
}

/// The entries of all gateways since the start.
#[derive(Debug)]
pub struct Ledger {
    entries: Map<Key, Vec<Entry>>,
    /// The key of each entry at the present gateway, by table, transport and external port.
    owners: Map<u64, Key>,
    present: Place,
    /// How often a gateway became the present one.
    visits: u32,
    /// The identities of UPnP services; the index is the [`ServiceId`].
    services: Vec<String>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        let nowhere = Gateway { address: None, hardware: None };
        Ledger {
            entries: Map::new(),
            owners: Map::new(),
            present: Place { gateway: nowhere, visit: 0 },
            visits: 0,
            services: Vec::new(),
        }
    }
}

/// The index of an entry in `owners`. PCP and NAT-PMP share the gateway's own table.
fn owner_word(rung: Rung, transport: Transport, port: u16) -> u64 {
    let table = match rung {
        Rung::Pcp | Rung::NatPmp => 0,
        Rung::Upnp(service) => 1 + u64::from(service.0),
    };
    table << 32 | (transport as u64) << 16 | u64::from(port)
}

impl Ledger {
    /// Makes another gateway the present one. Entries of a known gateway become deletable again. The hardware address
    /// decides whether it is known, so entries of a gateway without one stay with their visit.
    pub fn arrive(&mut self, now: Time, gateway: Gateway) {
        self.drop_ended(now);
        // Deletions sent to the old gateway will not be answered any more.
        for entry in self.entries.values_mut().flatten() {
            entry.deletion = DeletionState::Unasked;
        }
        self.visits += 1;
        self.present = Place { gateway, visit: if gateway.hardware.is_some() { 0 } else { self.visits } };
        self.index_owners();
    }

    /// Records the hardware address of the present gateway. Entries of an earlier gateway with the same addresses
    /// belong to the present one then.
    pub fn identify(&mut self, hardware: HardwareAddress) {
        let gateway = Gateway { hardware: Some(hardware), ..self.gateway() };
        let present = Place { gateway, visit: 0 };
        let before = std::mem::replace(&mut self.present, present);
        for entries in self.entries.values_mut() {
            for mut entry in entries.extract_if(.., |entry| entry.place == before).collect::<Vec<_>>() {
                entry.place = present;
                let is_same = |known: &Entry| known.place == present && known.slot == entry.slot;
                if let Some(index) = entries.iter().position(is_same) {
                    // The entry was requested again during this visit.
                    let known = entries.remove(index);
                    entry.ends_at = later(known.ends_at, entry.ends_at);
                    entry.is_certain |= known.is_certain;
                }
                entries.push(entry);
            }
        }
        self.index_owners();
    }

    /// The present gateway.
    pub fn gateway(&self) -> Gateway {
        self.present.gateway
    }

    fn index_owners(&mut self) {
        self.owners.clear();
        for (key, entries) in self.entries.iter() {
            for entry in entries.iter().filter(|entry| entry.place == self.present) {
                self.owners.insert(owner_word(entry.slot.rung, key.transport, entry.port), key);
            }
        }
    }

    /// The id of the UPnP service with this identity; stable when the service is found again.
    pub fn service_id(&mut self, identity: &str) -> ServiceId {
        let index = self.services.iter().position(|known| known == identity).unwrap_or_else(|| {
            if self.services.len() < MAX_REMEMBERED {
                self.services.push(identity.to_owned());
                return self.services.len() - 1;
            }
            let is_used = |index: usize| {
                let rung = Rung::Upnp(ServiceId(index as u16));
                self.entries.values().flatten().any(|entry| entry.slot.rung == rung)
            };
            let index = (0..MAX_REMEMBERED).find(|&index| !is_used(index)).unwrap_or(0);
            self.services[index] = identity.to_owned();
            index
        });
        ServiceId(index as u16)
    }

    /// Records that a request is sent that could create or prolong an entry until `ends_at`; `None`: for ever.
    pub fn note_sent(&mut self, slot: Slot, client: IpAddr, nonce: Nonce, ends_at: Option<Time>) {
        let place = self.present;
        let entries = self.entries.get_or_insert_with(slot.key, Vec::new);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.slot == slot && entry.place == place) {
            entry.ends_at = later(entry.ends_at, ends_at);
            entry.client = client;
            entry.nonce = nonce;
            entry.unanswered = entry.unanswered.saturating_add(1);
            (entry.deletion, entry.failures) = (DeletionState::Unasked, 0);
            let port = if slot.port == 0 { entry.port } else { slot.port };
            return self.own(slot, port);
        }
        if entries.len() >= MAX_ENTRIES_OF_A_KEY {
            // Drops the oldest entry whose deletion failed, else the oldest that is not certain.
            let is_hopeless = |entry: &Entry| (entry.deletion == DeletionState::Failed, !entry.is_certain);
            let oldest = (0..entries.len()).rev().max_by_key(|&n| is_hopeless(&entries[n]));
            entries.remove(oldest.unwrap_or(0));
        }
        entries.push(Entry {
            slot,
            place,
            client,
            port: 0,
            nonce,
            ends_at,
            is_certain: false,
            unanswered: 1,
            deletion: DeletionState::Unasked,
            failures: 0,
        });
        self.own(slot, slot.port);
    }

    /// Records a grant of an entry at an external port.
    pub fn note_granted(&mut self, now: Time, slot: Slot, port: u16, lifetime: Option<Duration>) {
        let Some(entry) = self.get_mut(slot) else { return };
        let ends_at = lifetime.map(|lifetime| now + lifetime);
        entry.is_certain = true;
        entry.unanswered = entry.unanswered.saturating_sub(1);
        entry.ends_at = if entry.unanswered == 0 { ends_at } else { later(entry.ends_at, ends_at) };
        self.own(slot, port);
    }

    /// Records a refusal to create or prolong an entry. If this was the only request and there was no grant before, the
    /// gateway has no entry.
    pub fn note_refused(&mut self, slot: Slot) {
        let Some(entry) = self.get_mut(slot) else { return };
        entry.unanswered = entry.unanswered.saturating_sub(1);
        if entry.unanswered == 0 && !entry.is_certain {
            self.end(slot);
        }
    }

    /// Records the external port of an entry that was requested without one.
    pub fn note_port(&mut self, slot: Slot, port: u16) {
        let found = Slot { port, ..slot };
        if let (Some(_), Some(_)) = (self.get(slot), self.get(found)) {
            return self.end(slot);
        }
        if let Some(entry) = self.get_mut(slot) {
            // A deletion of the unknown port did not remove it.
            entry.deletion = DeletionState::Unasked;
            entry.slot = found;
            self.own(found, port);
        }
    }

    /// Ends an entry: it is gone from the gateway, or belongs to another host.
    pub fn end(&mut self, slot: Slot) {
        let place = self.present;
        self.own(slot, 0);
        let Some(entries) = self.entries.get_mut(&slot.key) else { return };
        entries.retain(|entry| entry.slot != slot || entry.place != place);
        if entries.is_empty() {
            self.entries.remove(&slot.key);
        }
    }

    /// Sets the external port of an entry.
    fn own(&mut self, slot: Slot, port: u16) {
        let Some(entry) = self.get_mut(slot) else { return };
        let word = |port| owner_word(slot.rung, slot.key.transport, port);
        let before = word(std::mem::replace(&mut entry.port, port));
        if self.owners.get(&before) == Some(&slot.key) {
            self.owners.remove(&before);
        }
        if port != 0 {
            self.owners.insert(word(port), slot.key);
        }
    }

    /// Sets the state of the deletion of an entry.
    pub fn set_deletion(&mut self, slot: Slot, deletion: DeletionState) {
        if let Some(entry) = self.get_mut(slot) {
            entry.deletion = deletion;
        }
    }

    /// Whether any deletion is open.
    pub fn has_open_deletions(&self) -> bool {
        self.entries.values().flatten().any(|entry| entry.deletion == DeletionState::Open)
    }

    /// Records a refused or unanswered deletion. Returns how long to wait before the next; `None`: there is none.
    pub fn note_not_deleted(&mut self, slot: Slot) -> Option<Duration> {
        let entry = self.get_mut(slot)?;
        entry.deletion = DeletionState::Failed;
        let wait = REPEATS.get(usize::from(entry.failures)).copied();
        entry.failures = entry.failures.saturating_add(1);
        wait
    }

    /// The entry of a slot at the present gateway.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.of(slot.key).find(|entry| entry.slot == slot)
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let place = self.present;
        let entries = self.entries.get_mut(&slot.key)?;
        entries.iter_mut().find(|entry| entry.slot == slot && entry.place == place)
    }

    /// The entries of a key at the present gateway.
    pub fn of(&self, key: Key) -> impl Iterator<Item = &Entry> {
        let place = self.present;
        self.entries.get(&key).into_iter().flatten().filter(move |entry| entry.place == place)
    }

    /// The keys of all entries.
    pub fn keys(&self) -> Pieces<Key> {
        self.entries.keys()
    }

    /// The nonce of the last PCP entry of a key at the address of the present gateway.
    pub fn nonce(&self, key: Key) -> Option<Nonce> {
        let address = self.gateway().address;
        let is_of_server =
            |entry: &&Entry| entry.slot.rung == Rung::Pcp && entry.place.gateway.address == address;
        self.entries.get(&key)?.iter().rfind(is_of_server).map(|entry| entry.nonce)
    }

    /// The key whose entry has, or may have, an external port at a UPnP service or in the gateway's own table.
    pub fn owner(&self, service: ServiceId, transport: Transport, port: u16) -> Option<Key> {
        let owner = |rung| {
            let word = owner_word(rung, transport, port);
            let key = *self.owners.get(&word)?;
            let has = |entry: &Entry| port != 0 && owner_word(entry.slot.rung, transport, entry.port) == word;
            self.of(key).any(has).then_some(key)
        };
        owner(Rung::Upnp(service)).or_else(|| owner(Rung::Pcp))
    }

    /// Whether an entry granted by a rung may still exist at the present gateway.
    pub fn has_granted(&self, rung: Rung) -> bool {
        let is_grant =
            |entry: &Entry| entry.slot.rung == rung && entry.place == self.present && entry.is_certain;
        self.entries.values().flatten().any(is_grant)
    }

    /// Drops the entries whose latest time has passed.
    pub fn drop_ended(&mut self, now: Time) {
        self.retain(|entry| entry.is_alive(now));
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entries| {
            // The outcome of an open deletion is still to come.
            entries.retain(|entry| entry.deletion == DeletionState::Open || keep(entry));
            !entries.is_empty()
        });
        self.index_owners();
    }
}

/// The later of two times; `None`: never.
fn later(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        _ => None,
    }
}
