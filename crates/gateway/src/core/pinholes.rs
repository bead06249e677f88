//! The pinholes in the firewall for IPv6: one table for PCP and WANIPv6FirewallControl, as miniupnpd has it.

use super::{Protocol, Transport};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// What a pinhole lets through: of two pinholes one of these differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinholeKey {
    /// TCP or UDP.
    pub transport: Transport,
    /// The client's address.
    pub client: Ipv6Addr,
    /// The client's port.
    pub port: u16,
    /// The peer, as it was written; empty: any. What is no address lets nobody through.
    pub remote_host: String,
    /// The peer's port; 0: any.
    pub remote_port: u16,
}

impl PinholeKey {
    /// For every peer.
    pub const fn for_all(transport: Transport, client: Ipv6Addr, port: u16) -> PinholeKey {
        PinholeKey { transport, client, port, remote_host: String::new(), remote_port: 0 }
    }

    fn lets_in(&self, transport: Transport, from: SocketAddr, to: SocketAddrV6) -> bool {
        let is_peer = || self.remote_host.parse() == Ok(from.ip());
        self.transport == transport
            && (self.client, self.port) == (*to.ip(), to.port())
            && (self.remote_host.is_empty() || is_peer())
            && (self.remote_port == 0 || self.remote_port == from.port())
    }
}

/// One pinhole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinhole {
    /// What it lets through.
    pub key: PinholeKey,
    /// Its UniqueID.
    pub id: u16,
    /// Who made it first.
    pub made_by: Protocol,
    /// The nonce it was made or taken over with, if PCP knows it.
    pub nonce: Option<[u8; 12]>,
    /// How many packets came through.
    pub packets: u32,
    /// When it was made or renewed last, on the gateway's clock.
    pub granted_at: Duration,
    /// When it ends, on the gateway's clock.
    pub expires_at: Duration,
}

/// All pinholes, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Pinholes {
    all: Vec<Pinhole>,
    /// The UniqueID that was given last.
    last_id: u16,
}

impl Pinholes {
    /// Every pinhole, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Pinhole> {
        self.all.iter()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The pinhole that lets exactly this through.
    pub fn get(&self, key: &PinholeKey) -> Option<&Pinhole> {
        self.all.iter().find(|pinhole| pinhole.key == *key)
    }

    /// The pinhole that a UniqueID names: the oldest, where several have it.
    pub fn of_id(&self, id: u16) -> Option<&Pinhole> {
        self.all.iter().find(|pinhole| pinhole.id == id)
    }

    /// Makes a pinhole, or renews it until then; its UniqueID. A renewed one keeps UniqueID, maker and nonce, and takes the
    /// nonce where it had none.
    pub fn open(
        &mut self,
        key: PinholeKey,
        made_by: Protocol,
        nonce: Option<[u8; 12]>,
        granted_at: Duration,
        expires_at: Duration,
    ) -> u16 {
        if let Some(old) = self.all.iter_mut().find(|pinhole| pinhole.key == key) {
            (old.granted_at, old.expires_at, old.nonce) = (granted_at, expires_at, old.nonce.or(nonce));
            return old.id;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = self.last_id;
        self.all.push(Pinhole { key, id, made_by, nonce, packets: 0, granted_at, expires_at });
        id
    }

    /// Takes a pinhole out.
    pub fn remove(&mut self, key: &PinholeKey) -> Option<Pinhole> {
        let index = self.all.iter().position(|pinhole| pinhole.key == *key)?;
        Some(self.all.remove(index))
    }

    /// Takes all out; UniqueIDs go on.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Counts UniqueIDs from 1 again. Pinholes that were kept keep theirs, so that two may have the same, as with
    /// miniupnpd.
    pub fn restart(&mut self) {
        self.last_id = 0;
    }

    /// Takes out what has ended by `now`.
    pub fn expire(&mut self, now: Duration) {
        self.all.retain(|pinhole| pinhole.expires_at > now);
    }

    /// When the next pinhole ends.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.all.iter().map(|pinhole| pinhole.expires_at).min()
    }

    /// A packet comes from outside to a client: whether a pinhole lets it through, which counts it.
    pub fn let_in(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> bool {
        let IpAddr::V6(client) = to.ip() else { return false };
        let to = SocketAddrV6::new(client, to.port(), 0, 0);
        let mut fitting = self.all.iter_mut().filter(|pinhole| pinhole.key.lets_in(transport, from, to));
        let Some(pinhole) = fitting.next() else { return false };
        pinhole.packets = pinhole.packets.saturating_add(1);
        true
    }
}
