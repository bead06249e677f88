//! The loop of the worker thread; `lookups` asks the system for routes and addresses.
//!
//! Each turn reads the clock, then the sockets until they are empty, then handles timers by that clock: a packet that
//! arrived before a timer was due is handled before the timer, however long the thread was delayed. A turn calls the
//! program back at most once, so a slow callback causes no false timeouts.

#![forbid(unsafe_code)]

mod lookups;

use super::deferred::{Deferred, has_room};
use super::refusals::{Refusals, Request, advice};
use super::sleep::Sleep;
use super::sockets::{Sockets, Source};
use super::{Command, Machine, ProgramSide};
use crate::log::log;
use crate::net::tcp::Incoming;
use crate::net::udp::Received;
use crate::net::{self, Uplink, clock};
use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Socket, SocketId, Source as LocalSource, TcpEnd,
};
use plum_engine::reason::Reason;
use plum_engine::time::Time;
use std::collections::LinkedList;
use std::fmt::Arguments;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

/// Commands taken in one turn: replies to earlier ones must be read before the receive buffer is full.
const COMMANDS_A_TURN: usize = 64;

/// Datagrams read from one socket in one turn: a flood must not keep the thread from its timers. More than fit into a
/// receive buffer of 1 MiB (the kernel counts a small datagram as 768 bytes or more).
const DATAGRAMS_A_TURN: usize = 2048;

/// Consecutive read errors of a socket in one turn. Errors of earlier datagrams come once each; a lasting one must not
/// be read for ever.
const ERRORS_A_TURN: usize = 8;

/// Reads from one connection in one turn, each up to the size of the buffer.
const READS_A_TURN: usize = 16;

/// Events that may wait for a slow program. Beyond that, sockets are not read until it has caught up, and the system's
/// buffers are the limit. Some hundred times what a well-behaved gateway can cause.
const DELIVERIES_MAX: usize = 65_536;

/// An event to be delivered to the program.
enum Delivery {
    Event(MappingId, Event),
    Finished,
}

struct Run<'a, M> {
    machine: &'a mut M,
    uplink: &'a Uplink,
    sockets: &'a mut Sockets,
    side: &'a mut ProgramSide,
    deliveries: LinkedList<Delivery>,
    /// The time of this turn.
    now: Time,
    sleep: Sleep,
    refusals: Refusals,
    /// The last route found.
    route: Option<net::Route>,
    deferred: Deferred,
    buffer: &'a mut [u8],
}

/// Runs until the machine has finished.
pub(super) fn run<M: Machine>(
    machine: &mut M,
    uplink: &Uplink,
    sockets: &mut Sockets,
    side: &mut ProgramSide,
    buffer: &mut [u8],
) {
    let now = clock::now();
    let sleep = Sleep::new(now, clock::monotonic());
    let refusals = Refusals::default();
    let (deliveries, deferred) = (LinkedList::new(), Deferred::default());
    let mut run = Run {
        machine,
        uplink,
        sockets,
        side,
        deliveries,
        now,
        sleep,
        refusals,
        route: None,
        deferred,
        buffer,
    };
    while !run.turn() {}
}

