//! UDP sockets: never blocking, closed on exec.

#![forbid(unsafe_code)]

#[cfg(any(netlink, routing_sockets))]
use super::arrival;
use super::{ClosedInChild, find_prefix, platform};
use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Room for the answers to many requests at once while the reader is kept busy. The kernel may allow less.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The largest UDP payload is shorter than this.
pub const DATAGRAM_LEN_MAX: usize = 65_536;

/// How often one datagram is sent again because an error of an earlier one came out of its send.
const SEND_ATTEMPTS: usize = 4;

/// A UDP socket. A source for mio, edge-triggered: read until [`Received::Empty`] or be never told again.
#[derive(Debug)]
pub struct Udp {
    socket: ClosedInChild<UdpSocket>,
    peer: Option<SocketAddr>,
    /// The length of the prefix of our network, as far as anyone may send here.
    prefix: Option<u8>,
}

/// What reading a socket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A datagram.
    Datagram {
        /// Bytes of the buffer that are filled.
        len: usize,
        from: SocketAddr,
        /// The index of the interface that it came in by; 0 where the system does not tell, or that is the loopback one.
        interface: u32,
    },
    /// The port this socket is connected to is closed (ICMP port unreachable).
    Refused,
    /// The system could not give what is there, if anything: the error's number, 0 if it has none.
    Failed(i32),
    /// Nothing more for now.
    Empty,
}

/// What sending a datagram gave.
#[derive(Debug)]
pub struct Sent {
    /// The port this socket is connected to is closed: the answer to an earlier datagram said so.
    pub refused: bool,
    /// Whether this one was sent.
    pub result: io::Result<()>,
}

impl Udp {
    /// A socket of the address `local` that speaks to `remote` alone. `interface` counts for IPv6 link-local
    /// addresses.
    ///
    /// # Errors
    ///
    /// `local` is no address of this machine, there is no route, or what opening a socket gives.
    pub fn connected(local: IpAddr, interface: u32, remote: SocketAddr) -> io::Result<Udp> {
        let socket = open(local)?;
        socket.bind(&scoped(SocketAddr::new(local, 0), interface).into())?;
        let peer = scoped(remote, interface);
        socket.connect(&peer.into())?;
        Ok(Udp { socket: finish(socket), peer: Some(peer), prefix: None })
    }

    /// A socket of the address `local` that speaks to anyone, and multicasts on `interface`, through `hops - 1`
    /// routers at most.
    ///
    /// # Errors
    ///
    /// `local` is no address of this machine, or what opening a socket gives.
    pub fn unconnected(local: IpAddr, interface: u32, hops: u32) -> io::Result<Udp> {
        let socket = open(local)?;
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
        Ok(open_to_all(socket, local))
    }

    /// A socket that receives what is sent to a multicast group and port on `interface` (the one of the address
    /// `local`). The port is shared with other programs that are ready to share it.
    ///
    /// # Errors
    ///
    /// The port is taken by a program that does not share it (on Windows: that has it exclusively), or what opening a socket gives.
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
        Ok(open_to_all(socket, local))
    }

    /// The address and port of this side.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The length of the prefix of our network, where anyone may send here; `None`: the system does not tell.
    pub fn prefix(&self) -> Option<u8> {
        self.prefix
    }

    /// Sends a datagram; a connected socket sends to its peer, whatever `to` says.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> Sent {
        let mut refused = false;
        for _ in 0..SEND_ATTEMPTS {
            let result = match self.peer {
                Some(_) => self.socket.send(bytes),
                None => self.socket.send_to(bytes, to),
            };
            match result {
                // udp(7): an error of an earlier datagram comes out of the next call, which then has not
                // sent its own.
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
                    // That of an earlier datagram is told once: whoever sent it will send again.
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
    #[cfg(windows)]
    platform::ignore_expiries(&socket);
    // A smaller buffer works, too.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

fn open_to_all(socket: Socket, local: IpAddr) -> Udp {
    #[cfg(any(netlink, routing_sockets))]
    arrival::request(&socket);
    Udp { socket: finish(socket), peer: None, prefix: find_prefix(local) }
}

/// Has the system tell by which interface the datagrams of a socket come in that waits for them, as far as it does.
pub fn request_interfaces(socket: &std::net::UdpSocket) {
    #[cfg(any(netlink, routing_sockets))]
    arrival::request(socket);
    #[cfg(not(any(netlink, routing_sockets)))]
    let _ = socket;
}

/// Reads one datagram of a socket that waits: its length, its sender, and the index of the interface that it came in by, 0 where
/// that is not told, or is the loopback one.
///
/// # Errors
///
/// Those of receiving.
pub fn receive_from(socket: &std::net::UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, u32)> {
    #[cfg(any(netlink, routing_sockets))]
    return arrival::receive(socket, buffer);
    #[cfg(not(any(netlink, routing_sockets)))]
    socket.recv_from(buffer).map(|(len, from)| (len, from, 0))
}

fn finish(socket: Socket) -> ClosedInChild<UdpSocket> {
    ClosedInChild::new(UdpSocket::from_std(socket.into()))
}

/// RFC 4007 §6: a link-local IPv6 address means nothing without its link.
fn scoped(address: SocketAddr, interface: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), interface).into()
        }
        _ => address,
    }
}
