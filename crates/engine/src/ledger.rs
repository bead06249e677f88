//! What may be on a gateway because of us. Destroying a mapping and cleanup delete what stands here, and nothing else.
//!
//! An entry is made when a request is sent that could create or prolong it. It ends when the gateway has confirmed its
//! deletion, when the gateway has said that it does not exist, or when its latest time has passed. A refused renewal, a
//! refused deletion, an unreadable reply, a restart of the gateway or a change of protocol do not end it.

use super::driver::{Key, Rung, ServiceId, Slot};
use crate::ordered::{Map, Pieces};
use crate::time::Time;
use plum_wire::Transport;
use plum_wire::pcp::Nonce;
use std::net::IpAddr;
use std::time::Duration;

/// When a deletion is repeated that was refused or not answered, counted from the one before.
const REPEATS: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(3600)];

/// At most this many entries of one key: a gateway that assigns another port each time must not fill the memory.
const MAX_ENTRIES_OF_A_KEY: usize = 32;

/// At most this many services are remembered.
const MAX_REMEMBERED: usize = 64;

/// A gateway's hardware address, as the neighbour table has it.
pub type HardwareAddress = [u8; 6];

/// What tells one gateway from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address; `None`: the route has no next hop.
    pub address: Option<IpAddr>,
    /// Its hardware address, once it is known. The address alone does not tell two home networks apart.
    pub hardware: Option<HardwareAddress>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    gateway: Gateway,
    /// Where the hardware address is unknown, each time that a gateway becomes the present one it may be another one.
    visit: u32,
}

/// How the deletion of an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionState {
    /// None was sent.
    Unasked,
    /// One is under way, and its outcome is awaited.
    Open,
    /// One was sent that nobody waits for: the protocol has never been heard at this gateway.
    Unawaited,
    /// Refused, or not answered.
    Failed,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What its deletion hits.
    pub slot: Slot,
    place: Place,
    /// The address that it leads to: ours when it was made.
    pub client: IpAddr,
    /// Its external port, 0 where that is not known.
    port: u16,
    /// PCP's nonce; zero for the other protocols.
    pub nonce: Nonce,
    /// The latest time at which it may still live; `None`: it never ends by itself.
    pub ends_at: Option<Time>,
    /// The gateway has said that it made it. Else only the request is known.
    pub is_certain: bool,
    /// Requests that could make or prolong it and have not been answered.
    unanswered: u8,
    /// How its deletion stands.
    pub deletion: DeletionState,
    /// How often its deletion was refused or not answered.
    failures: u8,
}

impl Entry {
    /// Whether its latest time is still to come.
    pub fn is_alive(&self, now: Time) -> bool {
        self.ends_at.is_none_or(|ends_at| now < ends_at)
    }
}

/// All entries, of all gateways since the start.
#[derive(Debug)]
pub struct Ledger {
    entries: Map<Key, Vec<Entry>>,
    /// The key of each entry at the present gateway, by service, transport and external port.
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

/// What PCP and NAT-PMP make stands in the gateway's own table.
fn owner_word(rung: Rung, transport: Transport, port: u16) -> u64 {
    let table = match rung {
        Rung::Pcp | Rung::NatPmp => 0,
        Rung::Upnp(service) => 1 + u64::from(service.0),
    };
    table << 32 | (transport as u64) << 16 | u64::from(port)
}

impl Ledger {
    /// Another gateway is the present one. Entries of one that is known are ours to delete again; its hardware address
    /// decides, so those of a gateway without one stay where they are.
    pub fn arrive(&mut self, now: Time, gateway: Gateway) {
        self.drop_ended(now);
        // What was asked of the old gateway is not answered any more, or did not even go out.
        for entry in self.entries.values_mut().flatten() {
            entry.deletion = DeletionState::Unasked;
        }
        self.visits += 1;
        self.present = Place { gateway, visit: if gateway.hardware.is_some() { 0 } else { self.visits } };
        self.index_owners();
    }

