//! The search by IPv6, and by IPv4 where nothing answers.

use super::*;

const SSDP: Kind = Kind::SsdpSearch;
const OTHER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x101);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2600, 1, 0, 0, 0, 0, 0, 1);

/// Where the searches of the first round went, and from which address.
fn searched(world: &World) -> std::collections::BTreeSet<String> {
    let sent = world.trace().filter_map(|(_, text)| text.strip_prefix("-> ")?.split_once(": M-SEARCH"));
    sent.map(|(way, _)| way.to_owned()).collect()
}

#[test]
fn the_link_is_searched_from_the_link_local_address_and_the_site_from_the_chosen_one() {
    let mut world = firewall_world();
    world.gateway().faults.closed.http = true;
    world.create(Tcp, 8000);
    let expected = ["LinkSsdp to [fe80::1]:1900", "LinkSsdp to [ff02::c]:1900", "Ssdp to [ff05::c]:1900"];
    assert_eq!(searched(&world), expected.map(str::to_owned).into());
    world.run_for(millis(100));
    let from: std::collections::BTreeSet<IpAddr> =
        received(&world, SSDP).iter().map(|received| received.from.ip()).collect();
    assert_eq!(from, [IpAddr::V6(LINK_LOCAL), IPV6_LOCAL.into()].into());
}

#[test]
fn the_chosen_address_searches_where_the_link_has_none_of_its_own() {
    let mut world = world_with(|setup| setup.ipv6.route.as_mut().unwrap().link_local = None);
    world.gateway().faults.closed.pcp = true;
    opened(&mut world);
    assert!(received(&world, SSDP).iter().all(|received| received.from.ip() == IpAddr::V6(IPV6_LOCAL)));
}

/// How often the socket of the link-local address was opened and closed.
fn link_sockets(world: &World) -> [usize; 2] {
    let starts = ["-> Open { socket: LinkSsdp,", "-> Close { socket: LinkSsdp "];
    starts.map(|start| world.trace().filter(|(_, text)| text.starts_with(start)).count())
}

#[test]
fn the_link_is_searched_by_one_socket_from_the_link_local_address_of_the_time() {
    let mut world = firewall_world();
    world.set_trace(10_000);
    opened(&mut world);
    assert_eq!(link_sockets(&world), [1, 0]);
    let steps = [
        (Some(OTHER_LINK_LOCAL), [2, 1], "opened again at another address"),
        (None, [2, 2], "closed without one"),
        (Some(LINK_LOCAL), [3, 2], "opened again"),
    ];
    for (link_local, expected, what) in steps {
        world.network.ipv6.route.as_mut().unwrap().link_local = link_local;
        world.change_network();
        world.run_for(secs(2));
        assert_eq!(link_sockets(&world), expected, "{what}");
    }
    assert_removed(world);
}

#[test]
fn the_first_pinhole_by_firewall_control_takes_three_round_trips() {
    let mut world = firewall_world();
    world.gateway().faults.delay = millis(20);
    let id = opened(&mut world);
    assert_eq!(world.success(id), Some((Protocol::UpnpIgd, IPV6_LOCAL.into(), 8000)));
    // Three answers of 20 ms, three UDP or TCP round trips and two TCP handshakes of 2 ms.
    assert_eq!(world.elapsed(), millis(70));
    let counts = world.counts();
    assert_eq!([STATUS, ADD, Kind::HttpDescription].map(|kind| counts.of(kind)), [1, 1, 1]);
    let at = |kind| received(&world, kind)[0].at;
    assert_eq!(at(STATUS), at(ADD), "both at the same moment");
    assert!(world.gateway().complaints().next().is_none());
    assert_removed(world);
}

#[test]
fn a_gateway_that_answers_from_its_global_address_is_asked_at_the_next_hop() {
    let mut world = firewall_world_at(OTHER);
    world.gateway().faults.delay = millis(20);
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert_eq!(world.elapsed(), millis(70), "no longer than its link-local address takes");
    let connections = connections(&world);
    assert!(connections.iter().all(|to| to.starts_with("[fe80::1]:")), "{connections:?}");
    assert_removed(world);
}

/// A gateway that is reached at the next hop, and speaks from another address.
fn firewall_world_at(address: Ipv6Addr) -> World {
    let mut world =
        world_with(|setup| setup.gateways = vec![gateway::Config::at(GATEWAY).with_ipv6(address)]);
    world.network.nodes[0].also.push(ROUTER.into());
    // PCP's answers come from the other address, and a connected socket drops them.
    world.gateway().faults.closed.pcp = true;
    world.set_trace(10_000);
    world
}

