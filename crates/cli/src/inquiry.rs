//! Asks a gateway by the drivers of the library's engine, without its core: nothing is mapped.
//!
//! The drivers decide whom to ask, how often, and which answers count. This file decides how long the command waits.

use crate::exit::{Exit, Failure};
use crate::upnp::{ActionError, Values, read};
use plum::Gateway;
use plum_engine::driver::{DeletionOutcome, Driver, Key, Notice, Rung, Slot};
use plum_engine::io::{
    Arrival, Config, Cx, EngineId, ExchangeId, Output, Protocol, Route, Socket, SocketId, TcpEnd,
};
use plum_engine::ladder::RungState;
use plum_engine::ledger::HardwareAddress;
use plum_engine::protocols::ProtocolState;
use plum_engine::time::Time;
use plum_engine::upnp::{Action, Device, DeviceState, ExchangeError, Service};
use plum_engine::{Drivers, Reason};
use plum_runtime::net::{self, clock};
use plum_runtime::worker::{Blocking, Command, Machine, os_random};
use plum_wire::http::Reply;
use plum_wire::{Transport, natpmp, pcp};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// How long after the last answer to the search other devices on the host of a named gateway may answer.
const STRAGGLER_TIMEOUT: Duration = Duration::from_millis(200);

/// How long an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The actions by which a service is asked about itself.
const SELF_QUESTIONS: [&str; 3] = ["GetExternalIPAddress", "GetStatusInfo", "GetNATRSIPStatus"];

/// The gateway to ask, and the times.
#[derive(Clone, Debug)]
pub struct Whom {
    /// In place of the gateway of the default route.
    pub named: Option<Gateway>,
    /// How long to wait for the first answer.
    pub silence: Duration,
    /// How long to wait for all servers and devices.
    pub patience: Duration,
    /// The deadline of the whole command.
    pub until: Instant,
}

impl Whom {
    /// The route toward the gateway.
    pub fn route(&self) -> Option<Route> {
        let net::Route { gateway, local, interface } =
            net::look_up_route(self.named.as_ref().map(|gateway| gateway.address))?;
        Some(Route { gateway, local, interface })
    }
}

/// The outcome of the call of an action, and its time.
type Called = (Time, Result<Reply, ExchangeError>);

/// When to check the goal again; `None`: it is reached.
type Goal = fn(&Inquiry) -> Option<Time>;

/// The questions, and the answers so far.
pub struct Inquiry {
    cx: Cx,
    server: Option<SocketAddr>,
    drivers: Drivers,
    goal: Goal,
    /// When the goal is given up.
    ends_at: Time,
    /// Whether the end (goal reached or given up) was reported.
    is_finished: bool,
    begun_at: Time,
    /// How long to wait for the first answer.
    silence: Duration,
    /// When servers and devices that have not answered count as silent.
    silent_at: Time,
    /// The answer to ANNOUNCE.
    pub pcp_reply: Option<(Time, pcp::Reply)>,
    /// The answer to the question for the external address.
    pub natpmp_reply: Option<(Time, natpmp::Reply)>,
    /// Why a search could not be sent.
    pub unsent_search: Option<Reason>,
    /// When each device answered first, by its number.
    heard: BTreeMap<u32, Time>,
    /// Whether each service is asked about itself.
    asks_services: bool,
    /// The numbers of these calls.
    self_calls: BTreeMap<Rung, [u32; 3]>,
    last_call: u32,
    /// The calls by their numbers, with the service of each; `None`: its reply is outstanding.
    calls: BTreeMap<u32, (Rung, Option<Called>)>,
    /// The entry whose deletion was asked for last, and what came of it.
    deletion: Option<(Slot, Option<DeletionOutcome>)>,
}

