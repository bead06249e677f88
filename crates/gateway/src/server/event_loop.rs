//! The thread: it waits for sockets and the time, hands inputs to the core and carries out what comes back.

use super::alarm::Alarm;
use super::forward::Forwarder;
use super::{Config, Shared};
use crate::core::{ConnectionId, Output, SSDP_GROUP, UdpPort};
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(super) const WAKER: Token = Token(0);
const PCP: Token = Token(1);
const SSDP: Token = Token(2);
const SSDP_MULTICAST: Token = Token(3);
const HTTP: Token = Token(4);
const ALARM: Token = Token(5);
const FIRST_FREE: usize = 16;

/// A port that the faults opened again may still be in use: how soon to try again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(20);
/// What waits to be written to an HTTP client; beyond it the connection is given up.
const MAX_UNWRITTEN: usize = 4 << 20;

/// Tokens, none used twice.
pub(super) struct Tokens(usize);

impl Tokens {
    /// From the first that is nobody's.
    pub(super) fn starting() -> Tokens {
        Tokens(FIRST_FREE)
    }

    pub(super) fn next(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}

/// The gateway's own sockets; those that are closed by the faults are `None`.
pub(super) struct Sockets {
    pcp: Option<UdpSocket>,
    ssdp: Option<UdpSocket>,
    ssdp_multicast: Option<UdpSocket>,
    http: Option<TcpListener>,
    pcp_address: SocketAddr,
    ssdp_address: SocketAddr,
    http_address: SocketAddr,
    multicast: Option<Ipv4Addr>,
}

impl Sockets {
    /// Opens them, and writes the HTTP port that was chosen into the configuration.
    pub(super) fn open(config: &mut Config, registry: &Registry) -> io::Result<Sockets> {
        let gateway = &mut config.gateway;
        let at = |port| SocketAddr::new(gateway.address, port);
        let mut sockets = Sockets {
            pcp: None,
            ssdp: None,
            ssdp_multicast: None,
            http: None,
            pcp_address: at(gateway.pcp_port),
            ssdp_address: at(gateway.ssdp_port),
            http_address: at(gateway.http_port),
            multicast: match gateway.address {
                IpAddr::V4(address) if config.multicast => Some(address),
                _ => None,
            },
        };
        let upnp = gateway.igd.is_some();
        let [pcp, ssdp] = [gateway.pcp_port != 0, upnp && gateway.ssdp_port != 0];
        sockets.set_pcp(registry, pcp)?;
        sockets.set_ssdp(registry, ssdp)?;
        sockets.set_http(registry, upnp)?;
        if let Some(listener) = &sockets.http {
            sockets.http_address = listener.local_addr()?;
            gateway.http_port = sockets.http_address.port();
        }
        Ok(sockets)
    }

    fn set_pcp(&mut self, registry: &Registry, open: bool) -> io::Result<()> {
        set_udp(registry, &mut self.pcp, PCP, open, || bind_udp(self.pcp_address, self.multicast))
    }

    fn set_ssdp(&mut self, registry: &Registry, open: bool) -> io::Result<()> {
        set_udp(registry, &mut self.ssdp, SSDP, open, || bind_udp(self.ssdp_address, self.multicast))?;
        let Some(interface) = self.multicast else { return Ok(()) };
        set_udp(registry, &mut self.ssdp_multicast, SSDP_MULTICAST, open, || bind_group(interface))
    }

