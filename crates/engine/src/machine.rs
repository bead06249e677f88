//! The engine as one trait, for the code that carries its inputs and outputs: the worker, or a world of the tests.

use crate::Engine;
use crate::io::{Arrival, ExchangeId, MappingId, Output, Route, Socket, TcpEnd, Wanted};
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

/// A state machine without I/O: [`Engine`], which documents each method, the command's questions to a gateway, or a
/// script in tests.
#[allow(missing_docs)]
pub trait Machine: 'static {
    fn handle_command(&mut self, now: Time, command: Command);
    fn handle_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>);
    fn handle_route_unknown(&mut self, now: Time) {
        self.handle_route(now, None, None);
    }
    fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>);
    fn handle_datagram(&mut self, now: Time, socket: Socket, by: Arrival, bytes: &[u8]);
    fn handle_refused(&mut self, now: Time, socket: Socket);
    fn handle_unsent(&mut self, _now: Time, _socket: Socket, _reason: Reason) {}
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr);
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]);
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd);
    fn handle_network_changed(&mut self, now: Time);
    fn handle_timeout(&mut self, now: Time);
    fn poll_output(&mut self) -> Option<Output>;
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
    fn handle_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        self.handle_route_via(now, route, hardware);
    }
    fn handle_route_unknown(&mut self, now: Time) {
        self.handle_route_unknown(now);
    }
    fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {
        self.handle_opened(now, socket, local);
    }
    fn handle_datagram(&mut self, now: Time, socket: Socket, by: Arrival, bytes: &[u8]) {
        self.handle_datagram(now, socket, by, bytes);
    }
    fn handle_refused(&mut self, now: Time, socket: Socket) {
        self.handle_refused(now, socket);
    }
    fn handle_unsent(&mut self, now: Time, socket: Socket, reason: Reason) {
        self.handle_unsent(now, socket, reason);
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
    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.poll_timeout()
    }
}
