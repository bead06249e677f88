//! UDP sockets: never blocking, closed on exec.

#![forbid(unsafe_code)]

#[cfg(any(netlink, routing_sockets))]
use super::arrival;
use super::{ClosedInChild, Uplink, find_prefix, platform};
use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The receive buffer: room for the replies to many requests while the reader is busy. The kernel may grant less.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The largest UDP payload is shorter than this.
pub const DATAGRAM_LEN_MAX: usize = 65_536;

/// How often a datagram is sent again because its send returned the error of an earlier one.
const SEND_ATTEMPTS: usize = 4;

/// A UDP socket. An edge-triggered mio source: read until [`Received::Empty`], or no event follows.
#[derive(Debug)]
pub struct Udp {
    socket: ClosedInChild<UdpSocket>,
    peer: Option<SocketAddr>,
    /// The prefix length of our network, for unconnected sockets.
    prefix: Option<u8>,
    /// IPv6, unconnected: our address and interface.
    source: Option<(Ipv6Addr, u32)>,
}

/// The result of reading a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A datagram.
    Datagram {
        /// The number of bytes read into the buffer.
        len: usize,
        from: SocketAddr,
        /// The index of the receiving interface; 0: unknown, or the loopback interface.
        interface: u32,
    },
    /// The port this socket is connected to is closed (ICMP port unreachable).
    Refused,
    /// Reading failed: the number of the error, 0 if it has none.
    Failed(i32),
    /// Nothing more for now.
    Empty,
}

/// The result of sending a datagram.
#[derive(Debug)]
pub struct Sent {
    /// The reply to an earlier datagram reported that the peer's port is closed.
    pub refused: bool,
    /// Whether this one was sent.
    pub result: io::Result<()>,
}

impl Udp {
    /// A socket at the address `local`, connected to `remote`. `interface` is used for IPv6 link-local addresses, and an uplink that
    /// is named for all packets.
    ///
    /// # Errors
    ///
    /// `local` is not an address of this machine, there is no route, or the socket cannot be opened.
    pub fn connected(local: IpAddr, interface: u32, remote: SocketAddr, by: &Uplink) -> io::Result<Udp> {
        let socket = open(local)?;
        by.bind(&socket, remote.ip())?;
        socket.bind(&scoped(SocketAddr::new(local, 0), interface).into())?;
        let peer = scoped(remote, interface);
        socket.connect(&peer.into())?;
        Ok(Udp { socket: finish(socket), peer: Some(peer), prefix: None, source: None })
    }

    /// An unconnected socket at the address `local`, which multicasts on `interface` through at most `hops - 1`
    /// routers. What it sends to hosts goes by an uplink that is named, if that is `interface`.
    ///
    /// # Errors
    ///
    /// `local` is not an address of this machine, or the socket cannot be opened.
    pub fn unconnected(local: IpAddr, interface: u32, hops: u32, by: &Uplink) -> io::Result<Udp> {
        let socket = open(local)?;
        by.direct(&socket, interface)?;
        match local {
            IpAddr::V4(local) => {
                platform::set_multicast_interface_v4(&socket, local, interface)?;
                socket.set_multicast_ttl_v4(hops)?;
            }
            IpAddr::V6(_) => {
                socket.set_multicast_if_v6(interface)?;
                socket.set_multicast_hops_v6(hops)?;
            }
        }
        #[cfg(windows)]
        platform::ignore_refusals(&socket);
        socket.bind(&scoped(SocketAddr::new(local, 0), interface).into())?;
        Ok(open_to_all(socket, local, interface))
    }

