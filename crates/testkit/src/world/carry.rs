//! Inputs and outputs are carried between the engine and the network, as the worker does, and watched on the way: what
//! no worker could carry, and what never comes to rest, fails the test.

use super::trace::{describe_input, describe_output};
use super::{Input, World};
use plum_engine::io::{EngineId, ExchangeId, Output, Socket, SocketId};
use plum_engine::machine::Machine;
use plum_engine::time::Time;

/// The most outputs that one input may cause.
const MAX_OUTPUTS: usize = 20_000;
/// The most inputs and timeouts at one point in time.
const MAX_STEPS_AT_ONCE: usize = 200_000;
/// The most timeouts at one point in time, with nothing that comes in between: more is a busy loop.
const MAX_TIMEOUTS_IN_A_ROW: usize = 5;

impl<E: Machine> World<E> {
    /// Goes to the next point in time at which something happens, not after `until`, and lets it happen.
    /// False: nothing happens until then, and it is `until` now.
    pub fn step(&mut self, until: Time) -> bool {
        self.network.collect(self.now);
        let next = self.network.next_at().into_iter().chain(self.engine.poll_timeout()).min();
        let Some(next) = next.filter(|&next| next <= until) else {
            self.pass(until);
            return false;
        };
        self.pass(next);
        self.steps_at_once += 1;
        assert!(
            self.steps_at_once < MAX_STEPS_AT_ONCE,
            "the world goes round in circles: more than {MAX_STEPS_AT_ONCE} steps at {:?}, the engine's \
             timeout is {:?}",
            self.now,
            self.engine.poll_timeout(),
        );
        self.network.collect(self.now);
        // As the worker does: all that has arrived first, then what is due.
        if let Some(input) = self.network.next_input(self.now) {
            self.timeouts_in_a_row = 0;
            self.hand_over(input);
        } else if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.timeouts_in_a_row += 1;
            assert!(
                self.timeouts_in_a_row <= MAX_TIMEOUTS_IN_A_ROW,
                "the engine's timeout {:?} never comes to rest at {:?}",
                self.engine.poll_timeout(),
                self.now,
            );
            self.engine.handle_timeout(self.now);
        }
        self.carry_outputs();
        true
    }

    pub(super) fn pass(&mut self, now: Time) {
        if now > self.now {
            self.now = now;
            self.steps_at_once = 0;
            self.timeouts_in_a_row = 0;
        }
        self.checks.deadlines(self.now);
    }

    fn hand_over(&mut self, input: Input) {
        self.note(|| describe_input(&input));
        let now = self.now;
        let inside = |exchange: ExchangeId| ExchangeId(exchange.0 - self.exchange_base);
        match input {
            Input::Datagram { socket, from, bytes } => {
                let by = self.network.arrival(socket, from);
                self.engine.handle_datagram(now, socket, by, &bytes);
            }
            Input::Refused { socket } => self.engine.handle_refused(now, socket),
            Input::TcpConnected { exchange, local } => {
                self.engine.handle_tcp_connected(now, inside(exchange), local);
            }
            Input::TcpData { exchange, bytes } => self.engine.handle_tcp_data(now, inside(exchange), &bytes),
            Input::TcpEnd { exchange, end } => self.engine.handle_tcp_end(now, inside(exchange), end),
        }
    }

    pub(super) fn carry_outputs(&mut self) {
        self.note_log();
        let mut outputs = 0;
        while let Some((engine, output)) = self.engine.poll_output() {
            outputs += 1;
            assert!(outputs <= MAX_OUTPUTS, "more than {MAX_OUTPUTS} outputs after one input");
            self.note(|| describe_output(&output));
            self.carry(engine, output);
        }
        if self.checks.has_finished() {
            let timeout = self.engine.poll_timeout();
            assert!(timeout.is_none(), "after Finished the engine still wants to be called at {timeout:?}");
        }
    }

    fn carry(&mut self, engine: EngineId, output: Output) {
        let now = self.now;
        let id = |socket| SocketId { engine, socket };
        assert!(self.checks.finished_at.is_none(), "after Finished: {output:?}");
        let outside = |exchange: ExchangeId| ExchangeId(exchange.0 + self.exchange_base);
        match output {
            Output::LookUpRoute { toward } => {
                self.route_lookups += 1;
                let route = self.network.look_up(toward);
                let hardware = self.network.hardware_toward(toward);
                self.engine.handle_route(now, engine, route, hardware);
            }
            Output::LookUpAddresses { .. } => {
                self.address_lookups += 1;
                self.engine.handle_addresses(now, Some(self.network.ipv6.addresses.clone()));
            }
            Output::LookUpIpv6Route { source, toward } => {
                let route = self.network.look_up_ipv6(source, toward);
                let hardware = route.as_ref().and_then(|route| self.network.hardware_of(route, toward));
                self.engine.handle_ipv6_route(now, engine, route, hardware);
            }
            Output::Open { socket, local, interface, remote } => {
                let opened = match self.unopenable.contains(&socket) {
                    true => None,
                    false => self.network.open(id(socket), local, interface, remote),
                };
                self.engine.handle_opened(now, id(socket), opened);
            }
            Output::Close { socket } => {
                assert!(self.network.close(id(socket)), "Close of {socket:?}, which is not open");
            }
            Output::Send { socket, to, bytes } => {
                assert!(self.network.is_open(id(socket)), "Send on {socket:?}, which is not open");
                let listens = matches!(socket, Socket::Announcements | Socket::Notifications);
                assert!(!listens, "Send on {socket:?}, which only listens");
                if let Some(remote) = self.network.remote(id(socket)) {
                    assert_eq!(to, remote, "Send on {socket:?} to another than it is connected to");
                }
                // RFC 6887 §7: 1100 octets at most; SSDP fits one Ethernet frame.
                let is_ssdp = matches!(socket, Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp);
                let most = if is_ssdp { 1452 } else { 1100 };
                assert!(bytes.len() <= most, "Send of {} octets on {socket:?}", bytes.len());
                self.network.send(now, id(socket), to, bytes);
            }
            Output::Connect { exchange, to, source } => {
                let with_host = self.network.connections_with(to.ip(), source.map(|source| source.interface));
                self.checks.connect(exchange, self.network.connections() + 1, with_host + 1);
                self.network.connect(now, outside(exchange), to, source);
            }
            Output::Write { exchange, bytes } => {
                let established = self.network.connection(outside(exchange));
                assert_eq!(established, Some(true), "Write on {exchange:?}, which is not established");
                self.network.write(now, outside(exchange), bytes);
            }
            Output::HangUp { exchange } => {
                assert!(
                    self.network.hang_up(now, outside(exchange)),
                    "HangUp of {exchange:?}, which is gone"
                );
            }
            Output::Event { id, event } => self.checks.event(now, id, event),
            Output::Finished => self.checks.finished(now),
        }
    }
}
