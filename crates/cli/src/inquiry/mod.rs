//! Asks a gateway by the drivers of the library's engine, without its core: nothing is mapped.
//!
//! The drivers decide whom to ask, how often, and which answers count. This file decides how long the command waits.

mod address;
mod asker;
mod choice;
mod machine;
mod map_question;
mod request;
mod status;

pub use address::Told;
pub use asker::Asker;
pub use choice::{Choice, is_usable};
pub use request::Map;

use crate::upnp::{ActionError, Values, read};
use map_question::MapQuestion;
use plum::Gateway;
use plum_engine::driver::{DeletionOutcome, Driver, Notice, Rung, Slot};
use plum_engine::io::{Config, Cx, Output, Protocol, Route, Socket, Source};
use plum_engine::ipv6::Ipv6Route;
use plum_engine::ladder::RungState;
use plum_engine::protocols::ProtocolState;
use plum_engine::time::Time;
use plum_engine::upnp::{Action, Device, DeviceState, ExchangeError, Service};
use plum_engine::{Drivers, Reason};
use plum_runtime::net::{self, Uplink, clock};
use plum_runtime::worker::os_random;
use plum_wire::http::Reply;
use plum_wire::igd::WanService;
use plum_wire::{natpmp, pcp};
use request::Request;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// How long after the last answer to the search other devices on the host of a named gateway may answer.
const STRAGGLER_TIMEOUT: Duration = Duration::from_millis(200);

/// How long an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The actions by which a service that maps ports is asked about itself.
const SELF_QUESTIONS: &[&str] = &["GetExternalIPAddress", "GetStatusInfo", "GetNATRSIPStatus"];

/// The actions by which a firewall is asked about itself.
const FIREWALL_QUESTIONS: &[&str] = &["GetFirewallStatus"];

/// The gateway to ask, and the times.
#[derive(Clone)]
pub struct Whom {
    /// In place of the gateway of the default route.
    pub named: Option<Gateway>,
    /// By which interface it is asked.
    pub uplink: Uplink,
    /// How long to wait for the first answer.
    pub silence: Duration,
    /// How long to wait for all servers and devices.
    pub patience: Duration,
    /// The deadline of the whole command.
    pub until: Instant,
}

impl Whom {
    /// Whether the gateway that is named, if any, is one of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.named.as_ref().is_some_and(|gateway| gateway.address.to_canonical().is_ipv6())
    }

    /// The IPv4 route toward the gateway.
    pub fn route(&self) -> Option<Route> {
        if self.is_ipv6() {
            return None;
        }
        let toward = self.named.as_ref().map(|gateway| gateway.address);
        let net::Route { gateway, local, interface } = self.uplink.find_route(toward).ok()??;
        Some(Route { gateway, local, interface })
    }
}

/// The way of the questions.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    route: Route,
    /// IPv6: the address that they come from.
    source: Option<Source>,
    /// IPv6: the link-local address of its interface.
    link_local: Option<Ipv6Addr>,
}

impl From<Route> for Origin {
    /// By IPv4.
    fn from(route: Route) -> Origin {
        Origin { route, source: None, link_local: None }
    }
}

impl Origin {
    /// By IPv6, from an address of this machine.
    pub fn ipv6(source: Source, route: &Ipv6Route) -> Origin {
        let gateway = route.next_hop.router().map(IpAddr::V6);
        let route4 = Route { gateway, local: source.address.into(), interface: source.interface };
        Origin { route: route4, source: Some(source), link_local: route.link_local }
    }

    /// The local address of a socket; `None`: there is none for it.
    fn local(&self, socket: Socket) -> Option<IpAddr> {
        match socket {
            Socket::LinkSsdp => self.link_local.map(IpAddr::V6),
            _ => Some(self.route.local),
        }
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
    /// The address of this machine.
    local: IpAddr,
    drivers: Drivers,
    goal: Goal,
    /// When the goal is given up.
    ends_at: Time,
    /// Whether the end (goal reached or given up) was reported.
    is_finished: bool,
    begun_at: Time,
    /// Everything that arrived before this time has been handled. Waits end by it, not by the time of the last input: an answer may
    /// still be unread at another socket.
    settled_at: Time,
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
    /// NAT-PMP is asked, too.
    asks_natpmp: bool,
    /// Whether each service is asked about itself.
    asks_services: bool,
    /// By which actions.
    self_questions: &'static [&'static str],
    /// The numbers of these calls.
    self_calls: BTreeMap<Rung, Vec<u32>>,
    last_call: u32,
    /// The calls by their numbers, with the service of each; `None`: its reply is outstanding.
    calls: BTreeMap<u32, (Rung, Option<Called>)>,
    /// Whether MAP requests are answered.
    map_question: Option<MapQuestion>,
    /// The entry whose deletion was asked for last, and what came of it.
    deletion: Option<(Slot, Option<DeletionOutcome>)>,
    /// The request that no driver sends.
    request: Option<Request>,
}

