//! Mappings to IPv6 addresses: which engine they are in, and how they move when addresses change.

use plum_engine::Engines;
use plum_engine::io::{
    Config, EngineId, Event, MappingId, Output, Socket, SocketId, Source, Suggestion, Wanted,
};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use plum_wire::Transport;
use plum_wire::pcp;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

const INTERFACE: u32 = 2;
const ROUTER: &str = "fe80::1";
const START: Time = Time::from_secs(1_000_000);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn stable(text: &str) -> LocalAddress {
    LocalAddress {
        address: ip(text),
        interface: INTERFACE,
        is_temporary: false,
        is_deprecated: false,
        is_tentative: false,
        preferred_secs: 1800,
    }
}

fn deprecated(text: &str) -> LocalAddress {
    LocalAddress { is_deprecated: true, preferred_secs: 0, ..stable(text) }
}

fn tentative(text: &str) -> LocalAddress {
    LocalAddress { is_tentative: true, ..stable(text) }
}

/// The engines, a machine with addresses, and a PCP server that grants what it is asked for while `grants`.
struct Home {
    engines: Engines,
    now: Time,
    addresses: Ipv6Addresses,
    other_routers: Vec<Ipv6Addr>,
    /// The routers that grant nothing.
    silent: Vec<Ipv6Addr>,
    grants: bool,
    next_id: MappingId,
    events: Vec<(MappingId, Event)>,
    lookups: usize,
    packets: usize,
    finished: usize,
    /// The open sockets and the addresses of those that are bound to one.
    sockets: Vec<(SocketId, IpAddr)>,
    /// The addresses that have a pinhole for a port.
    table: Vec<(Ipv6Addr, u16)>,
}

impl Home {
    fn new(list: &[LocalAddress]) -> Home {
        Home::with(Config::default(), list)
    }

    fn with(config: Config, list: &[LocalAddress]) -> Home {
        Home {
            engines: Engines::new(config, Box::new(Seeded::new(1))),
            now: START,
            addresses: Ipv6Addresses { list: list.to_vec(), interface: Some(INTERFACE) },
            other_routers: Vec::new(),
            silent: Vec::new(),
            grants: true,
            next_id: 0,
            events: Vec::new(),
            lookups: 0,
            packets: 0,
            finished: 0,
            sockets: Vec::new(),
            table: Vec::new(),
        }
    }

    fn create(&mut self, host: &str, port: u16) -> MappingId {
        let id = self.next_id;
        self.next_id += 1;
        let wish = Suggestion { address: Some(ip(host).into()), port: None, ..Suggestion::default() };
        let internal_port = NonZeroU16::new(port).unwrap();
        let wanted = Wanted { transport: Transport::Tcp, internal_port, wish, description: None };
        self.engines.handle_command(self.now, Command::Create(id, wanted));
        self.carry();
        id
    }

    fn destroy(&mut self, id: MappingId) {
        self.engines.handle_command(self.now, Command::Destroy(id));
        self.carry();
    }

    fn cleanup(&mut self) {
        self.engines.handle_command(self.now, Command::Cleanup);
        self.carry();
        self.run(Duration::from_secs(6));
    }

    /// The system has other addresses, and says so.
    fn change(&mut self, list: &[LocalAddress]) {
        self.addresses.list = list.to_vec();
        self.notice();
    }