    /// The hardware address of the present gateway has become known. An earlier gateway of the same addresses is the
    /// same one: its entries belong to the present one then.
    pub fn identify(&mut self, hardware: HardwareAddress) {
        let gateway = Gateway { hardware: Some(hardware), ..self.gateway() };
        let present = Place { gateway, visit: 0 };
        let before = std::mem::replace(&mut self.present, present);
        for entries in self.entries.values_mut() {
            for mut entry in entries.extract_if(.., |entry| entry.place == before).collect::<Vec<_>>() {
                entry.place = present;
                let is_same = |known: &Entry| known.place == present && known.slot == entry.slot;
                if let Some(index) = entries.iter().position(is_same) {
                    // It has been asked for again since.
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

    /// The id of the UPnP service with this identity: the same one whenever the service is found again.
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

    /// A request that could make or prolong an entry is sent; it may live until `ends_at`, or for ever.
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
            // Of what the gateway does not let be deleted one can be missed best, of what holds the mapping least.
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

    /// The gateway has granted an entry at an external port, for this long.
    pub fn note_granted(&mut self, now: Time, slot: Slot, port: u16, lifetime: Option<Duration>) {
        let Some(entry) = self.get_mut(slot) else { return };
        let ends_at = lifetime.map(|lifetime| now + lifetime);
        entry.is_certain = true;
        entry.unanswered = entry.unanswered.saturating_sub(1);
        entry.ends_at = if entry.unanswered == 0 { ends_at } else { later(entry.ends_at, ends_at) };
        self.own(slot, port);
    }

    /// The gateway has refused to make or prolong an entry. Where this was the only request, and there was no grant before,
    /// the gateway has nothing.
    pub fn note_refused(&mut self, slot: Slot) {
        let Some(entry) = self.get_mut(slot) else { return };
        entry.unanswered = entry.unanswered.saturating_sub(1);
        if entry.unanswered == 0 && !entry.is_certain {
            self.end(slot);
        }
    }

    /// The external port of an entry has become known.
    pub fn note_port(&mut self, slot: Slot, port: u16) {
        let found = Slot { port, ..slot };
        if let (Some(_), Some(_)) = (self.get(slot), self.get(found)) {
            return self.end(slot);
        }
        if let Some(entry) = self.get_mut(slot) {
            // A deletion of the unknown port has not met it.
            entry.deletion = DeletionState::Unasked;
            entry.slot = found;
            self.own(found, port);
        }
    }

    /// The entry is gone from the gateway, or another host's.
    pub fn end(&mut self, slot: Slot) {
        let place = self.present;
        self.own(slot, 0);
        let Some(entries) = self.entries.get_mut(&slot.key) else { return };
        entries.retain(|entry| entry.slot != slot || entry.place != place);
        if entries.is_empty() {
            self.entries.remove(&slot.key);
        }
    }

    /// The external port of an entry is another one.
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

    /// How the deletion of an entry stands from now on.
    pub fn set_deletion(&mut self, slot: Slot, deletion: DeletionState) {
        if let Some(entry) = self.get_mut(slot) {
            entry.deletion = deletion;
        }
    }

    /// Whether any deletion is open.
    pub fn has_open_deletions(&self) -> bool {
        self.entries.values().flatten().any(|entry| entry.deletion == DeletionState::Open)
    }

    /// A deletion was refused or not answered. When to send the next; `None`: never.
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

    /// The same, to be changed.
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

    /// The nonce that the PCP server at the present gateway's address knows a key by, if there was one.
    pub fn nonce(&self, key: Key) -> Option<Nonce> {
        let address = self.gateway().address;
        let is_of_server =
            |entry: &&Entry| entry.slot.rung == Rung::Pcp && entry.place.gateway.address == address;
        self.entries.get(&key)?.iter().rfind(is_of_server).map(|entry| entry.nonce)
    }

    /// The key whose entry at a UPnP service, or in the gateway's own table, has an external port, or may have it.
    pub fn owner(&self, service: ServiceId, transport: Transport, port: u16) -> Option<Key> {
        let owner = |rung| {
            let word = owner_word(rung, transport, port);
            let key = *self.owners.get(&word)?;
            let has = |entry: &Entry| port != 0 && owner_word(entry.slot.rung, transport, entry.port) == word;
            self.of(key).any(has).then_some(key)
        };
        owner(Rung::Upnp(service)).or_else(|| owner(Rung::Pcp))
    }

    /// Whether the present gateway has granted anything by a protocol that is not certain to be gone.
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
            // An open deletion has its outcome still to come.
            entries.retain(|entry| entry.deletion == DeletionState::Open || keep(entry));
            !entries.is_empty()
        });
        self.index_owners();
    }
}

/// The later of two ends; `None` is never.
fn later(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        _ => None,
    }
}