impl Inquiry {
    /// Opens these sockets, and searches, as soon as it is carried.
    fn new(whom: &Whom, origin: &Origin, sockets: &[Socket]) -> io::Result<Inquiry> {
        let begun_at = clock::now();
        let config = Config {
            // The command's own deadline comes sooner.
            discover_timeout: 2 * whom.patience,
            gateway: whom.named.as_ref().map(|gateway| (gateway.address.to_canonical(), gateway.port)),
            source: origin.source,
            ..Config::default()
        };
        let route = origin.route;
        let mut inquiry = Inquiry {
            server: config.server(route),
            local: route.local,
            cx: Cx::new(config, os_random()?),
            drivers: Drivers::default(),
            goal: |_| None,
            ends_at: begun_at,
            is_finished: true,
            begun_at,
            settled_at: begun_at,
            silence: whom.silence,
            silent_at: begun_at + whom.silence,
            pcp_reply: None,
            natpmp_reply: None,
            unsent_search: None,
            heard: BTreeMap::new(),
            asks_natpmp: sockets.contains(&Socket::NatPmp),
            asks_services: false,
            self_questions: if origin.source.is_some() { FIREWALL_QUESTIONS } else { SELF_QUESTIONS },
            self_calls: BTreeMap::new(),
            last_call: 0,
            calls: BTreeMap::new(),
            map_question: None,
            deletion: None,
            request: None,
        };
        let cx = inquiry.cx.at(begun_at);
        inquiry.drivers.start(cx, Some(route), inquiry.server);
        inquiry.drivers.upnp.probe(cx);
        for &socket in sockets {
            let is_for_server = matches!(socket, Socket::Pcp | Socket::NatPmp);
            let remote = inquiry.server.filter(|_| is_for_server);
            if let Some(local) = origin.local(socket).filter(|_| remote.is_some() || !is_for_server) {
                cx.output(Output::Open { socket, local, interface: route.interface, remote });
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

    /// Whether a service is of use by this IP version: for IPv4 those that map ports, for IPv6 firewalls.
    fn is_of_use(&self, service: &Service) -> bool {
        let maps_ports = matches!(service.named.kind, WanService::Ip2 | WanService::Ip1 | WanService::Ppp1);
        maps_ports == self.cx.config.source.is_none()
    }

    /// The services of a device, the better kinds first.
    pub fn services(&self, device: &Device) -> Vec<&Service> {
        let is_its = |service: &&Service| service.device == device.number && self.is_of_use(service);
        let mut services: Vec<_> = self.drivers.upnp.services().iter().filter(is_its).collect();
        services.sort_by_key(|service| service.named.kind);
        services
    }

    /// The replies of a service to the questions about itself, by their actions; `None`: outstanding.
    fn replies(&self, service: &Service) -> impl Iterator<Item = (&'static str, Option<&Called>)> {
        let calls = self.self_calls.get(&service.rung).map_or(&[][..], Vec::as_slice);
        let reply = |call| self.calls.get(call).and_then(|(_, reply)| reply.as_ref());
        self.self_questions.iter().zip(calls).map(move |(&name, call)| (name, reply(call)))
    }

    /// What a service says of itself by an action.
    pub fn said(&self, service: &Service, action: &str) -> Result<Values, ActionError> {
        match self.replies(service).find(|&(name, _)| name == action) {
            Some((_, Some((_, reply)))) => read(action, service, reply),
            _ => Err(ActionError::NoAnswer(format!("{action}: no answer in time"))),
        }
    }

    /// When the last of these answers came.
    pub fn told_at(&self, service: &Service) -> Option<Time> {
        self.replies(service).filter_map(|(_, reply)| Some(reply?.0)).max()
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
        self.settled_at >= self.ends_at && self.is_anyone_asked()
    }

    /// Goal: all servers and devices have answered, or count as silent.
    fn await_everybody(&self) -> Option<Time> {
        let now = self.settled_at;
        let is_open = |protocol, has_answered: bool| {
            (!has_answered || self.is_map_open(protocol)) && self.out(protocol).is_none()
        };
        let is_server_open = self.server.is_some()
            && (is_open(Protocol::Pcp, self.pcp_reply.is_some())
                || self.asks_natpmp && is_open(Protocol::NatPmp, self.natpmp_reply.is_some()));
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
            RungState::Coming { hold_until, .. } => self.settled_at < hold_until,
            _ => false,
        };
        match self.rungs().into_iter().find(is_next) {
            Some(RungState::Coming { hold_until, .. }) => Some(hold_until),
            Some(_) => None,
            None if self.is_anyone_asked() => Some(self.ends_at),
            None => Some(self.silent_at).filter(|&at| self.settled_at < at),
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
                self.note_map_notice(protocol, &notice);
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
            let services = self.drivers.upnp.services().iter().filter(|service| self.is_of_use(service));
            let rungs: Vec<Rung> = services.map(|service| service.rung).collect();
            // A service that went and came back is asked again.
            self.self_calls.retain(|rung, _| rungs.contains(rung));
            for rung in rungs {
                if !self.self_calls.contains_key(&rung) {
                    let questions = self.self_questions.iter();
                    let calls = questions.map(|name| self.call(rung, Action::new(name, None))).collect();
                    self.self_calls.insert(rung, calls);
                }
            }
        }
    }
}
