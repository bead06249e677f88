//! What carries bytes between outside and inside: one TCP connection, or all peers of one UDP port.

use super::event_loop::Tokens;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

/// How much of one direction is held; room for any datagram.
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
    /// The datagram that is carried in; it may have to wait for one that is carried out.
    inward: Vec<u8>,
    /// The datagram that is carried out.
    outward: Vec<u8>,
}

/// What became of a turn of carrying in.
pub(super) struct CarriedIn {
    /// The tokens of sockets that were opened for it.
    pub made: Vec<Token>,
    /// The tokens of sockets that were closed for it.
    pub dropped: Vec<Token>,
    /// Whether there may be more, so that another turn is due.
    pub has_more: bool,
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
        let (inward, outward) = (vec![0; BUFFER], vec![0; BUFFER]);
        UdpRelay { outside, internal, peers, by_token, datagrams: 0, inward, outward }
    }

    /// Carries in what came from outside, for one turn.
    pub(super) fn handle_outside(&mut self, registry: &Registry, tokens: &mut Tokens) -> CarriedIn {
        let mut carried = CarriedIn { made: Vec::new(), dropped: Vec::new(), has_more: true };
        for _ in 0..TURNS {
            let Some((length, from)) = receive(&mut self.inward, |buffer| self.outside.recv_from(buffer))
            else {
                carried.has_more = false;
                break;
            };
            if !self.peers.contains_key(&from) {
                if self.peers.len() >= MAX_PEERS {
                    carried.dropped.extend(self.forget_idlest());
                }
                let Ok(inside) = open_inside(registry, self.internal, tokens) else { continue };
                carried.made.push(inside.1);
                self.by_token.insert(inside.1, from);
                self.peers.insert(from, Peer { inside: inside.0, token: inside.1, last: 0 });
            }
            self.datagrams += 1;
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.last = self.datagrams;
                // A datagram that cannot be sent is lost, as datagrams are.
                let _ = peer.inside.send(&self.inward[..length]);
            }
        }
        carried
    }

    /// Carries out what came from inside, for the peer of this socket, for one turn; whether there may be more.
    pub(super) fn handle_inside(&mut self, token: Token) -> bool {
        let Some((&from, peer)) =
            self.by_token.get(&token).and_then(|peer| Some((peer, self.peers.get_mut(peer)?)))
        else {
            return false;
        };
        let inside = |buffer: &mut [u8]| Ok((peer.inside.recv(buffer)?, from));
        for _ in 0..TURNS {
            let Some((length, from)) = receive(&mut self.outward, inside) else { return false };
            self.datagrams += 1;
            peer.last = self.datagrams;
            let _ = self.outside.send_to(&self.outward[..length], from);
        }
        true
    }

    fn forget_idlest(&mut self) -> Option<Token> {
        let (&idlest, peer) = self.peers.iter().min_by_key(|(_, peer)| peer.last)?;
        // Peers that come faster than answers are looked for must not take away what was answered already.
        self.handle_inside(peer.token);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn socket() -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket
    }

    #[test]
    fn an_answer_is_carried_out_before_its_peer_makes_room() {
        let poll = mio::Poll::new().expect("a poll");
        let mut tokens = Tokens::starting();
        let inside = socket();
        let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let port = outside.local_addr().expect("bound");
        let mut relay = UdpRelay::new(outside, inside.local_addr().expect("bound"));
        let peers: Vec<_> = (0..=MAX_PEERS).map(|_| socket()).collect();
        let mut buffer = [0; 10];
        for peer in &peers {
            peer.send_to(b"what?", port).expect("sent");
            relay.handle_outside(poll.registry(), &mut tokens);
            let (len, from) = inside.recv_from(&mut buffer).expect("forwarded");
            assert_eq!(&buffer[..len], b"what?");
            inside.send_to(b"this!", from).expect("sent");
        }
        // Nobody looked for answers in the meantime, and the last peer has the place of the first.
        assert_eq!(relay.peers.len(), MAX_PEERS);
        let len = peers[0].recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..len], b"this!");
    }
}
