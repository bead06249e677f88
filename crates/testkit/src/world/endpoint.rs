//! What a world drives: the engine, or in tests of the world itself something scripted.

use plum_engine::Engine;
use plum_engine::io::{ExchangeId, MappingId, Output, Route, Socket, TcpEnd, Wanted};
use plum_engine::ledger::HardwareAddress;
use plum_engine::time::Time;
use std::net::SocketAddr;

/// The engine's face, see `plum_engine::Engine`.
#[allow(missing_docs)]
pub trait Endpoint {
    fn handle_create(&mut self, now: Time, id: MappingId, wanted: Wanted);
    fn handle_destroy(&mut self, now: Time, id: MappingId);
    fn handle_cleanup(&mut self, now: Time);
    fn handle_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>);
    fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>);
    fn handle_datagram(&mut self, now: Time, socket: Socket, from: SocketAddr, bytes: &[u8]);
    fn handle_refused(&mut self, now: Time, socket: Socket);
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr);
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]);
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd);
    fn handle_network_changed(&mut self, now: Time);
    fn handle_timeout(&mut self, now: Time);
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Option<Time>;
}

impl Endpoint for Engine {
    fn handle_create(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        Engine::handle_create(self, now, id, wanted);
    }
    fn handle_destroy(&mut self, now: Time, id: MappingId) {
        Engine::handle_destroy(self, now, id);
    }
    fn handle_cleanup(&mut self, now: Time) {
        Engine::handle_cleanup(self, now);
    }
    fn handle_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        Engine::handle_route_via(self, now, route, hardware);
    }
    fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {
        Engine::handle_opened(self, now, socket, local);
    }
    fn handle_datagram(&mut self, now: Time, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        Engine::handle_datagram(self, now, socket, from, bytes);
    }
    fn handle_refused(&mut self, now: Time, socket: Socket) {
        Engine::handle_refused(self, now, socket);
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        Engine::handle_tcp_connected(self, now, exchange, local);
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        Engine::handle_tcp_data(self, now, exchange, bytes);
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        Engine::handle_tcp_end(self, now, exchange, end);
    }
    fn handle_network_changed(&mut self, now: Time) {
        Engine::handle_network_changed(self, now);
    }
    fn handle_timeout(&mut self, now: Time) {
        Engine::handle_timeout(self, now);
    }
    fn poll_output(&mut self) -> Option<Output> {
        Engine::poll_output(self)
    }
    fn poll_timeout(&self) -> Option<Time> {
        Engine::poll_timeout(self)
    }
}
