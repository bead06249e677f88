//! The event sources of the worker: the engine's UDP sockets, its connections, and the system's change notices.

#![forbid(unsafe_code)]

use crate::net::tcp::Tcp;
use crate::net::udp::Udp;
use crate::net::{ClosedInChild, Notices, Uplink, Watch};
use crate::sync::{Poll, Waker};
use mio::{Events, Interest, Token};
use plum_engine::io::{ExchangeId, Socket, SocketId, Source as LocalSource};
use plum_engine::ordered::{Map, Set, Word};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const WAKER: Token = Token(0);
const WATCH: Token = Token(1);
const FIRST_SOCKET: usize = 2;

/// Events taken from the system at once; further ones come with the next call.
const EVENTS: usize = 64;

/// Unsent bytes of one connection, at most. The longest request is a small part of this.
const UNSENT_MAX: usize = 256 * 1024;

/// A source of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The system's change notices.
    Watch,
    Udp(SocketId),
    Tcp(ExchangeId),
}

impl Word for Source {
    fn word(self) -> u64 {
        match self {
            Source::Watch => (0, 0),
            Source::Udp(socket) => (1, socket.word()),
            Source::Tcp(id) => (2, id.word()),
        }
        .word()
    }
}

pub(super) struct Sockets {
    poll: ClosedInChild<Poll>,
    events: Events,
    watch: Option<Watch>,
    udp: Map<SocketId, (Udp, Token)>,
    tcp: Map<ExchangeId, Exchange>,
    next_token: usize,
    /// Sources that may have input. The system reports them once (edge-triggered), so they stay here until they are
    /// read empty.
    ready: Set<Source>,
    /// Sources whose reads only failed: no reason to wake up, but they are read again at the next wake-up.
    stalled: Set<Source>,
}

/// A TCP connection.
pub(super) struct Exchange {
    pub(super) tcp: Tcp,
    pub(super) established: bool,
    token: Token,
    unsent: Vec<u8>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Sockets> {
        Ok(Sockets {
            poll: ClosedInChild::new(Poll::new()?),
            events: Events::with_capacity(EVENTS),
            watch: None,
            udp: Map::new(),
            tcp: Map::new(),
            next_token: FIRST_SOCKET,
            ready: Set::new(),
            stalled: Set::new(),
        })
    }

