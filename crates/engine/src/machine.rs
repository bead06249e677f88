//! The engines as one trait, for the code that carries their inputs and outputs: the worker, or a world of the tests.

use crate::Engine;
use crate::io::{Arrival, EngineId, ExchangeId, MappingId, Output, Route, SocketId, TcpEnd, Wanted};
use crate::ipv6::{Ipv6Addresses, Ipv6Route};
use crate::ledger::HardwareAddress;
use crate::reason::Reason;
use crate::time::Time;
use std::net::SocketAddr;

/// A command of the program.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// Create a mapping.
    Create(MappingId, Wanted),
    /// Destroy a mapping.
    Destroy(MappingId),
    /// Destroy all mappings, then finish.
    Cleanup,
}

/// A state machine without I/O: [`Engines`](crate::Engines), [`Engine`] (IPv4 only), which documents each method, the
/// command's questions to a gateway, or a script in tests.
#[allow(missing_docs)]
pub trait Machine: 'static {
    /// Whether the interface by which gateways are looked for may be named. (The C library has no code for it.)
    const HAS_UPLINK: bool = false;

    fn handle_command(&mut self, now: Time, command: Command);
    fn handle_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    );
    fn handle_route_unknown(&mut self, now: Time, engine: EngineId) {
        self.handle_route(now, engine, None, None);
    }
    fn handle_ipv6_route(
        &mut self,
        _now: Time,
        _engine: EngineId,
        _route: Option<Ipv6Route>,
        _hardware: Option<HardwareAddress>,
    ) {
    }
    /// `None`: the system could not be asked.
    fn handle_addresses(&mut self, _now: Time, _addresses: Option<Ipv6Addresses>) {}
    fn handle_opened(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>);
    fn handle_datagram(&mut self, now: Time, socket: SocketId, by: Arrival, bytes: &[u8]);
    fn handle_refused(&mut self, now: Time, socket: SocketId);
    fn handle_unsent(&mut self, _now: Time, _socket: SocketId, _reason: Reason) {}
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr);
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]);
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd);
    fn handle_network_changed(&mut self, now: Time);
    /// Only addresses or routes of IPv6 have changed.
    fn handle_ipv6_changed(&mut self, _now: Time) {}
    fn handle_timeout(&mut self, now: Time);
    /// The next output, and the engine that it comes from.
    fn poll_output(&mut self) -> Option<(EngineId, Output)>;
    fn poll_timeout(&self) -> Option<Time>;
}

impl Machine for Engine {
    fn handle_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Create(id, wanted) => self.handle_create(now, id, wanted),
            Command::Destroy(id) => self.handle_destroy(now, id),
            Command::Cleanup => self.handle_cleanup(now),
        }
    }
    fn handle_route(
        &mut self,
        now: Time,
        _: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.handle_route_via(now, route, hardware);
    }
    fn handle_route_unknown(&mut self, now: Time, _: EngineId) {
        self.handle_route_unknown(now);
    }
    fn handle_ipv6_route(
        &mut self,
        now: Time,
        _: EngineId,
        route: Option<Ipv6Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.handle_ipv6_route(now, route, hardware);
    }
    fn handle_opened(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        self.handle_opened(now, socket.socket, local);
    }
    fn handle_datagram(&mut self, now: Time, socket: SocketId, by: Arrival, bytes: &[u8]) {
        self.handle_datagram(now, socket.socket, by, bytes);
    }
    fn handle_refused(&mut self, now: Time, socket: SocketId) {
        self.handle_refused(now, socket.socket);
    }
    fn handle_unsent(&mut self, now: Time, socket: SocketId, reason: Reason) {
        self.handle_unsent(now, socket.socket, reason);
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.handle_tcp_connected(now, exchange, local);
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.handle_tcp_data(now, exchange, bytes);
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.handle_tcp_end(now, exchange, end);
    }
    fn handle_network_changed(&mut self, now: Time) {
        self.handle_network_changed(now);
    }
    fn handle_timeout(&mut self, now: Time) {
        self.handle_timeout(now);
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        Some((self.id(), self.poll_output()?))
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.poll_timeout()
    }
}