/// Where connections led.
fn connections(world: &World) -> Vec<String> {
    let connects = world
        .trace()
        .filter_map(|(_, text)| text.split_once(" to: ").filter(|_| text.starts_with("-> Connect")));
    connects.map(|(_, rest)| rest.split(", source").next().unwrap().to_owned()).collect()
}

#[test]
fn another_device_of_the_link_is_asked_at_its_own_address() {
    let mut world = firewall_world();
    world.gateway().set_igd(None);
    world.set_trace(10_000);
    let config = gateway::Config { seed: 9, ..gateway::Config::at([192, 168, 1, 2].into()) };
    let gateway = Gateway::new(config.with_ipv6(OTHER), gateway_time(world.now()));
    world.network.nodes.push(Node::new(gateway));
    let id = opened(&mut world);
    assert!(world.gateway_at(1).pinholes().get(&key(Tcp, 8000)).is_some());
    let last = connections(&world).pop().unwrap();
    assert!(last.starts_with(&format!("[{OTHER}]:")), "{last}");
    world.destroy_and_wait(id);
    assert_removed(world);
}

#[test]
fn whatever_host_the_urls_name_the_sender_is_asked() {
    for host in [
        "[::1]",
        "[fd00::1]",
        "[2600:1f00::1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "192.168.1.1",
        "router",
    ] {
        let mut world = firewall_world();
        world.set_trace(10_000);
        world.gateway().faults.location = Some(format!("http://{host}:5000/rootDesc.xml"));
        let mut igd = world.gateway().config().igd.clone().unwrap();
        igd.url_base = Some(format!("http://{host}:5000/"));
        igd.services[1].control_url = Some(format!("http://{host}:5000/ctl/1"));
        world.gateway().set_igd(Some(igd));
        opened(&mut world);
        let connections = connections(&world);
        assert!(connections.iter().all(|to| to.starts_with("[fe80::1]:5000")), "{host}: {connections:?}");
        assert_removed(world);
    }
}

#[test]
fn a_sender_that_is_not_of_the_link_is_not_believed() {
    let mut world = firewall_world_at(OTHER);
    world.gateway().faults.closed.ssdp = false;
    world.network.ipv6.off_link.insert(OTHER.into());
    world.network.route = None;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.counts().of(Kind::HttpDescription), 0);
}

#[test]
fn without_an_answer_by_ipv6_the_ipv4_gateway_announces_what_the_next_hop_has() {
    let mut world = firewall_world();
    world.set_trace(10_000);
    silence_ipv6_searches(&mut world);
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert!((millis(500)..millis(520)).contains(&world.elapsed()), "{:?}", world.elapsed());
    let by_ipv4 = received(&world, SSDP).iter().filter(|received| received.from.is_ipv4()).count();
    assert_eq!(by_ipv4, 2 * 7, "one search, to the gateway and to the group");
    let connections = connections(&world);
    assert!(connections.iter().all(|to| to.starts_with("[fe80::1]:5000")), "{connections:?}");
    world.run_for(secs(1000));
    let later = received(&world, SSDP).iter().filter(|received| received.from.is_ipv4()).count();
    assert_eq!(later, by_ipv4, "once a search");
    assert_removed(world);
}

fn silence_ipv6_searches(world: &mut World) {
    world.gateway().add_script(|request| match request.kind {
        SSDP if request.from.is_ipv6() => Reply::nothing(),
        _ => Reply::usual(),
    });
}

#[test]
fn a_description_of_another_device_at_the_next_hop_does_not_count() {
    let mut world = world_with(|setup| {
        // The IPv4 gateway is another device than the router of IPv6.
        let ipv4 = gateway::Config::at(GATEWAY);
        let igd = Igd { uuid: "another".into(), ..Igd::default() };
        let ipv6 = gateway::Config { igd: Some(igd), ..gateway::Config::at([192, 168, 1, 2].into()) };
        setup.gateways = vec![ipv4, ipv6.with_ipv6(ROUTER)];
    });
    let faults = &mut world.gateway_at(1).faults;
    (faults.closed.pcp, faults.closed.ssdp) = (true, true);
    world.gateway_at(1).add_script(|request| match request.kind {
        SSDP => Reply::nothing(),
        _ => Reply::usual(),
    });
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.gateway_at(1).counts.of(Kind::HttpDescription), 1, "read once");
    assert_eq!(world.gateway_at(1).counts.of(ADD), 0);
}

#[test]
fn other_hosts_of_ipv4_are_not_believed() {
    let mut world = firewall_world();
    silence_ipv6_searches(&mut world);
    world.gateway().faults.wrong_source =
        Some(gateway::WrongSource::Address(Ipv4Addr::new(192, 168, 1, 9).into()));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.counts().of(Kind::HttpDescription), 0);
}