impl Inquiry {
    /// Opens these sockets, and searches, as soon as it is carried.
    fn new(whom: &Whom, route: Route, sockets: &[Socket]) -> io::Result<Inquiry> {
        let begun_at = clock::now();
        let config = Config {
            // The command's own deadline comes sooner.
            discover_timeout: 2 * whom.patience,
            gateway: whom.named.as_ref().map(|gateway| (gateway.address.to_canonical(), gateway.port)),
            ..Config::default()
        };
        let mut inquiry = Inquiry {
            server: config.server(route),
            cx: Cx::new(config, os_random()?),
            drivers: Drivers::default(),
            goal: |_| None,
            ends_at: begun_at,
            is_finished: true,
            begun_at,
            silence: whom.silence,
            silent_at: begun_at + whom.silence,
            pcp_reply: None,
            natpmp_reply: None,
            unsent_search: None,
            heard: BTreeMap::new(),
            asks_services: false,
            self_calls: BTreeMap::new(),
            last_call: 0,
            calls: BTreeMap::new(),
            deletion: None,
        };
        let cx = inquiry.cx.at(begun_at);
        inquiry.drivers.start(cx, Some(route), inquiry.server);
        inquiry.drivers.upnp.probe(cx);
        for &socket in sockets {
            let remote = inquiry.server.filter(|_| socket != Socket::Ssdp);
            if remote.is_some() || socket == Socket::Ssdp {
                let Route { local, interface, .. } = route;
                cx.output(Output::Open { socket, local, interface, remote });
            }
        }
        Ok(inquiry)
    }

