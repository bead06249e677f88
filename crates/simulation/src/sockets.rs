//! The open sockets of all engines.

use crate::invariants::Flight;
use plum_engine::io::{EngineId, Socket, SocketId};
use plum_engine::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// docs/protocols.md, IPv6: engines for 8 addresses at once; as many may be deleting what they have left.
const MOST_ENGINES: usize = 16;

/// The numbers from here on are those of listeners, which several engines use.
const FIRST_LISTENER: u32 = 1 << 31;

/// The open sockets, and the requests of each engine that wait for an answer.
#[derive(Default)]
pub struct Sockets {
    open: BTreeMap<SocketId, (IpAddr, u32)>,
    /// The router and its interface that was asked last from each address.
    routers: BTreeMap<IpAddr, (IpAddr, u32)>,
    /// When something came to each engine last.
    heard_at: BTreeMap<EngineId, Time>,
    flights: BTreeMap<EngineId, Flight>,
    most_engines: usize,
    /// A listener could not be opened: who listens to the next one is not known.
    lacked_listener: bool,
}

fn is_listener(socket: Socket) -> bool {
    matches!(socket, Socket::Announcements | Socket::Notifications)
}

impl Sockets {
    /// A socket is to be opened.
    pub fn open(&mut self, id: SocketId, local: IpAddr, interface: u32, remote: Option<SocketAddr>) {
        if let (Socket::Pcp, Some(remote)) = (id.socket, remote) {
            self.routers.insert(local, (remote.ip(), interface));
        }
        let is_shared = id.engine.0 >= FIRST_LISTENER;
        let is_right = is_shared == (is_listener(id.socket) && local.is_ipv6());
        assert!(is_right, "listeners: {id:?} at {local}");
        self.open.insert(id, (local, interface));
        let engines: BTreeSet<EngineId> = self
            .open
            .keys()
            .map(|id| id.engine)
            .filter(|engine| (1..FIRST_LISTENER).contains(&engine.0))
            .collect();
        assert!(engines.len() <= MOST_ENGINES, "engines: {engines:?} at once");
        self.most_engines = self.most_engines.max(engines.len());
    }

    /// It is open, or could not be opened.
    pub fn note_opened(&mut self, id: SocketId, local: Option<SocketAddr>) {
        if local.is_none() {
            self.open.remove(&id);
            self.lacked_listener |= is_listener(id.socket);
        }
    }

    /// It is to be closed.
    pub fn close(&mut self, id: SocketId) {
        let interface = self.open.remove(&id).map(|(_, interface)| interface);
        if is_listener(id.socket) && !self.lacked_listener {
            let is_user = |(other, (local, on)): (&SocketId, &(IpAddr, u32))| {
                other.socket == Socket::Pcp && local.is_ipv6() && Some(*on) == interface
            };
            let is_needed = id.engine.0 >= FIRST_LISTENER && id.socket == Socket::Announcements;
            let is_used = is_needed && self.open.iter().any(is_user);
            assert!(!is_used, "listeners: {id:?} is closed, but others listen to it");
        }
        if id.socket == Socket::Pcp {
            self.flights.remove(&id.engine);
            self.heard_at.remove(&id.engine);
        }
    }

    /// The router that was asked last from an address, and its interface.
    pub fn router_of(&self, local: IpAddr) -> Option<(IpAddr, u32)> {
        self.routers.get(&local).copied()
    }

    /// Something comes to an engine.
    pub fn note_heard(&mut self, now: Time, engine: EngineId) {
        self.heard_at.insert(engine, now);
    }

    /// When the engine for IPv6 that has heard nothing for the longest time heard something.
    pub fn heard_ipv6_at(&self) -> Option<Time> {
        let at = |id: &SocketId| self.heard_at.get(&id.engine).copied().unwrap_or(Time::ZERO);
        let is_asking = |id: &&SocketId| id.socket == Socket::Pcp && id.engine != EngineId::IPV4;
        self.open.keys().filter(is_asking).map(at).min()
    }

    /// The address and the interface of an open socket.
    pub fn local(&self, id: SocketId) -> (IpAddr, u32) {
        *self.open.get(&id).unwrap_or_else(|| panic!("sockets: {id:?} is not open"))
    }

    /// What an engine has asked.
    pub fn flight(&mut self, engine: EngineId) -> &mut Flight {
        self.flights.entry(engine).or_default()
    }

    /// The most engines for IPv6 that had sockets at once.
    pub fn most_engines(&self) -> usize {
        self.most_engines
    }

    /// After the end of all engines.
    pub fn assert_all_closed(&self) {
        assert!(self.open.is_empty(), "sockets: open after Finished: {:?}", self.open);
    }
}
