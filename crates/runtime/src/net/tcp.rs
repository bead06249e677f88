//! TCP connections: never blocking, closed on exec, without SIGPIPE.

#![forbid(unsafe_code)]

use super::udp::scoped;
use super::{ClosedInChild, Uplink};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr};

/// A TCP connection. An edge-triggered mio source: read and write until there is nothing left.
#[derive(Debug)]
pub struct Tcp {
    stream: ClosedInChild<TcpStream>,
}

/// The result of reading a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The number of bytes read into the buffer.
    Data(usize),
    /// No more data for now.
    Empty,
    /// The peer has closed it.
    Closed,
}

impl Tcp {
    /// Starts to connect, by an uplink that is named or by the best route; [`Tcp::established`] returns the result.
    ///
    /// # Errors
    ///
    /// Immediate errors of `connect`: no route, or refused.
    pub fn connect(to: SocketAddr, by: &Uplink) -> io::Result<Tcp> {
        let stream = match by.connect(to) {
            None => TcpStream::connect(to)?,
            Some(socket) => TcpStream::from_std(socket?.into()),
        };
        let stream = ClosedInChild::new(stream);
        // Requests are written at once: no part must wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        Ok(Tcp { stream })
    }

    /// [`Tcp::connect`] from an address of an interface, which is that of link-local addresses.
    ///
    /// # Errors
    ///
    /// Those, and that the address is not one of this machine ([`super::is_address_gone`]).
    pub fn connect_from(source: Ipv6Addr, interface: u32, to: SocketAddr, by: &Uplink) -> io::Result<Tcp> {
        let socket = open(to)?;
        by.bind(&socket, to.ip())?;
        socket.bind(&scoped(SocketAddr::new(source.into(), 0), interface).into())?;
        connect(&socket, scoped(to, interface))?;
        let stream = ClosedInChild::new(TcpStream::from_std(socket.into()));
        let _ = stream.set_nodelay(true);
        Ok(Tcp { stream })
    }

    /// After an event: the local address if the connection is established, `None` while it is not yet.
    ///
    /// # Errors
    ///
    /// The connection failed: refused, unreachable.
    pub fn established(&self) -> io::Result<Option<SocketAddr>> {
        // A refused connection is readable and writable like an established one, so the error is checked first.
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => self.stream.local_addr().map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads available data into `buffer`.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Incoming> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Incoming::Closed),
                Ok(len) => return Ok(Incoming::Data(len)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Incoming::Empty),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Writes as much as the system takes at once; returns the number of bytes, 0: none for now.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // std writes to a socket without SIGPIPE (MSG_NOSIGNAL, or SO_NOSIGPIPE).
            match self.stream.write(bytes) {
                Ok(len) => return Ok(len),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(0),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// A socket that does not block.
pub(super) fn open(family_of: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(family_of), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Starts to connect it.
pub(super) fn connect(socket: &Socket, to: SocketAddr) -> io::Result<()> {
    match socket.connect(&to.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether a connection that does not block is being made.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EINPROGRESS);
    // WSAEWOULDBLOCK.
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}

impl Source for Tcp {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.register(registry, token, interests)
    }
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream.reregister(registry, token, interests)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream.deregister(registry)
    }
}