    fn set_http(&mut self, registry: &Registry, open: bool) -> io::Result<()> {
        match (&mut self.http, open) {
            (None, true) => {
                let named = |error| name(error, "TCP", self.http_address);
                let mut listener = TcpListener::bind(self.http_address).map_err(named)?;
                registry.register(&mut listener, HTTP, Interest::READABLE)?;
                self.http = Some(listener);
            }
            // Dropping it takes it out of the poll.
            (Some(_), false) => self.http = None,
            _ => {}
        }
        Ok(())
    }
}

fn set_udp(
    registry: &Registry,
    socket: &mut Option<UdpSocket>,
    token: Token,
    open: bool,
    bind: impl FnOnce() -> io::Result<UdpSocket>,
) -> io::Result<()> {
    match (&socket, open) {
        (None, true) => {
            let mut bound = bind()?;
            registry.register(&mut bound, token, Interest::READABLE)?;
            *socket = Some(bound);
        }
        (Some(_), false) => *socket = None,
        _ => {}
    }
    Ok(())
}

/// A socket of the gateway's own address; with `multicast`, what it sends to a group leaves by that interface.
fn bind_udp(address: SocketAddr, multicast: Option<Ipv4Addr>) -> io::Result<UdpSocket> {
    let named = |error| name(error, "UDP", address);
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // Benchmarks send bursts; the system's limit applies where it is lower.
    let _ = socket.set_recv_buffer_size(1 << 20);
    socket.bind(&address.into()).map_err(named)?;
    if let Some(interface) = multicast {
        socket.set_multicast_if_v4(&interface).map_err(named)?;
    }
    Ok(UdpSocket::from_std(socket.into()))
}

/// A socket that receives searches by multicast, beside others that do.
fn bind_group(interface: Ipv4Addr) -> io::Result<UdpSocket> {
    let named = |error| name(error, "UDP", SSDP_GROUP);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SSDP_GROUP.into()).map_err(named)?;
    let IpAddr::V4(group) = SSDP_GROUP.ip() else { unreachable!("the group is IPv4") };
    socket.join_multicast_v4(&group, &interface).map_err(named)?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn name(error: io::Error, transport: &str, address: SocketAddr) -> io::Error {
    io::Error::new(error.kind(), format!("cannot open {transport} {address}: {error}"))
}

/// An HTTP connection.
struct Connection {
    stream: TcpStream,
    unwritten: Vec<u8>,
    /// To be closed when all is written.
    closing: bool,
}

pub(super) struct EventLoop {
    shared: Arc<Shared>,
    poll: mio::Poll,
    alarm: Alarm,
    sockets: Sockets,
    connections: BTreeMap<Token, Connection>,
    tokens: Tokens,
    forwarder: Option<Forwarder>,
    reopening: bool,
    buffer: Vec<u8>,
}

/// Tells those who wait that the thread has ended, also when it panics.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.progress().ended = true;
        self.0.progressed.notify_all();
    }
}

impl EventLoop {
    pub(super) fn new(
        shared: Arc<Shared>,
        poll: mio::Poll,
        sockets: Sockets,
        forward_on: Option<IpAddr>,
    ) -> io::Result<EventLoop> {
        Ok(EventLoop {
            shared,
            alarm: Alarm::new(poll.registry(), ALARM)?,
            poll,
            sockets,
            connections: BTreeMap::new(),
            tokens: Tokens::starting(),
            forwarder: forward_on.map(Forwarder::new),
            reopening: false,
            buffer: vec![0; 64 * 1024],
        })
    }

    pub(super) fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        let mut events = mio::Events::with_capacity(256);
        loop {
            let (changes, stop) = {
                let progress = self.shared.progress();
                (progress.changes, progress.stop)
            };
            self.carry_outputs();
            self.follow_faults();
            if let Some(forwarder) = &mut self.forwarder {
                forwarder.go_on(self.poll.registry(), &mut self.tokens);
            }
            {
                let mut progress = self.shared.progress();
                progress.seen = changes;
                self.shared.progressed.notify_all();
            }
            if stop {
                return;
            }
            let timeout = self.timeout();
            let timeout = self.alarm.set(timeout);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.expect("polling sockets"),
            }
            for event in &events {
                self.handle(event.token());
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let core = self.shared.core();
        let due = core.poll_timeout().map(|at| at.saturating_sub(self.shared.now()));
        let reopen = self.reopening.then_some(REOPEN_INTERVAL);
        let forwarder = self.forwarder.as_ref().and_then(Forwarder::timeout);
        due.into_iter().chain(reopen).chain(forwarder).min()
    }

    fn handle(&mut self, token: Token) {
        match token {
            WAKER | ALARM => {}
            PCP => self.receive(token, UdpPort::Pcp),
            SSDP | SSDP_MULTICAST => self.receive(token, UdpPort::Ssdp),
            HTTP => self.accept(),
            _ if self.connections.contains_key(&token) => self.serve(token),
            _ => {
                if let Some(forwarder) = &mut self.forwarder {
                    forwarder.handle(self.poll.registry(), &mut self.tokens, token);
                }
            }
        }
    }