    /// A socket that receives datagrams to a multicast group and port on `interface` (the one with the address
    /// `local`). Other programs may share the port.
    ///
    /// # Errors
    ///
    /// Another program has the port without sharing it (on Windows: exclusively), or the socket cannot be opened.
    pub fn listening(group: SocketAddr, local: IpAddr, interface: u32) -> io::Result<Udp> {
        let socket = open(group.ip())?;
        #[cfg(windows)]
        platform::ignore_refusals(&socket);
        platform::prepare_listener(&socket, group)?;
        socket.bind(&scoped(platform::listening_address(group), interface).into())?;
        match (group.ip(), local) {
            (IpAddr::V4(group), IpAddr::V4(local)) => platform::join_v4(&socket, group, local, interface)?,
            (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, interface)?,
            (IpAddr::V4(_), IpAddr::V6(_)) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(open_to_all(socket, local, interface))
    }

    /// The local address and port.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The prefix length of our network, for unconnected sockets; `None`: unknown.
    pub fn prefix(&self) -> Option<u8> {
        self.prefix
    }

    /// Whether the route from this socket's address to another has no next hop, on the interface of the socket.
    pub fn is_on_link(&self, from: SocketAddr) -> bool {
        let (SocketAddr::V6(from), Some((source, interface))) = (from, self.source) else { return false };
        if from.ip().is_unicast_link_local() {
            return [0, interface].contains(&from.scope_id());
        }
        super::is_on_link(source, interface, *from.ip())
    }

    /// Sends a datagram; a connected socket sends to its peer, whatever `to` says.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> Sent {
        let mut refused = false;
        let to = self.source.map_or(to, |(_, interface)| scoped(to, interface));
        for _ in 0..SEND_ATTEMPTS {
            let result = match self.peer {
                Some(_) => self.socket.send(bytes),
                None => self.socket.send_to(bytes, to),
            };
            match result {
                // udp(7): the next call returns the error of an earlier datagram, and has not sent its own.
                Err(error) if self.is_refusal(&error) => refused = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Sent { refused, result: other.map(|_| ()) },
            }
        }
        Sent { refused, result: Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    /// Whether the port of the peer is closed. Windows calls that a reset connection.
    fn is_refusal(&self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            io::ErrorKind::ConnectionReset => self.peer.is_some(),
            _ => false,
        }
    }

    /// Reads one datagram. A buffer of [`DATAGRAM_LEN_MAX`] holds any.
    pub fn receive(&self, buffer: &mut [u8]) -> Received {
        loop {
            let result = match self.peer {
                Some(peer) => self.socket.recv(buffer).map(|len| (len, peer, 0)),
                #[cfg(any(netlink, routing_sockets))]
                None => arrival::receive(&*self.socket, buffer),
                #[cfg(not(any(netlink, routing_sockets)))]
                None => self.socket.recv_from(buffer).map(|(len, from)| (len, from, 0)),
            };
            match result {
                Ok((len, from, interface)) => return Received::Datagram { len, from, interface },
                Err(error) if self.is_refusal(&error) => return Received::Refused,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Received::Empty,
                    io::ErrorKind::Interrupted => {}
                    // The error of an earlier datagram is reported once: the sender retransmits.
                    _ => return Received::Failed(error.raw_os_error().unwrap_or(0)),
                },
            }
        }
    }
}

impl Source for Udp {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

fn open(family_of: IpAddr) -> io::Result<Socket> {
    let domain = if family_of.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if family_of.is_ipv6() {
        // IPv4 has sockets of its own, for the same ports.
        socket.set_only_v6(true)?;
    }
    #[cfg(windows)]
    platform::ignore_expiries(&socket);
    // A smaller buffer works, too.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

fn open_to_all(socket: Socket, local: IpAddr, interface: u32) -> Udp {
    #[cfg(any(netlink, routing_sockets))]
    arrival::request(&socket, local);
    let source = match local {
        IpAddr::V6(local) => Some((local, interface)),
        IpAddr::V4(_) => None,
    };
    Udp { socket: finish(socket), peer: None, prefix: find_prefix(local), source }
}

fn finish(socket: Socket) -> ClosedInChild<UdpSocket> {
    ClosedInChild::new(UdpSocket::from_std(socket.into()))
}

/// RFC 4007 §6: a link-local IPv6 address means nothing without its link.
pub(super) fn scoped(address: SocketAddr, interface: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), interface).into()
        }
        _ => address,
    }
}