    /// The gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.server.map(|server| server.ip())
    }

    /// The time from the start to `at`.
    pub fn took(&self, at: Time) -> Duration {
        at.since(self.begun_at)
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.took(self.cx.now)
    }

    /// Why a protocol is out, and since when.
    pub fn out(&self, protocol: Protocol) -> Option<(Reason, Time)> {
        match self.cx.protocols.state(protocol) {
            ProtocolState::Out { reason, .. } => Some((reason, self.cx.protocols.of(protocol).out_at?)),
            _ => None,
        }
    }

    /// The devices that have answered, the gateway's first, with the time of each.
    pub fn devices(&self) -> Vec<(&Device, Time)> {
        let heard_at = |device: &Device| self.heard.get(&device.number).copied().unwrap_or(self.cx.now);
        let devices = self.drivers.upnp.devices().iter();
        let mut devices: Vec<_> = devices.map(|device| (device, heard_at(device))).collect();
        devices.sort_by_key(|(device, _)| Some(device.location.address.ip()) != self.gateway());
        devices
    }

    /// The services of a device, the better kinds first.
    pub fn services(&self, device: &Device) -> Vec<&Service> {
        let services = self.drivers.upnp.services().iter();
        let mut services: Vec<_> = services.filter(|service| service.device == device.number).collect();
        services.sort_by_key(|service| service.named.kind);
        services
    }

    /// A service's answers about itself (external address, status, whether its NAT is on), and when the last came.
    pub fn said(&self, service: &Service) -> ([Result<Values, ActionError>; 3], Option<Time>) {
        let calls = self.self_calls.get(&service.rung).copied().unwrap_or_default();
        let replies = calls.map(|call| self.calls.get(&call)?.1.as_ref());
        let told_at = replies.iter().flatten().map(|(at, _)| *at).max();
        let read = |n: usize| match replies[n] {
            Some((_, reply)) => read(SELF_QUESTIONS[n], service, reply),
            None => Err(ActionError::NoAnswer(format!("{}: no answer in time", SELF_QUESTIONS[n]))),
        };
        ([0, 1, 2].map(read), told_at)
    }

    fn rungs(&self) -> Vec<RungState> {
        let mut rungs = Vec::new();
        self.drivers.upnp.rungs(self.cx.now, &self.cx.config, &mut rungs);
        rungs
    }

    /// The services in the order in which the library would ask them now.
    pub fn order(&self) -> impl Iterator<Item = &Service> {
        self.rungs().into_iter().filter_map(|state| match state {
            RungState::Open { rung, .. } => {
                self.drivers.upnp.services().iter().find(|service| service.rung == rung)
            }
            _ => None,
        })
    }

    /// Whether a reply is outstanding of a service that is still there.
    fn is_call_open(&self) -> bool {
        let is_there = |rung| self.drivers.upnp.services().iter().any(|service| service.rung == rung);
        self.calls.values().any(|(rung, reply)| reply.is_none() && is_there(*rung))
    }

    /// Whether a description or a reply is outstanding.
    fn is_anyone_asked(&self) -> bool {
        let is_fetched = |device: &Device| device.state == DeviceState::Fetching;
        self.is_call_open() || self.drivers.upnp.devices().iter().any(is_fetched)
    }

    /// Whether an answer was still missing when the time ended.
    pub fn is_cut(&self) -> bool {
        self.cx.now >= self.ends_at && self.is_anyone_asked()
    }

    /// Goal: all servers and devices have answered, or count as silent.
    fn await_everybody(&self) -> Option<Time> {
        let now = self.cx.now;
        let is_open = |protocol, has_answered: bool| !has_answered && self.out(protocol).is_none();
        let is_server_open = self.server.is_some()
            && (is_open(Protocol::Pcp, self.pcp_reply.is_some())
                || is_open(Protocol::NatPmp, self.natpmp_reply.is_some()));
        if is_server_open && now < self.silent_at {
            return Some(self.silent_at);
        }
        if self.is_anyone_asked() {
            return Some(self.ends_at);
        }
        let coming = self.rungs().into_iter().filter_map(|state| match state {
            RungState::Coming { until, .. } => Some(until),
            _ => None,
        });
        let listen_until = match self.heard.values().max() {
            _ if self.drivers.upnp.services().is_empty() => self.silent_at,
            Some(&last) if self.cx.config.gateway.is_some() => last + STRAGGLER_TIMEOUT,
            _ => coming.max().unwrap_or(now),
        };
        Some(listen_until.min(self.silent_at)).filter(|&at| now < at)
    }

    /// Goal: the service that the library would ask first is known, or that there is none.
    fn await_service(&self) -> Option<Time> {
        let is_next = |state: &RungState| match *state {
            RungState::Open { .. } => true,
            RungState::Coming { hold_until, .. } => self.cx.now < hold_until,
            _ => false,
        };
        match self.rungs().into_iter().find(is_next) {
            Some(RungState::Coming { hold_until, .. }) => Some(hold_until),
            Some(_) => None,
            None if self.is_anyone_asked() => Some(self.ends_at),
            None => Some(self.silent_at).filter(|&at| self.cx.now < at),
        }
    }

    /// Goal: all calls are answered.
    fn await_replies(&self) -> Option<Time> {
        self.is_call_open().then_some(self.ends_at)
    }

    /// Goal: the outcome of the deletion is known.
    fn await_deletion(&self) -> Option<Time> {
        matches!(self.deletion, Some((_, None))).then_some(self.ends_at)
    }

    fn call(&mut self, rung: Rung, action: Action) -> u32 {
        self.last_call += 1;
        self.calls.insert(self.last_call, (rung, None));
        self.drivers.upnp.call(&mut self.cx, rung, self.last_call, action, ACTION_TIMEOUT);
        self.last_call
    }

    /// A gateway may answer a deletion with a lifetime that is left. Nothing but deletions is sent for mappings here, so the
    /// answer is no copy of a grant.
    fn note_shortened(&mut self, bytes: &[u8]) {
        let Some((Slot { key, .. }, known @ None)) = &mut self.deletion else { return };
        if let Ok(natpmp::Reply::Map { result, transport, internal_port, lifetime_secs, .. }) =
            natpmp::parse(bytes)
            && result == natpmp::ResultCode::Success
            && (transport, internal_port) == (key.transport, key.internal_port.get())
        {
            *known = Some(DeletionOutcome::DeletedIn(Duration::from_secs(lifetime_secs.into())));
        }
    }

    /// After every input: takes the drivers' notices and replies.
    fn settle(&mut self) {
        for protocol in Protocol::ASKING {
            while let Some(notice) = self.drivers.of(protocol).and_then(Driver::poll_notice) {
                // A slow gateway answers a repeated deletion twice, perhaps when the next one is open.
                if let (Notice::Deleted { slot, outcome }, Some((of, known))) = (notice, &mut self.deletion)
                    && slot == *of
                {
                    *known = Some(outcome);
                }
            }
        }
        while let Some((call, reply)) = self.drivers.upnp.poll_reply() {
            // A late reply is not waited for any more.
            self.calls.entry(call).and_modify(|(_, open)| *open = Some((self.cx.now, reply)));
        }
        for device in self.drivers.upnp.devices() {
            self.heard.entry(device.number).or_insert(self.cx.now);
        }
        if self.asks_services {
            let rungs: Vec<Rung> = self.drivers.upnp.services().iter().map(|service| service.rung).collect();
            // A service that went and came back is asked again.
            self.self_calls.retain(|rung, _| rungs.contains(rung));
            for rung in rungs {
                if !self.self_calls.contains_key(&rung) {
                    let calls = SELF_QUESTIONS.map(|name| self.call(rung, Action::new(name, None)));
                    self.self_calls.insert(rung, calls);
                }
            }
        }
    }
}