impl<M: Machine> Run<'_, M> {
    /// One turn; `true`: it was the last.
    fn turn(&mut self) -> bool {
        self.wait();
        self.read_clock();
        // After the clock was read, for the order described above.
        self.sockets.wait(Some(Duration::ZERO));
        self.take_messages();
        self.retry_deferred();
        self.read_sockets();
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.machine.handle_timeout(self.now);
            self.carry_out();
        }
        self.deliver()
    }

    /// Waits until there is something to do. There are no other wake-ups: an idle library uses no CPU time.
    fn wait(&mut self) {
        let busy = self.sockets.has_ready()
            || !self.deliveries.is_empty()
            || self.side.program_due
            || !self.side.inbox.is_empty();
        if busy {
            return;
        }
        let timeouts =
            [self.machine.poll_timeout(), self.side.program.poll_timeout(), self.deferred.retry_at()];
        let next = timeouts.into_iter().flatten().min();
        self.sockets.wait(next.map(|at| at.since(clock::now())));
    }

    fn read_clock(&mut self) {
        // The machine's time must never go backwards.
        self.now = clock::now().max(self.now);
        if let Some(slept) = self.sleep.seen(self.now, clock::monotonic()) {
            log!(Debug, "network: the machine slept for {} s", slept.as_secs());
            self.machine.handle_network_changed(self.now);
            self.carry_out();
        }
    }

    fn take_messages(&mut self) {
        self.side.inbox.clear_signal();
        for _ in 0..COMMANDS_A_TURN {
            let Some(message) = self.side.inbox.take() else { return };
            let Some(command) = self.side.take_in(message) else { continue };
            self.hand_over(command);
        }
    }

    /// Passes a command to the machine, except for mappings without memory.
    fn hand_over(&mut self, command: Command) {
        match command {
            Command::Create(id, wanted) => {
                self.open_watch();
                if !has_room() {
                    self.deferred.add(self.now, id, wanted);
                    return self.deliveries.push_back(Delivery::Event(id, Event::Failure));
                }
            }
            Command::Destroy(id) => {
                if self.deferred.remove(id) {
                    return self.deliveries.push_back(Delivery::Event(id, Event::Destroyed));
                }
            }
            Command::Cleanup => {
                for (id, _) in self.deferred.take() {
                    self.deliveries.push_back(Delivery::Event(id, Event::Destroyed));
                }
            }
        }
        self.machine.handle_command(self.now, command);
        self.carry_out();
    }

    /// Tries deferred mappings again.
    fn retry_deferred(&mut self) {
        if self.deferred.retry_at().is_some_and(|at| at <= self.now) {
            for (id, wanted) in self.deferred.take() {
                self.hand_over(Command::Create(id, wanted));
            }
        }
    }

    fn read_sockets(&mut self) {
        if self.deliveries.len() >= DELIVERIES_MAX {
            return;
        }
        for source in self.sockets.take_ready() {
            let emptied = match source {
                Source::Watch => self.read_notices(),
                Source::Udp(socket) => self.read_datagrams(socket),
                Source::Tcp(id) => self.read_exchange(id),
            };
            if !emptied {
                self.sockets.read_again(source);
            }
        }
    }

    /// Reads the system's change notices; a burst counts as one change.
    fn read_notices(&mut self) -> bool {
        let notices = self.sockets.drain_watch();
        if notices.broken {
            // The next route lookup opens another one.
            log!(Warn, "network: the system no longer reports changes");
            self.sockets.close_watch();
        }
        if notices.changed {
            log!(Debug, "network: links, addresses or routes have changed");
            self.machine.handle_network_changed(self.now);
            self.carry_out();
        } else if notices.ipv6_changed {
            log!(Debug, "network: addresses or routes of IPv6 have changed");
            self.machine.handle_ipv6_changed(self.now);
            self.carry_out();
        }
        !notices.more
    }

    /// Reads a socket until it is empty; `false`: there may be more.
    fn read_datagrams(&mut self, id: SocketId) -> bool {
        let socket = id.socket;
        let (mut errors, mut said) = (0, None);
        for _ in 0..DATAGRAMS_A_TURN {
            // An earlier datagram may have closed it.
            let Some(udp) = self.sockets.udp(id) else { return true };
            match udp.receive(self.buffer) {
                Received::Datagram { len, from, interface } => {
                    errors = 0;
                    log!(Verbose, "{}: receives {len} octets from {from}", name(socket));
                    let by =
                        Arrival { from, interface, prefix: udp.prefix(), is_on_link: udp.is_on_link(from) };
                    self.machine.handle_datagram(self.now, id, by, &self.buffer[..len]);
                }
                Received::Refused => {
                    log!(Verbose, "{}: the port is closed", name(socket));
                    self.machine.handle_refused(self.now, id);
                }
                Received::Failed(code) => {
                    // Logs a repeated error once.
                    if said.replace(code) != Some(code) {
                        let error = std::io::Error::from_raw_os_error(code);
                        self.log_refusal(
                            Request::Receive(socket),
                            &error,
                            format_args!("{}: cannot read the socket", name(socket)),
                        );
                    }
                    if let Some(reason) = unsent(&std::io::Error::from_raw_os_error(code)) {
                        self.machine.handle_unsent(self.now, id, reason);
                    }
                    errors += 1;
                    if errors == ERRORS_A_TURN {
                        self.sockets.read_later(Source::Udp(id));
                        return true;
                    }
                }
                Received::Empty => return true,
            }
            self.carry_out();
        }
        false
    }

    /// Reads a connection until it is empty or ended; `false`: there may be more.
    fn read_exchange(&mut self, id: ExchangeId) -> bool {
        let Some(exchange) = self.sockets.exchange(id) else { return true };
        if !exchange.established {
            match exchange.tcp.established() {
                Ok(None) => return true,
                Ok(Some(local)) => {
                    exchange.established = true;
                    self.machine.handle_tcp_connected(self.now, id, local);
                    self.carry_out();
                }
                Err(error) => {
                    log!(Debug, "UPnP-IGD: cannot connect: {error}");
                    self.end(id, failure(&error));
                    return true;
                }
            }
        }
        self.sockets.flush(id);
        for _ in 0..READS_A_TURN {
            let Some(exchange) = self.sockets.exchange(id) else { return true };
            match exchange.tcp.read(self.buffer) {
                Ok(Incoming::Data(len)) => {
                    self.machine.handle_tcp_data(self.now, id, &self.buffer[..len]);
                    self.carry_out();
                }
                Ok(Incoming::Empty) => return true,
                Ok(Incoming::Closed) => self.end(id, TcpEnd::Closed),
                Err(error) => {
                    log!(Debug, "UPnP-IGD: a connection breaks: {error}");
                    self.end(id, TcpEnd::Failed);
                }
            }
        }
        false
    }

    /// A connection has ended, or was not established.
    fn end(&mut self, id: ExchangeId, end: TcpEnd) {
        self.sockets.hang_up(id);
        self.machine.handle_tcp_end(self.now, id, end);
        self.carry_out();
    }

    /// Carries out the machine's outputs, until there are none.
    fn carry_out(&mut self) {
        while let Some((engine, output)) = self.machine.poll_output() {
            match output {
                Output::LookUpRoute { toward } => self.look_up_route(engine, toward),
                Output::LookUpAddresses { zone } => self.look_up_addresses(zone.as_deref()),
                Output::LookUpIpv6Route { source, toward } => self.look_up_ipv6_route(engine, source, toward),
                Output::Open { socket, local, interface, remote } => {
                    let id = SocketId { engine, socket };
                    let by = self.uplink();
                    let opened = self.sockets.open(id, local, interface, remote, by);
                    let what = format_args!("{}: cannot open the socket at {local}", name(socket));
                    self.note_result(Request::Open(socket), opened.as_ref().err(), what);
                    let is_moved = opened.as_ref().is_err_and(net::is_address_gone);
                    self.machine.handle_opened(self.now, id, opened.ok());
                    if is_moved && engine != EngineId::IPV4 {
                        // No fault of the gateway: the addresses are looked up again.
                        self.machine.handle_ipv6_changed(self.now);
                    }
                }
                Output::Close { socket } => self.sockets.close(SocketId { engine, socket }),
                Output::Send { socket, to, bytes } => self.send(SocketId { engine, socket }, to, &bytes),
                Output::Connect { exchange, to, source } => self.connect(exchange, to, source),
                Output::Write { exchange, bytes } => {
                    if let Err(error) = self.sockets.write(exchange, &bytes) {
                        log!(Debug, "UPnP-IGD: cannot write to a connection: {error}");
                        self.sockets.hang_up(exchange);
                        self.machine.handle_tcp_end(self.now, exchange, TcpEnd::Failed);
                    }
                }
                Output::HangUp { exchange } => self.sockets.hang_up(exchange),
                Output::Event { id, event } => self.deliveries.push_back(Delivery::Event(id, event)),
                Output::Finished => self.deliveries.push_back(Delivery::Finished),
            }
        }
    }

    fn connect(&mut self, exchange: ExchangeId, to: SocketAddr, source: Option<LocalSource>) {
        let by = self.uplink();
        let Err(error) = self.sockets.connect(exchange, to, source, by) else {
            return self.refusals.note_granted(Request::Connect);
        };
        // Devices announce unreachable addresses: that is no fault of this machine.
        if net::is_shortage(&error) || error.kind() == ErrorKind::PermissionDenied {
            self.log_refusal(Request::Connect, &error, format_args!("UPnP-IGD: cannot connect to {to}"));
        } else {
            log!(Debug, "UPnP-IGD: cannot connect to {to}: {error}");
        }
        self.machine.handle_tcp_end(self.now, exchange, failure(&error));
    }

    /// Sends a datagram. One that cannot be sent now (full buffer, link down) counts as lost: the machine retransmits
    /// it.
    fn send(&mut self, id: SocketId, to: SocketAddr, bytes: &[u8]) {
        let socket = id.socket;
        let Some(udp) = self.sockets.udp(id) else {
            log!(Verbose, "{}: drops {} octets to {to}, the socket is not open", name(socket), bytes.len());
            return;
        };
        let sent = udp.send(to, bytes);
        match sent.result {
            Ok(()) => {
                self.refusals.note_granted(Request::Send(socket));
                log!(Verbose, "{}: sends {} octets to {to}", name(socket), bytes.len());
            }
            // The machine is told below.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                log!(Verbose, "{}: drops {} octets to {to}: {error}", name(socket), bytes.len());
            }
            Err(error) => {
                self.log_refusal(
                    Request::Send(socket),
                    &error,
                    format_args!("{}: cannot send to {to}", name(socket)),
                );
                if let Some(reason) = unsent(&error) {
                    self.machine.handle_unsent(self.now, id, reason);
                }
            }
        }
        if sent.refused {
            log!(Verbose, "{}: the port is closed", name(socket));
            self.machine.handle_refused(self.now, id);
        }
    }

    /// Records the result of a request to the system.
    fn note_result(&mut self, request: Request, error: Option<&std::io::Error>, what: Arguments<'_>) {
        match error {
            Some(error) => self.log_refusal(request, error, what),
            None => self.refusals.note_granted(request),
        }
    }

    /// Logs a refusal of the system, as a warning if it is new.
    fn log_refusal(&mut self, request: Request, error: &std::io::Error, what: Arguments<'_>) {
        if self.refusals.is_news(self.now, request, error) {
            log!(Warn, "{what}: {error}{}", advice(request, error));
        } else {
            log!(Debug, "{what}: {error}");
        }
    }

    /// Delivers one event to the program; `true`: it was the last.
    fn deliver(&mut self) -> bool {
        if self.side.is_program_due(self.now) {
            self.side.program_due = self.side.program.handle_timeout(self.now);
            return false;
        }
        while let Some(delivery) = self.deliveries.pop_front() {
            match delivery {
                Delivery::Event(id, event) => {
                    self.side.tell(self.now, id, event);
                    // `Pending` has no callback.
                    if event != Event::Pending {
                        return false;
                    }
                }
                Delivery::Finished => {
                    self.side.program.handle_finished(self.now);
                    return true;
                }
            }
        }
        false
    }
}

/// A socket as the log names it.
fn name(socket: Socket) -> &'static str {
    match socket {
        Socket::Pcp => "PCP",
        Socket::NatPmp => "NAT-PMP",
        Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp => "UPnP-IGD",
        Socket::Announcements => "PCP announcements",
        Socket::Notifications => "UPnP-IGD notifications",
    }
}

/// The reason that a socket error gives for an unreachable gateway.
fn unsent(error: &std::io::Error) -> Option<Reason> {
    match error.kind() {
        ErrorKind::PermissionDenied => Some(Reason::Firewall),
        ErrorKind::HostUnreachable => Some(Reason::Unreachable),
        _ => None,
    }
}

fn failure(error: &std::io::Error) -> TcpEnd {
    match error.kind() {
        ErrorKind::ConnectionRefused => TcpEnd::Refused,
        _ if net::is_shortage(error) => TcpEnd::Starved,
        _ => TcpEnd::Failed,
    }
}
