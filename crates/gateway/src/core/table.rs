//! The port table: one for all protocols, as miniupnpd has it.
//!
//! An external port belongs to one mapping, whoever asked for it and how. So what one protocol deletes, the
//! others have lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The transport whose port is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Transport {
    /// `TCP` or `UDP`, as UPnP writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        }
    }

    /// Reads `TCP` or `UDP`, in any case.
    pub fn parse(text: &str) -> Option<Transport> {
        [Transport::Tcp, Transport::Udp].into_iter().find(|t| t.name().eq_ignore_ascii_case(text))
    }
}

/// Who made a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP IGD 1 or 2.
    Upnp,
    /// Put there by the script: somebody else's.
    Script,
}

impl Protocol {
    /// What the table calls a mapping that came without a description.
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Pcp => "PCP",
            Protocol::NatPmp => "NAT-PMP",
            Protocol::Upnp => "UPnP-IGD",
            Protocol::Script => "script",
        }
    }
}

/// One entry of the port table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port outside.
    pub external_port: u16,
    /// Address and port inside.
    pub internal: SocketAddr,
    /// Who made it first.
    pub made_by: Protocol,
    /// The nonce it was made or taken over with, if PCP knows it.
    pub nonce: Option<[u8; 12]>,
    /// What UPnP was told to call it.
    pub description: String,
    /// When it was made or renewed last, on the gateway's clock.
    pub granted_at: Duration,
    /// When it ends, on the gateway's clock; `None`: never.
    pub expires_at: Option<Duration>,
}

/// All mappings, found by external port, by internal address and by expiry.
#[derive(Clone, Debug, Default)]
pub struct Table {
    by_external: BTreeMap<(Transport, u16), TableEntry>,
    by_internal: BTreeMap<(Transport, IpAddr, u16), BTreeSet<u16>>,
    by_expiry: BTreeSet<(Duration, Transport, u16)>,
    changes: u64,
    expired: VecDeque<TableEntry>,
}

impl Table {
    /// How many expired mappings are kept for [`Table::pop_expired`].
    const KEPT: usize = 1000;

    /// Every mapping, in the order of transport and external port.
    pub fn iter(&self) -> impl Iterator<Item = &TableEntry> {
        self.by_external.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_external.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_external.is_empty()
    }

    /// How often the table has changed: whoever mirrors it compares this number.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The mapping of an external port.
    pub fn get(&self, transport: Transport, external_port: u16) -> Option<&TableEntry> {
        self.by_external.get(&(transport, external_port))
    }

    /// The mappings of an internal address and port, lowest external port first.
    pub fn of_internal(
        &self,
        transport: Transport,
        internal: SocketAddr,
    ) -> impl Iterator<Item = &TableEntry> {
        self.by_internal
            .get(&(transport, internal.ip(), internal.port()))
            .into_iter()
            .flatten()
            .filter_map(move |&port| self.get(transport, port))
    }

    /// Puts a mapping in, in place of any with the same transport and external port.
    pub fn insert(&mut self, mapping: TableEntry) {
        self.remove(mapping.transport, mapping.external_port);
        let key = (mapping.transport, mapping.external_port);
        let internal = (mapping.transport, mapping.internal.ip(), mapping.internal.port());
        self.by_internal.entry(internal).or_default().insert(mapping.external_port);
        if let Some(at) = mapping.expires_at {
            self.by_expiry.insert((at, key.0, key.1));
        }
        self.by_external.insert(key, mapping);
        self.changes += 1;
    }

    /// Takes a mapping out.
    pub fn remove(&mut self, transport: Transport, external_port: u16) -> Option<TableEntry> {
        let mapping = self.by_external.remove(&(transport, external_port))?;
        let internal = (transport, mapping.internal.ip(), mapping.internal.port());
        if let Some(ports) = self.by_internal.get_mut(&internal) {
            ports.remove(&external_port);
            if ports.is_empty() {
                self.by_internal.remove(&internal);
            }
        }
        if let Some(at) = mapping.expires_at {
            self.by_expiry.remove(&(at, transport, external_port));
        }
        self.changes += 1;
        Some(mapping)
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.by_external.clear();
        self.by_internal.clear();
        self.by_expiry.clear();
        self.changes += 1;
    }

    /// Takes out what has ended by `now`.
    pub fn expire(&mut self, now: Duration) {
        while let Some(&(at, transport, external_port)) = self.by_expiry.first() {
            if at > now {
                break;
            }
            let Some(mapping) = self.remove(transport, external_port) else { continue };
            self.expired.push_back(mapping);
            if self.expired.len() > Table::KEPT {
                self.expired.pop_front();
            }
        }
    }

    /// The next of the mappings that have run out, in their order (of the latest 1000).
    pub fn pop_expired(&mut self) -> Option<TableEntry> {
        self.expired.pop_front()
    }

    /// When the next mapping ends.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.by_expiry.first().map(|&(at, ..)| at)
    }

    /// The first free external port from `wanted` upward, going on at 1024 after 65535.
    pub fn free_port(&self, transport: Transport, wanted: u16) -> Option<u16> {
        let wanted = wanted.max(1);
        (wanted..=u16::MAX).chain(1024..wanted).find(|&port| self.get(transport, port).is_none())
    }
}
