//! What PCP and NAT-PMP make and remove in the port table.

use super::{AssignedPort, Gateway, Leases, Protocol, TableEntry, Transport};
use std::net::SocketAddr;
use std::time::Duration;

impl Gateway {
    /// Makes or renews the mapping that PCP or NAT-PMP asks for: its external port and lifetime, or `None`
    /// where there is no room. `internal` is the client's address with the internal port.
    pub(super) fn grant(
        &mut self,
        transport: Transport,
        internal: SocketAddr,
        suggested_port: u16,
        lifetime: u32,
        made_by: Protocol,
        nonce: Option<[u8; 12]>,
    ) -> Option<(u16, u32)> {
        let lifetime = self.granted_lifetime(lifetime);
        let is_beside = |m: &TableEntry| {
            let is_foreign = nonce.is_some() && m.nonce != nonce;
            self.faults.deletes_as_miniupnpd && is_foreign && m.external_port != suggested_port
        };
        let is_it = |m: &&TableEntry| self.is_seen_by(m, made_by) && !is_beside(m);
        let old = self.table.of_internal(transport, internal).find(is_it).cloned();
        let wanted = if suggested_port == 0 { internal.port() } else { suggested_port };
        let external_port = match (&old, self.faults.assigned_port) {
            (Some(old), _) => old.external_port,
            (None, AssignedPort::Exactly(0)) => return Some((0, lifetime)),
            (None, assigned) => self.assigned(transport, wanted, assigned)?,
        };
        if lifetime == 0 {
            self.table.remove(transport, external_port);
            return Some((external_port, 0));
        }
        if old.is_none() && self.table.len() >= self.config.max_mappings {
            return None;
        }
        let granted_at = self.now;
        let expires_at = Some(granted_at + Duration::from_secs(lifetime.into()));
        let mapping = match old {
            Some(old) => TableEntry { nonce: nonce.or(old.nonce), granted_at, expires_at, ..old },
            None => {
                let description = made_by.name().to_owned();
                TableEntry {
                    transport,
                    external_port,
                    internal,
                    made_by,
                    nonce,
                    description,
                    granted_at,
                    expires_at,
                }
            }
        };
        self.table.insert(mapping);
        Some((external_port, lifetime))
    }

    /// How long what PCP or NAT-PMP asks for is granted, in seconds.
    pub(super) fn granted_lifetime(&self, lifetime: u32) -> u32 {
        let longest = self.faults.max_lifetime.unwrap_or(u32::MAX);
        self.faults.lifetime.unwrap_or(lifetime).min(longest)
    }

    /// When an entry ends that UPnP makes or renews now for so many seconds; `old_end`: when it ended so far.
    pub(super) fn upnp_lease_end(&self, lease: u32, old_end: Option<Duration>) -> Option<Duration> {
        let granted = (lease > 0).then(|| Duration::from_secs(lease.into()));
        match (self.faults.leases, old_end) {
            (Leases::GoneAfter(most), _) => granted.map(|lease| self.now + lease.min(most)),
            (Leases::NotExtended, Some(at)) => granted.and(Some(at)),
            _ => granted.map(|lease| self.now + lease),
        }
    }

    /// A free external port for a mapping that would like `wanted`.
    pub(super) fn assigned(&self, transport: Transport, wanted: u16, assigned: AssignedPort) -> Option<u16> {
        let wanted = match assigned {
            AssignedPort::AsSuggested => wanted,
            AssignedPort::Offset(offset) => wanted.checked_add(offset).unwrap_or(1024),
            AssignedPort::Exactly(port) => port,
        };
        self.table.free_port(transport, wanted)
    }

    /// Whether a protocol works on the table that a mapping is in.
    pub(super) fn is_seen_by(&self, mapping: &TableEntry, protocol: Protocol) -> bool {
        !self.faults.tables_apart || (mapping.made_by == Protocol::Upnp) == (protocol == Protocol::Upnp)
    }

    /// Whether a deletion by a protocol removes a mapping of its client.
    pub(super) fn is_deleted_by(&self, mapping: &TableEntry, protocol: Protocol) -> bool {
        let is_of_others = self.faults.deletes_as_miniupnpd
            && protocol == Protocol::NatPmp
            && mapping.made_by != Protocol::NatPmp;
        !is_of_others && self.is_seen_by(mapping, protocol)
    }

    /// Removes every mapping of an internal address and port from the table that a protocol works on; gives back for how
    /// many seconds the port stays mapped still (RFC 6887 §15).
    pub(super) fn remove_internal(
        &mut self,
        transport: Transport,
        internal: SocketAddr,
        protocol: Protocol,
    ) -> u32 {
        let theirs = self.table.of_internal(transport, internal).filter(|m| self.is_deleted_by(m, protocol));
        let theirs: Vec<TableEntry> = theirs.cloned().collect();
        let left = self.faults.deletion_leaves.filter(|_| !theirs.is_empty()).unwrap_or(0);
        for mapping in theirs {
            self.table.remove(transport, mapping.external_port);
            if left > 0 {
                let ends_at = self.now + Duration::from_secs(left.into());
                let expires_at = Some(mapping.expires_at.map_or(ends_at, |at| at.min(ends_at)));
                self.table.insert(TableEntry { expires_at, ..mapping });
            }
        }
        left
    }
}
