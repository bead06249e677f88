//! What carries bytes between outside and inside: one TCP connection, or all peers of one UDP port.

use super::event_loop::Tokens;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

/// How much of one direction is held.
const BUFFER: usize = 64 * 1024;
/// How often a relay may fill or empty a buffer before others have their turn.
const TURNS: usize = 64;
/// How many peers of one UDP port are remembered; the one longest idle makes room.
const MAX_PEERS: usize = 64;

/// How a relay stands after it was looked after.
pub(super) enum Pumped {
    /// Its sockets tell when there is more to do.
    Waits,
    /// It has had its turn, and has more to do.
    HasMore,
    /// Both directions are at their end, or one side broke.
    IsOver,
}

/// A TCP connection through the gateway.
pub(super) struct TcpRelay {
    /// The listener it came by.
    pub listener: Token,
    /// The token of the stream inside.
    pub inner: Token,
    outside: TcpStream,
    inside: TcpStream,
    inward: Direction,
    outward: Direction,
}

#[derive(Default)]
struct Direction {
    held: Vec<u8>,
    /// The source has said all.
    at_end: bool,
    /// And the other side was told.
    ended: bool,
}

impl TcpRelay {
    /// Connects an accepted connection to the inside.
    pub(super) fn start(
        registry: &Registry,
        mut outside: TcpStream,
        internal: SocketAddr,
        outer: Token,
        inner: Token,
        listener: Token,
    ) -> io::Result<TcpRelay> {
        let mut inside = TcpStream::connect(internal)?;
        let interests = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut outside, outer, interests)?;
        registry.register(&mut inside, inner, interests)?;
        let (inward, outward) = (Direction::default(), Direction::default());
        Ok(TcpRelay { listener, inner, outside, inside, inward, outward })
    }

    /// Moves bytes both ways, as far as that goes without waiting.
    pub(super) fn pump(&mut self) -> Pumped {
        for _ in 0..TURNS {
            let inward = self.inward.pump(&mut self.outside, &mut self.inside);
            let outward = self.outward.pump(&mut self.inside, &mut self.outside);
            let (Ok(inward), Ok(outward)) = (inward, outward) else { return Pumped::IsOver };
            if self.inward.ended && self.outward.ended {
                return Pumped::IsOver;
            }
            if !inward && !outward {
                return Pumped::Waits;
            }
        }
        Pumped::HasMore
    }
}

impl Direction {
    /// Reads once and writes once; whether either moved anything.
    fn pump(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<bool> {
        let mut moved = false;
        if !self.at_end && self.held.len() < BUFFER {
            let mut buffer = [0; 16 * 1024];
            let room = (BUFFER - self.held.len()).min(buffer.len());
            if let Some(length) = unless_blocked(from.read(&mut buffer[..room]))? {
                self.held.extend_from_slice(&buffer[..length]);
                self.at_end = length == 0;
                moved = true;
            }
        }
        if !self.held.is_empty()
            && let Some(length) = unless_blocked(to.write(&self.held))?
        {
            self.held.drain(..length);
            moved = true;
        }
        if self.at_end && self.held.is_empty() && !self.ended {
            // Half-close: the other direction goes on. Not yet connected: again when it is.
            if unless_blocked(to.shutdown(Shutdown::Write))?.is_some() {
                self.ended = true;
                moved = true;
            }
        }
        Ok(moved)
    }
}

/// `None` where the socket has nothing (more) to give or take now; also while it is still connecting.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected => Ok(None),
            _ => Err(error),
        },
    }
}

/// A UDP port, and a socket inside for each peer outside, so that answers find their way back.
pub(super) struct UdpRelay {
    outside: UdpSocket,
    internal: SocketAddr,
    peers: BTreeMap<SocketAddr, Peer>,
    by_token: BTreeMap<Token, SocketAddr>,
    datagrams: u64,
    buffer: Vec<u8>,
}

struct Peer {
    inside: UdpSocket,
    token: Token,
    /// The number of the last datagram either way.
    last: u64,
}

impl UdpRelay {
    pub(super) fn new(outside: UdpSocket, internal: SocketAddr) -> UdpRelay {
        let (peers, by_token) = (BTreeMap::new(), BTreeMap::new());
        UdpRelay { outside, internal, peers, by_token, datagrams: 0, buffer: vec![0; 64 * 1024] }
    }

    /// Carries in what came from outside. The tokens of sockets that were opened and that were closed for it.
    pub(super) fn handle_outside(
        &mut self,
        registry: &Registry,
        tokens: &mut Tokens,
    ) -> (Vec<Token>, Vec<Token>) {
        let (mut made, mut dropped) = (Vec::new(), Vec::new());
        while let Some((length, from)) = receive(&mut self.buffer, |buffer| self.outside.recv_from(buffer)) {
            if !self.peers.contains_key(&from) {
                if self.peers.len() >= MAX_PEERS {
                    dropped.extend(self.forget_idlest());
                }
                let Ok(inside) = open_inside(registry, self.internal, tokens) else { continue };
                made.push(inside.1);
                self.by_token.insert(inside.1, from);
                self.peers.insert(from, Peer { inside: inside.0, token: inside.1, last: 0 });
            }
            self.datagrams += 1;
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.last = self.datagrams;
                // A datagram that cannot be sent is lost, as datagrams are.
                let _ = peer.inside.send(&self.buffer[..length]);
            }
        }
        (made, dropped)
    }

    /// Carries out what came from inside, for the peer of this socket.
    pub(super) fn handle_inside(&mut self, token: Token) {
        let Some((&from, peer)) =
            self.by_token.get(&token).and_then(|peer| Some((peer, self.peers.get_mut(peer)?)))
        else {
            return;
        };
        let inside = |buffer: &mut [u8]| Ok((peer.inside.recv(buffer)?, from));
        while let Some((length, from)) = receive(&mut self.buffer, inside) {
            self.datagrams += 1;
            peer.last = self.datagrams;
            let _ = self.outside.send_to(&self.buffer[..length], from);
        }
    }

    fn forget_idlest(&mut self) -> Option<Token> {
        let (&idlest, _) = self.peers.iter().min_by_key(|(_, peer)| peer.last)?;
        let peer = self.peers.remove(&idlest)?;
        self.by_token.remove(&peer.token);
        Some(peer.token)
    }
}

/// The next datagram; errors of earlier ones are skipped, but not without end.
fn receive(
    buffer: &mut [u8],
    mut from: impl FnMut(&mut [u8]) -> io::Result<(usize, SocketAddr)>,
) -> Option<(usize, SocketAddr)> {
    for _ in 0..16 {
        match from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}

fn open_inside(
    registry: &Registry,
    internal: SocketAddr,
    tokens: &mut Tokens,
) -> io::Result<(UdpSocket, Token)> {
    let any = match internal.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(internal)?;
    let token = tokens.next();
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok((socket, token))
}