    fn notice(&mut self) {
        self.engines.handle_ipv6_changed(self.now);
        self.carry();
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.engines.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.engines.handle_timeout(self.now);
            self.carry();
        }
        self.now = until;
    }

    fn told(&self, id: MappingId) -> Vec<Event> {
        self.events.iter().filter(|(of, _)| *of == id).map(|&(_, event)| event).collect()
    }

    fn host(&self, id: MappingId) -> Option<String> {
        match self.told(id).last() {
            Some(Event::Success { address, .. }) => Some(address.to_string()),
            _ => None,
        }
    }

    fn carry(&mut self) {
        while let Some((engine, output)) = self.engines.poll_output() {
            let now = self.now;
            match output {
                Output::LookUpAddresses { .. } => {
                    self.lookups += 1;
                    self.engines.handle_addresses(now, Some(self.addresses.clone()));
                }
                Output::LookUpIpv6Route { source, .. } => {
                    let route = self.has(source).then(|| Ipv6Route {
                        next_hop: NextHop::Router(ip(ROUTER)),
                        interface: source.interface,
                        link_local: Some(ip("fe80::99")),
                        other_routers: self.other_routers.clone(),
                    });
                    self.engines.handle_ipv6_route(now, engine, route, Some([2, 0, 0, 0, 0, 1]));
                }
                Output::Open { socket, local, .. } => {
                    let id = SocketId { engine, socket };
                    self.sockets.push((id, local));
                    self.engines.handle_opened(now, id, Some(SocketAddr::new(local, 5350)));
                }
                Output::Close { socket } => {
                    self.sockets.retain(|(id, _)| *id != SocketId { engine, socket });
                }
                Output::Send { socket: Socket::Pcp, to: SocketAddr::V6(to), .. }
                    if self.silent.contains(to.ip()) =>
                {
                    self.packets += 1;
                }
                Output::Send { socket: Socket::Pcp, bytes, .. } => {
                    self.packets += 1;
                    self.answer(SocketId { engine, socket: Socket::Pcp }, &bytes);
                }
                // The search by IPv4, of a machine without it.
                Output::LookUpRoute { .. } => self.engines.handle_route(now, engine, None, None),
                Output::Send { .. } => self.packets += 1,
                Output::Event { id, event } => self.events.push((id, event)),
                Output::Finished => self.finished += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    fn has(&self, source: Source) -> bool {
        self.addresses.list.iter().any(|known| known.address == source.address)
    }

    /// RFC 6887 §11.1: lifetime at 4, client at 8, internal port at 40.
    fn answer(&mut self, id: SocketId, request: &[u8]) {
        let local = self.sockets.iter().find(|(known, _)| *known == id).map(|&(_, local)| local).unwrap();
        let client = Ipv6Addr::from(<[u8; 16]>::try_from(&request[8..24]).unwrap());
        assert_eq!(IpAddr::V6(client), local, "the client field is the bound address");
        if request.len() < 60 || !self.grants {
            return;
        }
        let port = u16::from_be_bytes([request[40], request[41]]);
        let is_deletion = request[4..8] == [0; 4];
        self.table.retain(|entry| *entry != (client, port));
        if !is_deletion {
            self.table.push((client, port));
        }
        let mut reply = request.to_vec();
        reply[1] |= 0x80;
        (reply[2], reply[3]) = (0, 0);
        reply[8..24].fill(0);
        reply[11] = 7;
        reply[42..44].copy_from_slice(&port.to_be_bytes());
        reply[44..60].copy_from_slice(&client.octets());
        let from = SocketAddr::new(ip(ROUTER).into(), pcp::SERVER_PORT);
        self.engines.handle_datagram(self.now, id, from.into(), &reply);
    }
}

#[test]
fn a_pinhole_leads_to_the_chosen_address() {
    let mut home = Home::new(&[stable("2600::5")]);
    let id = home.create("::", 8000);
    assert_eq!(home.host(id).as_deref(), Some("2600::5"));
    assert_eq!(home.table, [(ip("2600::5"), 8000)]);
    home.cleanup();
    assert_eq!((home.told(id).last(), home.finished), (Some(&Event::Destroyed), 1));
    assert_eq!(home.table, []);
    assert!(home.sockets.is_empty(), "{:?}", home.sockets);
}

#[test]
fn without_a_mapping_to_ipv6_nothing_is_looked_up() {
    let mut home = Home::new(&[stable("2600::5")]);
    home.notice();
    home.run(Duration::from_secs(3600));
    assert_eq!((home.lookups, home.packets), (0, 0));
}

#[test]
fn an_address_of_this_host_is_named() {
    let mut home = Home::new(&[stable("2600::5"), stable("2600::6")]);
    let id = home.create("2600::6", 8000);
    assert_eq!(home.host(id).as_deref(), Some("2600::6"));
}

#[test]
fn the_chosen_address_and_the_same_one_named_share_a_pinhole() {
    let mut home = Home::new(&[stable("2600::5")]);
    for first_is_destroyed_first in [true, false] {
        let (one, two) = (home.create("::", 8000), home.create("2600::5", 8000));
        assert_eq!(home.table.len(), 1);
        let (first, last) = if first_is_destroyed_first { (one, two) } else { (two, one) };
        home.destroy(first);
        assert_eq!(home.table.len(), 1, "the other still has it");
        home.destroy(last);
        assert_eq!(home.table.len(), 0);
    }
}

#[test]
fn a_foreign_address_fails_until_it_is_ours() {
    let mut home = Home::new(&[stable("2600::5")]);
    let id = home.create("2600::6", 8000);
    assert_eq!(home.told(id), [Event::Failure]);
    home.run(Duration::from_secs(1));
    home.change(&[stable("2600::5"), stable("2600::6")]);
    assert_eq!(home.host(id).as_deref(), Some("2600::6"));
}

#[test]
fn a_named_address_that_vanished_fails_until_it_is_back() {
    let mut home = Home::new(&[stable("2600::5")]);
    let id = home.create("2600::5", 8000);
    home.run(Duration::from_secs(1));
    home.change(&[]);
    assert_eq!(home.told(id).last(), Some(&Event::Failure));
    home.run(Duration::from_secs(1));
    home.change(&[stable("2600::5")]);
    assert_eq!(home.host(id).as_deref(), Some("2600::5"));
}

#[test]
fn addresses_that_nobody_reaches_are_refused() {
    let mut home = Home::new(&[stable("2600::5")]);
    for host in ["::1", "fe80::1", "ff02::1", "2001::1", "2002:102:304::1"] {
        let id = home.create(host, 8000);
        assert_eq!(home.told(id), [Event::Failure], "{host}");
    }
    assert_eq!(home.packets, 0);
}

#[test]
fn what_was_told_may_be_handed_back() {
    let mut home = Home::new(&[stable("2600::5")]);
    let one = home.create("::", 8000);
    let host = home.host(one).unwrap();
    let two = home.create(&host, 8001);
    assert_eq!(home.host(two).as_deref(), Some("2600::5"));
}

#[test]
fn a_deprecated_address_is_left_after_the_new_pinhole_is_made() {
    let mut home = Home::new(&[stable("2600:1::5")]);
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(10));
    home.change(&[deprecated("2600:1::5"), stable("2600:2::5")]);
    assert_eq!(home.host(id).as_deref(), Some("2600:2::5"));
    assert_eq!(home.table, [(ip("2600:2::5"), 8000)], "the old one was deleted from the old address");
    assert!(!home.told(id).contains(&Event::Pending), "{:?}", home.told(id));
}

#[test]
fn the_state_stays_success_while_the_new_pinhole_is_not_made() {
    let mut home = Home::new(&[stable("2600:1::5")]);
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(10));
    home.grants = false;
    home.change(&[deprecated("2600:1::5"), stable("2600:2::5")]);
    home.run(Duration::from_secs(60));
    assert_eq!(home.host(id).as_deref(), Some("2600:1::5"), "{:?}", home.told(id));
    home.grants = true;
    home.run(Duration::from_secs(600));
    assert_eq!(home.host(id).as_deref(), Some("2600:2::5"), "{:?}", home.told(id));
}