#[test]
fn pcp_alone_searches_nothing_by_either_family() {
    let mut world = world_with(|setup| setup.engine.allowed = Allowed::Pcp);
    world.gateway().faults.closed.pcp = true;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    world.run_for(secs(1000));
    assert_eq!(world.counts().ssdp_search, 0);
}

#[test]
fn upnp_alone_is_firewall_control_without_a_datagram_of_pcp() {
    let mut world = world_with(|setup| setup.engine.allowed = Allowed::Upnp);
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    world.run_for(secs(1000));
    assert_eq!((world.counts().pcp_map, world.counts().of(Kind::Other)), (0, 0));
    assert_removed(world);
}

#[test]
fn a_named_gateway_alone_is_searched_and_by_unicast() {
    for named in [ROUTER, OTHER] {
        let mut world = world_with(|setup| {
            setup.engine.gateway = Some((named.into(), None));
            setup.gateways = vec![gateway::Config::at(GATEWAY).with_ipv6(named)];
        });
        world.set_trace(10_000);
        world.gateway().faults.closed.pcp = true;
        world.gateway().faults.silence.ssdp = Times::Next(7);
        let id = opened(&mut world);
        assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
        let socket = if named == ROUTER { "LinkSsdp" } else { "Ssdp" };
        assert_eq!(searched(&world), [format!("{socket} to [{named}]:1900")].into());
        assert_removed(world);
    }
}

#[test]
fn a_named_gateway_of_ipv6_that_is_silent_is_not_searched_by_ipv4() {
    let mut world = world_with(|setup| setup.engine.gateway = Some((ROUTER.into(), None)));
    world.gateway().faults.closed.pcp = true;
    silence_ipv6_searches(&mut world);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert!(received(&world, SSDP).iter().all(|received| received.from.is_ipv6()));
}

#[test]
fn a_device_without_firewall_control_opens_nothing() {
    let mut world = firewall_world();
    world.gateway().set_igd(Some(Igd::with(2, &[WanKind::Ip2, WanKind::Ppp1])));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.counts().of(Kind::Soap(Action::AddPortMapping)), 0);
    assert_eq!(world.counts().of(Kind::Soap(Action::AddAnyPortMapping)), 0);
}

#[test]
fn a_notice_of_the_gateway_from_another_address_of_its_own_is_believed() {
    let mut world = firewall_world_at(OTHER);
    let id = opened(&mut world);
    // Another BOOTID.
    world.start_gateway(false);
    world.run_for(secs(10));
    assert_eq!(world.callbacks(id).len(), 2, "{:?}", world.timeline(id));
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_some());
    assert_removed(world);
}

#[test]
fn a_gateway_found_by_ipv4_is_found_again_by_ipv4() {
    let mut world = firewall_world();
    silence_ipv6_searches(&mut world);
    let id = opened(&mut world);
    world.run_for(secs(10));
    // Its server has another port since, without a word.
    world.gateway().set_http_port(5001);
    world.run_for(secs(700));
    assert_eq!(world.callbacks(id).len(), 2, "{:?}", world.timeline(id));
    let second = world.create(Tcp, 8001);
    assert!(world.runs_until(secs(1), |world| world.is_success(second)));
    assert_removed(world);
}

#[test]
fn an_answer_counts_from_the_next_hop_and_from_the_link_of_our_interface() {
    let network =
        Network { gateway: Some(ROUTER.into()), local: IPV6_LOCAL.into(), interface: 2, named: false };
    let by = |from: &str, interface, is_on_link| {
        let from = std::net::SocketAddr::new(from.parse().unwrap(), 1900);
        may_answer(&network, Arrival { from, interface, prefix: None, is_on_link })
    };
    assert!(by("fe80::1", 2, false) && by("fe80::1", 0, false), "the next hop");
    assert!(by("2600:1::1", 2, true) && by("fe80::2", 2, true), "of the link");
    assert!(!by("fe80::1", 3, true), "the same address on another link");
    assert!(!by("2600:1::1", 3, true) && !by("2600:1::1", 2, false) && !by("::ffff:192.168.1.1", 2, false));
    let named = Network { named: true, ..network };
    let from = |text: &str| std::net::SocketAddr::new(text.parse().unwrap(), 1900);
    let arrival = |text| Arrival { from: from(text), interface: 2, prefix: None, is_on_link: true };
    assert!(may_answer(&named, arrival("fe80::1")) && !may_answer(&named, arrival("fe80::2")));
}