impl Machine for Inquiry {
    fn handle_command(&mut self, _now: Time, _command: Command) {}

    fn handle_route(
        &mut self,
        _now: Time,
        _: EngineId,
        _route: Option<Route>,
        _hardware: Option<HardwareAddress>,
    ) {
    }

    fn handle_network_changed(&mut self, _now: Time) {}

    fn handle_opened(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        let socket = socket.socket;
        self.drivers.handle_opened(self.cx.at(now), socket, local);
        if socket == Socket::Ssdp && local.is_none() {
            self.unsent_search = Some(Reason::Shortage);
        }
        self.settle();
    }

    fn handle_datagram(&mut self, now: Time, socket: SocketId, by: Arrival, bytes: &[u8]) {
        let socket = socket.socket;
        let counts = self.drivers.handle_datagram(self.cx.at(now), socket, by, bytes);
        if counts && socket == Socket::Pcp {
            self.pcp_reply = self.pcp_reply.or(pcp::parse(bytes).ok().map(|reply| (now, reply)));
        } else if counts {
            self.natpmp_reply = self.natpmp_reply.or(natpmp::parse(bytes).ok().map(|reply| (now, reply)));
        } else if socket == Socket::NatPmp {
            self.note_shortened(bytes);
        }
        self.settle();
    }

    fn handle_refused(&mut self, now: Time, socket: SocketId) {
        self.handle_unsent(now, socket, Reason::PortClosed);
    }

    fn handle_unsent(&mut self, now: Time, socket: SocketId, reason: Reason) {
        let socket = socket.socket;
        self.drivers.handle_unsent(self.cx.at(now), socket, reason);
        self.unsent_search = self.unsent_search.or((socket == Socket::Ssdp).then_some(reason));
        self.settle();
    }

    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.drivers.upnp.handle_tcp_connected(self.cx.at(now), exchange, local);
        self.settle();
    }

    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.drivers.upnp.handle_tcp_data(self.cx.at(now), exchange, bytes);
        self.settle();
    }

    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.drivers.upnp.handle_tcp_end(self.cx.at(now), exchange, end);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Time) {
        for protocol in Protocol::ASKING {
            if let Some(driver) = self.drivers.of(protocol) {
                driver.handle_timeout(self.cx.at(now));
            }
        }
        self.settle();
    }

    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        let is_over = |its: &Inquiry| its.cx.now >= its.ends_at || (its.goal)(its).is_none();
        let output = self.cx.outputs.pop_front().or_else(|| {
            let is_news = !self.is_finished && is_over(self);
            self.is_finished |= is_news;
            is_news.then_some(Output::Finished)
        });
        Some((EngineId::IPV4, output?))
    }

    fn poll_timeout(&self) -> Option<Time> {
        if !self.cx.outputs.is_empty() {
            return Some(Time::ZERO);
        }
        let goal_at = (self.goal)(self).unwrap_or(Time::ZERO).min(self.ends_at);
        [self.drivers.poll_timeout(), Some(goal_at)].into_iter().flatten().min()
    }
}