#[test]
fn an_address_that_is_gone_makes_the_mapping_pending() {
    let mut home = Home::new(&[stable("2600:1::5")]);
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(10));
    home.grants = false;
    home.change(&[stable("2600:2::5")]);
    assert_eq!(home.told(id).last(), Some(&Event::Pending));
    home.run(Duration::from_secs(60));
    assert_eq!(home.told(id).last(), Some(&Event::Failure));
}

#[test]
fn the_old_address_keeps_the_pinholes_of_others() {
    let mut home = Home::new(&[stable("2600:1::5")]);
    let (chosen, named) = (home.create("::", 8000), home.create("2600:1::5", 8000));
    home.run(Duration::from_secs(10));
    home.change(&[deprecated("2600:1::5"), stable("2600:2::5")]);
    assert_eq!(home.host(chosen).as_deref(), Some("2600:2::5"));
    assert_eq!(home.host(named).as_deref(), Some("2600:1::5"));
    assert_eq!(home.table.len(), 2);
}

#[test]
fn a_tentative_address_is_waited_for() {
    let mut home = Home::new(&[tentative("2600::5")]);
    let id = home.create("::", 8000);
    assert_eq!(home.told(id), []);
    home.run(Duration::from_secs(1));
    home.change(&[stable("2600::5")]);
    assert_eq!(home.host(id).as_deref(), Some("2600::5"));
}

#[test]
fn a_tentative_address_that_stays_so_is_a_failure_in_the_end() {
    let mut home = Home::new(&[tentative("2600::5")]);
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(11));
    assert_eq!(home.told(id), [Event::Failure]);
}

#[test]
fn a_kernel_without_ipv6_is_a_failure_at_once() {
    let mut home = Home::new(&[]);
    home.addresses.interface = None;
    let id = home.create("::", 8000);
    assert_eq!((home.told(id), home.packets), (vec![Event::Failure], 0));
}

#[test]
fn a_router_advertisement_that_only_refreshes_lifetimes_sends_no_packet() {
    let mut home = Home::new(&[stable("2600::5")]);
    home.create("::", 8000);
    home.run(Duration::from_secs(10));
    let before = home.packets;
    for _ in 0..20 {
        home.run(Duration::from_secs(3));
        home.addresses.list[0].preferred_secs += 3;
        home.notice();
    }
    assert_eq!(home.packets, before);
}

