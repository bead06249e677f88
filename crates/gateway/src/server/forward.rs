//! Forwarding: what is mapped is open outside, and leads inside, for as long as it is mapped.

use super::event_loop::Tokens;
use super::relay::{Pumped, TcpRelay, UdpRelay};
use crate::core::{Table, Transport};
use mio::net::{TcpListener, UdpSocket};
use mio::{Interest, Registry, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The most external ports open; further mappings are not forwarded.
const MAX_PORTS: usize = 256;
/// The most TCP connections forwarded at a time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 256;

/// An external port that is open.
struct Port {
    internal: SocketAddr,
    token: Token,
}

/// All external ports that are open, and what goes through them.
pub(super) struct Forwarder {
    on: IpAddr,
    table_changes: Option<u64>,
    ports: BTreeMap<(Transport, u16), Port>,
    listeners: BTreeMap<Token, (TcpListener, SocketAddr)>,
    udp: BTreeMap<Token, UdpRelay>,
    /// The inner sockets of `udp`, and whose they are.
    udp_inner: BTreeMap<Token, Token>,
    tcp: BTreeMap<Token, TcpRelay>,
    /// The inner stream's token of each of `tcp`, and its outer one.
    tcp_inner: BTreeMap<Token, Token>,
    /// Relays that stopped with more to do, so that others have their turn.
    unfinished: BTreeSet<Token>,
}

impl Forwarder {
    pub(super) fn new(on: IpAddr) -> Forwarder {
        Forwarder {
            on,
            table_changes: None,
            ports: BTreeMap::new(),
            listeners: BTreeMap::new(),
            udp: BTreeMap::new(),
            udp_inner: BTreeMap::new(),
            tcp: BTreeMap::new(),
            tcp_inner: BTreeMap::new(),
            unfinished: BTreeSet::new(),
        }
    }

    /// How long the thread may wait.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (!self.unfinished.is_empty()).then_some(Duration::ZERO)
    }

    /// Goes on with what was left unfinished.
    pub(super) fn go_on(&mut self, registry: &Registry, tokens: &mut Tokens) {
        for token in std::mem::take(&mut self.unfinished) {
            self.handle(registry, tokens, token);
        }
    }

    /// Opens what is mapped, and closes what is not any more.
    pub(super) fn follow(&mut self, registry: &Registry, tokens: &mut Tokens, table: &Table) {
        if self.table_changes == Some(table.changes()) {
            return;
        }
        self.table_changes = Some(table.changes());
        let stale = |(&(transport, number), port): (&(Transport, u16), &Port)| {
            let same = table.get(transport, number).is_some_and(|m| m.internal == port.internal);
            (!same).then_some((transport, number))
        };
        let stale: Vec<(Transport, u16)> = self.ports.iter().filter_map(stale).collect();
        for key in stale {
            self.close(key);
        }
        for mapping in table.iter() {
            let key = (mapping.transport, mapping.external_port);
            if !self.ports.contains_key(&key) && self.ports.len() < MAX_PORTS {
                self.open(registry, tokens, key, mapping.internal);
            }
        }
    }

    fn open(
        &mut self,
        registry: &Registry,
        tokens: &mut Tokens,
        key: (Transport, u16),
        internal: SocketAddr,
    ) {
        let outside = SocketAddr::new(self.on, key.1);
        let token = tokens.next();
        // A port that somebody else has here stays closed: the mapping exists, its bytes go astray.
        match key.0 {
            Transport::Tcp => {
                let Ok(mut listener) = TcpListener::bind(outside) else { return };
                if registry.register(&mut listener, token, Interest::READABLE).is_err() {
                    return;
                }
                self.listeners.insert(token, (listener, internal));
            }
            Transport::Udp => {
                let Ok(mut socket) = UdpSocket::bind(outside) else { return };
                if registry.register(&mut socket, token, Interest::READABLE).is_err() {
                    return;
                }
                self.udp.insert(token, UdpRelay::new(socket, internal));
            }
        }
        self.ports.insert(key, Port { internal, token });
    }

    fn close(&mut self, key: (Transport, u16)) {
        let Some(port) = self.ports.remove(&key) else { return };
        self.listeners.remove(&port.token);
        self.udp.remove(&port.token);
        self.udp_inner.retain(|_, outer| *outer != port.token);
        let through = |(&token, relay): (&Token, &TcpRelay)| (relay.listener == port.token).then_some(token);
        let through: Vec<Token> = self.tcp.iter().filter_map(through).collect();
        for token in through {
            self.end(token);
        }
    }

    /// Something happened at the socket of this token.
    pub(super) fn handle(&mut self, registry: &Registry, tokens: &mut Tokens, token: Token) {
        if self.listeners.contains_key(&token) {
            self.accept(registry, tokens, token);
        } else if let Some(relay) = self.udp.get_mut(&token) {
            let carried = relay.handle_outside(registry, tokens);
            self.udp_inner.extend(carried.made.into_iter().map(|inner| (inner, token)));
            for inner in carried.dropped {
                self.udp_inner.remove(&inner);
            }
            if carried.has_more {
                self.unfinished.insert(token);
            }
        } else if let Some(outer) = self.udp_inner.get(&token) {
            if self.udp.get_mut(outer).is_some_and(|relay| relay.handle_inside(token)) {
                self.unfinished.insert(token);
            }
        } else {
            let outer = self.tcp_inner.get(&token).copied().unwrap_or(token);
            self.pump(outer);
        }
    }

    fn accept(&mut self, registry: &Registry, tokens: &mut Tokens, token: Token) {
        let Some((listener, internal)) = self.listeners.get(&token) else { return };
        // An error is that none waits, or that there are no descriptors: at the next event again.
        while let Ok((outside, _)) = listener.accept() {
            if self.tcp.len() >= MAX_CONNECTIONS {
                continue;
            }
            let (outer, inner) = (tokens.next(), tokens.next());
            if let Ok(relay) = TcpRelay::start(registry, outside, *internal, outer, inner, token) {
                self.tcp.insert(outer, relay);
                self.tcp_inner.insert(inner, outer);
            }
        }
    }

    fn pump(&mut self, outer: Token) {
        let Some(relay) = self.tcp.get_mut(&outer) else { return };
        match relay.pump() {
            Pumped::Waits => {}
            Pumped::HasMore => drop(self.unfinished.insert(outer)),
            Pumped::IsOver => self.end(outer),
        }
    }

    fn end(&mut self, outer: Token) {
        if let Some(relay) = self.tcp.remove(&outer) {
            self.tcp_inner.remove(&relay.inner);
        }
        self.unfinished.remove(&outer);
    }
}