/// The questions of a command, each waited for.
pub struct Asker(Blocking<Inquiry>);

impl Asker {
    /// Sends nothing yet.
    pub fn new(whom: &Whom, route: Route, sockets: &[Socket]) -> io::Result<Asker> {
        Ok(Asker(Blocking::new(Inquiry::new(whom, route, sockets)?)?))
    }

    /// The answers so far.
    pub fn inquiry(&self) -> &Inquiry {
        &self.0.machine
    }

    fn run(&mut self, until: Instant, goal: Goal) {
        let its = &mut self.0.machine;
        its.ends_at = clock::now() + until.saturating_duration_since(Instant::now());
        (its.goal, its.is_finished) = (goal, false);
        self.0.run();
    }

    /// Asks all servers and devices about themselves.
    pub fn ask_everybody(&mut self, until: Instant) {
        let its = &mut self.0.machine;
        its.asks_services = true;
        let cx = its.cx.at(clock::now());
        // At a recheck the drivers ask for the epoch and the external address.
        its.drivers.pcp.recheck(cx, true);
        its.drivers.natpmp.recheck(cx, true);
        self.run(until, Inquiry::await_everybody);
    }

    /// The device and service that the library would ask first.
    ///
    /// # Errors
    ///
    /// No search could be sent.
    pub fn find_service(&mut self, until: Instant) -> Result<Option<(Device, Service)>, Failure> {
        self.run(until, Inquiry::await_service);
        let its = &mut self.0.machine;
        let found = its.order().next().and_then(|service| {
            let device = its.drivers.upnp.devices().iter().find(|device| device.number == service.device)?;
            Some((device.clone(), service.clone()))
        });
        its.drivers.upnp.rest(&mut its.cx);
        match (its.unsent_search, found) {
            (Some(reason), None) => Err(Failure::new(Exit::Failed, reason.to_string())),
            (_, found) => Ok(found),
        }
    }

    /// Calls an action; returns its out arguments by name.
    pub fn call(&mut self, service: &Service, action: Action, until: Instant) -> Result<Values, ActionError> {
        let name = action.name;
        let its = &mut self.0.machine;
        its.cx.now = clock::now();
        let call = its.call(service.rung, action);
        // A service that is gone by now does not answer.
        self.run(until.min(Instant::now() + ACTION_TIMEOUT), Inquiry::await_replies);
        let reply = self.0.machine.calls.remove(&call).and_then(|(_, reply)| reply);
        read(name, service, &reply.map_or(Err(ExchangeError::TimedOut), |(_, reply)| reply))
    }

    /// Deletes the NAT-PMP mapping of a port of this machine.
    pub fn delete(
        &mut self,
        transport: Transport,
        internal_port: NonZeroU16,
        until: Instant,
    ) -> DeletionOutcome {
        let slot = Slot { rung: Rung::NatPmp, key: Key { transport, internal_port }, port: 0 };
        let silence = DeletionOutcome::NotConfirmed(Reason::Silence);
        let until = until.min(Instant::now() + self.0.machine.silence);
        if self.0.machine.cx.protocols.is_out_for_shortage(Protocol::NatPmp) {
            return DeletionOutcome::NotConfirmed(Reason::Shortage);
        }
        // A program need not wait for a slow gateway at its end, so the library gives up after 0.8 s.
        for _ in 0..5 {
            let its = &mut self.0.machine;
            its.deletion = Some((slot, None));
            its.drivers.natpmp.delete(its.cx.at(clock::now()), slot, true);
            self.run(until, Inquiry::await_deletion);
            let outcome = self.0.machine.deletion.and_then(|(_, outcome)| outcome).unwrap_or(silence);
            if outcome != silence || Instant::now() >= until {
                return outcome;
            }
        }
        silence
    }
}
