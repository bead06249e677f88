//! Every decision: who is asked what, when, and what the reply means. No clocks, no sockets, no threads.
//!
//! One input (`handle_*`), then drain the outputs (`poll_output` until `None`), then wait until `poll_timeout`.

#![forbid(unsafe_code)]

pub mod driver;
pub mod epoch;
pub mod io;
pub mod natpmp;
pub mod pcp;
mod requests;
pub mod timers;
pub mod upnp_igd;
pub mod window;

use crate::time::Time;
use io::{Config, ExchangeId, MappingId, Output, Random, Route, Socket, TcpEnd, Wanted};
use std::net::SocketAddr;

/// All decisions about all mappings of the process, for one gateway at a time.
pub struct Engine {}

#[allow(unused_variables, clippy::missing_const_for_fn)]
impl Engine {
    /// An engine that has nothing to do yet.
    pub fn new(config: Config, random: Box<dyn Random>) -> Engine {
        Engine {}
    }

    /// The program wants a mapping; `id` was never used before.
    pub fn handle_create(&mut self, now: Time, id: MappingId, wanted: Wanted) {}

    /// The program wants a mapping no more.
    pub fn handle_destroy(&mut self, now: Time, id: MappingId) {}

    /// The program ends: every mapping is removed, then `Output::Finished` comes.
    pub fn handle_cleanup(&mut self, now: Time) {}

    /// The answer to `Output::LookUpRoute`; `None`: no route.
    pub fn handle_route(&mut self, now: Time, route: Option<Route>) {}

    /// The answer to `Output::Open`: the socket's local address, or that it could not be opened.
    pub fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {}

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Time, socket: Socket, from: SocketAddr, bytes: &[u8]) {}

    /// The gateway's kernel says that the port of a connected socket is closed (ICMP port unreachable).
    pub fn handle_refused(&mut self, now: Time, socket: Socket) {}

    /// A TCP connection is established.
    pub fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {}

    /// Bytes came on a TCP connection.
    pub fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {}

    /// A TCP connection ended from the other side, or never came to be. It is gone, no `HangUp` follows.
    pub fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {}

    /// Links, addresses or routes changed, or the machine slept: have a look.
    pub fn handle_network_changed(&mut self, now: Time) {}

    /// The time that `poll_timeout` named has come (earlier and spurious calls do no harm).
    pub fn handle_timeout(&mut self, now: Time) {}

    /// What is to be done, in order, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to call `handle_timeout`, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
}
