//! TCP connections: never blocking, closed on exec, without SIGPIPE.

#![forbid(unsafe_code)]

use super::ClosedInChild;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// A TCP connection of ours. A source for mio, edge-triggered: read and write until there is nothing more to.
#[derive(Debug)]
pub struct Tcp {
    stream: ClosedInChild<TcpStream>,
}

/// What reading a connection gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// So many bytes of the buffer are filled.
    Data(usize),
    /// Nothing more for now.
    Empty,
    /// The other side has closed it.
    Closed,
}

impl Tcp {
    /// Begins to connect; [`Tcp::established`] tells what came of it.
    ///
    /// # Errors
    ///
    /// Those that `connect` has at once: no route, or already refused.
    pub fn connect(to: SocketAddr) -> io::Result<Tcp> {
        let stream = ClosedInChild::new(TcpStream::connect(to)?);
        // Requests are written whole; a part of one must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        Ok(Tcp { stream })
    }

    /// After an event: the local address if the connection is established, `None` while it is not yet.
    ///
    /// # Errors
    ///
    /// Why it will never be: refused, unreachable.
    pub fn established(&self) -> io::Result<Option<SocketAddr>> {
        // A refused connection is readable and writable, as a good one is: the error comes first.
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => self.stream.local_addr().map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there, as far as `buffer` holds it.
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

    /// Writes what the system takes at once and returns how much that was; 0: nothing for now.
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