    fn receive(&mut self, token: Token, port: UdpPort) {
        loop {
            let socket = match token {
                PCP => &self.sockets.pcp,
                SSDP => &self.sockets.ssdp,
                _ => &self.sockets.ssdp_multicast,
            };
            let Some(socket) = socket else { return };
            let (length, from) = match socket.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // ICMP errors of earlier answers.
                Err(_) => continue,
            };
            let bytes = &self.buffer[..length];
            let mut core = self.shared.core();
            // Where the whole port cannot be closed, closed for one protocol means silent for it.
            if !core.refuses(port, bytes) {
                core.handle_datagram(self.shared.now(), port, from, bytes);
            }
            drop(core);
            self.carry_outputs();
        }
    }

    fn accept(&mut self) {
        loop {
            let Some(listener) = &self.sockets.http else { return };
            let (mut stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // Out of descriptors: what waits is accepted at the next event.
                Err(_) => return,
            };
            let mut core = self.shared.core();
            if core.refuses_tcp() {
                continue;
            }
            let token = self.tokens.next();
            let interests = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, token, interests).is_err() {
                continue;
            }
            // Answers dribbled by the script are to leave as they are written.
            let _ = stream.set_nodelay(true);
            core.handle_tcp_open(self.shared.now(), ConnectionId(token.0 as u64), from);
            drop(core);
            self.connections.insert(token, Connection { stream, unwritten: Vec::new(), closing: false });
        }
    }

    fn serve(&mut self, token: Token) {
        self.flush(token);
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            match connection.stream.read(&mut self.buffer) {
                Ok(length) if length > 0 => {
                    let id = ConnectionId(token.0 as u64);
                    let now = self.shared.now();
                    self.shared.core().handle_tcp_data(now, id, &self.buffer[..length]);
                    self.carry_outputs();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.drop_connection(token),
            }
        }
    }

    fn drop_connection(&mut self, token: Token) {
        self.connections.remove(&token);
        self.shared.core().handle_tcp_end(self.shared.now(), ConnectionId(token.0 as u64));
    }

    fn flush(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        while !connection.unwritten.is_empty() {
            match connection.stream.write(&connection.unwritten) {
                Ok(length) => drop(connection.unwritten.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_connection(token),
            }
        }
        if connection.closing {
            self.drop_connection(token);
        }
    }

    /// Carries out what the core wants done by now. Mapped ports are open before their answers leave.
    fn carry_outputs(&mut self) {
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.follow(self.poll.registry(), &mut self.tokens, self.shared.core().table());
        }
        loop {
            let output = self.shared.core().poll_output(self.shared.now());
            match output {
                None => return,
                Some(Output::Send { from, to, bytes }) => self.send(from, to, &bytes),
                Some(Output::Write { connection, bytes }) => {
                    let token = Token(connection.0 as usize);
                    let Some(open) = self.connections.get_mut(&token) else { continue };
                    if open.unwritten.len() + bytes.len() > MAX_UNWRITTEN {
                        self.drop_connection(token);
                    } else {
                        open.unwritten.extend_from_slice(&bytes);
                        self.flush(token);
                    }
                }
                Some(Output::Close { connection }) => {
                    let token = Token(connection.0 as usize);
                    if let Some(open) = self.connections.get_mut(&token) {
                        open.closing = true;
                        self.flush(token);
                    }
                }
                Some(Output::Reset { connection }) => {
                    let token = Token(connection.0 as usize);
                    if let Some(open) = self.connections.remove(&token) {
                        // What is closed without lingering is reset; where that is refused, it is closed.
                        let _ = socket2::SockRef::from(&open.stream).set_linger(Some(Duration::ZERO));
                    }
                }
            }
        }
    }

    /// Sends a datagram; one that cannot be sent is lost, as datagrams are.
    fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if to.ip().is_multicast() && self.sockets.multicast.is_none() {
            return;
        }
        let own = if from == self.sockets.pcp_address {
            &self.sockets.pcp
        } else if from == self.sockets.ssdp_address {
            &self.sockets.ssdp
        } else {
            // The fault of a wrong source.
            if let Ok(other) = std::net::UdpSocket::bind(from) {
                let _ = other.send_to(bytes, to);
            }
            return;
        };
        if let Some(socket) = own {
            let _ = socket.send_to(bytes, to);
        }
    }

    /// Opens and closes ports as the faults say.
    fn follow_faults(&mut self) {
        let core = self.shared.core();
        let registry = self.poll.registry();
        let (closed, upnp) = (core.faults.closed, core.config().igd.is_some());
        let pcp = !(closed.pcp && closed.natpmp) && self.sockets.pcp_address.port() != 0;
        let ssdp = !closed.ssdp && upnp && self.sockets.ssdp_address.port() != 0;
        let http_port = core.config().http_port;
        if http_port != self.sockets.http_address.port() {
            self.sockets.http = None;
            self.sockets.http_address.set_port(http_port);
        }
        let results = [
            self.sockets.set_pcp(registry, pcp),
            self.sockets.set_ssdp(registry, ssdp),
            self.sockets.set_http(registry, !closed.http && upnp),
        ];
        self.reopening = results.iter().any(Result::is_err);
    }
}