#[test]
fn router_advertisements_that_change_the_address_every_second_cost_bounded_work() {
    let mut home = Home::new(&[stable("2600::1")]);
    let id = home.create("::", 8000);
    let mut list = vec![stable("2600::1")];
    let before = home.packets;
    for n in 2..=60 {
        home.run(Duration::from_secs(1));
        for known in &mut list {
            (known.is_deprecated, known.preferred_secs) = (true, 0);
        }
        list.push(stable(&format!("2600::{n:x}")));
        home.change(&list.clone());
    }
    home.run(Duration::from_secs(5));
    assert!(home.host(id).is_some());
    assert_eq!(home.table.len(), 1, "{:?}", home.table);
    assert!(home.sockets.len() < 50, "{} sockets", home.sockets.len());
    // A pinhole, its deletion, and three searches of an engine that lives for a second.
    assert!(home.packets - before < 60 * 60, "{} packets", home.packets - before);
}

#[test]
fn a_ninth_address_fails_until_one_is_free() {
    let list: Vec<LocalAddress> = (1..=9).map(|n| stable(&format!("2600::{n}"))).collect();
    let mut home = Home::new(&list);
    let ids: Vec<MappingId> = (1..=9).map(|n| home.create(&format!("2600::{n}"), 8000)).collect();
    assert!(ids[..8].iter().all(|&id| home.host(id).is_some()));
    assert_eq!(home.told(ids[8]), [Event::Failure]);
    home.destroy(ids[0]);
    home.run(Duration::from_secs(1));
    assert_eq!(home.host(ids[8]).as_deref(), Some("2600::9"));
}

#[test]
fn an_ipv4_gateway_excludes_ipv6_and_the_other_way_round() {
    let gateway = |text: &str| Config { gateway: Some((text.parse().unwrap(), None)), ..Config::default() };
    let mut home = Home::with(gateway("192.168.1.1"), &[stable("2600::5")]);
    let id = home.create("::", 8000);
    assert_eq!((home.told(id), home.packets), (vec![Event::Failure], 0));
    let mut home = Home::with(gateway("fd00::1"), &[stable("2600::5")]);
    let wanted = Wanted {
        transport: Transport::Udp,
        internal_port: NonZeroU16::MIN,
        wish: Suggestion::default(),
        description: None,
    };
    home.engines.handle_command(START, Command::Create(7, wanted));
    home.carry();
    assert_eq!((home.told(7), home.packets), (vec![Event::Failure], 0));
    home.cleanup();
    assert_eq!(home.told(7), [Event::Failure, Event::Destroyed]);
}

#[test]
fn two_engines_share_a_listener_of_the_interface() {
    let mut home = Home::new(&[stable("2600::1"), stable("2600::2")]);
    home.create("2600::1", 8000);
    home.create("2600::2", 8000);
    let listeners = home.sockets.iter().filter(|(id, _)| id.socket == Socket::Announcements).count();
    assert_eq!(listeners, 1);
    assert!(home.sockets.iter().all(|(id, _)| id.engine != EngineId::IPV4));
}

#[test]
fn an_engine_ends_with_its_last_entry() {
    let mut home = Home::new(&[stable("2600::1")]);
    let id = home.create("::", 8000);
    home.destroy(id);
    assert_eq!(home.told(id).last(), Some(&Event::Destroyed));
    assert!(home.sockets.is_empty(), "{:?}", home.sockets);
    let id = home.create("::", 8000);
    assert!(home.host(id).is_some());
}

#[test]
fn another_router_of_the_interface_is_asked_where_the_first_grants_nothing() {
    let mut home = Home::new(&[stable("2600::1")]);
    home.silent = vec![ip(ROUTER), ip("fe80::2")];
    home.other_routers = vec![ip("fe80::2"), ip("fe80::3")];
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(20));
    assert_eq!(home.host(id).as_deref(), Some("2600::1"), "{:?}", home.told(id));
}

#[test]
fn routers_that_all_grant_nothing_are_asked_once_a_recheck() {
    let mut home = Home::new(&[stable("2600::1")]);
    home.silent = vec![ip(ROUTER), ip("fe80::2")];
    home.other_routers = vec![ip("fe80::2")];
    let id = home.create("::", 8000);
    home.run(Duration::from_secs(60));
    assert_eq!(home.told(id), [Event::Failure]);
    let before = home.packets;
    home.run(Duration::from_secs(600));
    // A search in vain takes 84 datagrams.
    assert!(home.packets - before < 16 * 84, "{} packets", home.packets - before);
    home.silent.truncate(1);
    home.run(Duration::from_secs(600));
    assert_eq!(home.host(id).as_deref(), Some("2600::1"));
}