    /// Makes the waker that ends a wait from other threads. To be called once.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Waits for input, the waker or the timeout (`None`: no limit), and records the ready sources.
    ///
    /// # Panics
    ///
    /// The poll fails: the program has closed our descriptors.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("cannot poll: {error}"),
        }
        for event in &self.events {
            let source = match event.token() {
                WAKER => None,
                WATCH => Some(Source::Watch),
                token => {
                    let udp = self.udp.iter().find(|&(_, &(_, known))| known == token);
                    let tcp = self.tcp.iter().find(|(_, exchange)| exchange.token == token);
                    udp.map(|(id, _)| Source::Udp(id)).or(tcp.map(|(id, _)| Source::Tcp(id)))
                }
            };
            self.ready.extend(source);
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the sources to be read now. One that is not read empty is put back by [`Sockets::read_again`] or
    /// [`Sockets::read_later`].
    pub(super) fn take_ready(&mut self) -> Set<Source> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.extend(std::mem::take(&mut self.stalled));
        ready
    }

    pub(super) fn read_again(&mut self, source: Source) {
        self.ready.insert(source);
    }

    /// Has a source read again at the next wake-up. On Windows, mio reports new input only after a read that found
    /// none, so a source whose read failed must be read again.
    pub(super) fn read_later(&mut self, source: Source) {
        self.stalled.insert(source);
    }

    /// Opens the watch for network changes, if it is not open.
    ///
    /// # Errors
    ///
    /// The system refuses it: for now, or permanently, which is reported once.
    pub(super) fn open_watch(&mut self) -> io::Result<()> {
        if self.watch.is_some() {
            return Ok(());
        }
        let mut watch = Watch::open()?;
        self.poll.registry().register(&mut watch, WATCH, Interest::READABLE)?;
        let obstacle = watch.take_obstacle();
        self.watch = Some(watch);
        obstacle.map_or(Ok(()), Err)
    }

    pub(super) fn drain_watch(&mut self) -> Notices {
        self.watch
            .as_mut()
            .map_or(Notices { changed: false, ipv6_changed: false, more: false, broken: false }, Watch::drain)
    }

    /// Closes the watch, which can be opened again.
    pub(super) fn close_watch(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // As in `close`.
            let _ = self.poll.registry().deregister(&mut watch);
        }
        self.ready.remove(&Source::Watch);
    }

    /// Opens a UDP socket, replacing the previous one, and returns its local address.
    pub(super) fn open(
        &mut self,
        id: SocketId,
        local: IpAddr,
        interface: u32,
        remote: Option<SocketAddr>,
        by: &Uplink,
    ) -> io::Result<SocketAddr> {
        self.close(id);
        let mut udp = match (id.socket.group(local), remote) {
            (Some(group), _) => Udp::listening(group, local, interface),
            (None, Some(remote)) => Udp::connected(local, interface, remote, by),
            (None, None) => Udp::unconnected(local, interface, Socket::MULTICAST_HOPS, by),
        }?;
        let address = udp.local_addr()?;
        let token = self.next_token();
        self.poll.registry().register(&mut udp, token, Interest::READABLE)?;
        self.udp.insert(id, (udp, token));
        Ok(address)
    }

    fn next_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.checked_add(1).unwrap_or(FIRST_SOCKET);
        token
    }

    pub(super) fn close(&mut self, id: SocketId) {
        if let Some((mut udp, _)) = self.udp.remove(&id) {
            // Closing is not enough: the child of a fork may hold a copy, which would still wake us.
            let _ = self.poll.registry().deregister(&mut udp);
        }
        self.ready.remove(&Source::Udp(id));
    }

    pub(super) fn udp(&self, id: SocketId) -> Option<&Udp> {
        self.udp.get(&id).map(|(udp, _)| udp)
    }

    pub(super) fn connect(
        &mut self,
        id: ExchangeId,
        to: SocketAddr,
        source: Option<LocalSource>,
        by: &Uplink,
    ) -> io::Result<()> {
        self.hang_up(id);
        let mut tcp = match source {
            Some(source) => Tcp::connect_from(source.address, source.interface, to, by),
            None => Tcp::connect(to, by),
        }?;
        let token = self.next_token();
        self.poll.registry().register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)?;
        self.tcp.insert(id, Exchange { tcp, established: false, token, unsent: Vec::new() });
        Ok(())
    }

    pub(super) fn exchange(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.tcp.get_mut(&id)
    }

    /// Sends on a connection; bytes that the system does not take now are sent when it is writable.
    ///
    /// # Errors
    ///
    /// More than [`UNSENT_MAX`] bytes are unsent, or there is no memory for them.
    pub(super) fn write(&mut self, id: ExchangeId, bytes: &[u8]) -> io::Result<()> {
        let Some(exchange) = self.tcp.get_mut(&id) else { return Ok(()) };
        if exchange.unsent.len() + bytes.len() > UNSENT_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        exchange.unsent.try_reserve(bytes.len())?;
        exchange.unsent.extend_from_slice(bytes);
        if exchange.established {
            self.flush(id);
        }
        Ok(())
    }

    /// Sends the unsent bytes of an established connection.
    pub(super) fn flush(&mut self, id: ExchangeId) {
        let Some(exchange) = self.tcp.get_mut(&id) else { return };
        while !exchange.unsent.is_empty() {
            match exchange.tcp.write(&exchange.unsent) {
                Ok(0) => return,
                Ok(len) => {
                    exchange.unsent.drain(..len.min(exchange.unsent.len()));
                }
                Err(_) => {
                    // The peer may have replied before it closed: reading returns the reply, then the end.
                    exchange.unsent.clear();
                    self.ready.insert(Source::Tcp(id));
                }
            }
        }
    }

    pub(super) fn hang_up(&mut self, id: ExchangeId) {
        if let Some(mut exchange) = self.tcp.remove(&id) {
            // As in `close`.
            let _ = self.poll.registry().deregister(&mut exchange.tcp);
        }
        self.ready.remove(&Source::Tcp(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_failed_wakes_nobody_and_is_read_with_the_next_that_is_ready() {
        let mut sockets = Sockets::new().expect("a poll");
        sockets.read_later(Source::Watch);
        assert!(!sockets.has_ready());
        sockets.read_again(Source::Tcp(ExchangeId(7)));
        assert_eq!(sockets.take_ready().into_iter().count(), 2);
        assert_eq!(sockets.take_ready().into_iter().count(), 0, "once");
    }
}
