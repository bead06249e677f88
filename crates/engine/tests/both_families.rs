//! Both families in one process: the engines before one gateway that maps ports for IPv4 and opens pinholes for IPv6.

use plum_engine::io::{Event, Protocol};
use plum_engine::ipv6::NextHop;
use plum_testkit::world::{INTERFACE, IPV6_LOCAL, LINK_LOCAL, World, stable};
use plum_wire::Transport::{Tcp, Udp};
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn a_pinhole_by_pcp_costs_one_round_trip() {
    let mut world = World::with_both();
    let id = world.create_pinhole(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id), Some((Protocol::Pcp, IpAddr::V6(IPV6_LOCAL), 8000)));
    assert_eq!(world.elapsed(), 2 * world.network.latency);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn mappings_of_both_families_on_one_port_are_separate() {
    let mut world = World::with_both();
    let (ipv4, ipv6) = (world.create(Udp, 8000), world.create_pinhole(Udp, 8000));
    world.run_until(World::all_success);
    world.destroy_and_wait(ipv6);
    assert!(world.is_success(ipv4));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.callbacks(ipv4).len(), 1, "{:?}", world.events(ipv4));
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn ipv4_sees_nothing_of_an_ipv6_that_is_not_there() {
    let packets = |with_pinhole: bool| {
        let mut world = World::with_both();
        world.network.ipv6 = Default::default();
        let id = world.create(Tcp, 8000);
        if with_pinhole {
            let pinhole = world.create_pinhole(Tcp, 8000);
            assert_eq!(world.events(pinhole), [Event::Failure]);
        }
        world.run_until(|world| world.is_success(id));
        world.run_for(Duration::from_secs(600));
        (world.timeline(id).to_vec(), world.counts().clone())
    };
    let (alone, beside) = (packets(false), packets(true));
    assert_eq!(alone.0, beside.0);
    assert_eq!(format!("{:?}", alone.1), format!("{:?}", beside.1));
}

#[test]
fn an_ipv6_only_machine_has_pinholes_and_no_ipv4_packet() {
    let mut world = World::set_up_both(|setup| setup.route = None);
    let (ipv4, ipv6) = (world.create(Tcp, 8000), world.create_pinhole(Tcp, 8000));
    assert_eq!(world.events(ipv4), [Event::Failure], "at once");
    world.run_until(|world| world.is_success(ipv6));
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn five_hundred_pinholes_are_made_as_mappings_are() {
    let time = |is_ipv6: bool| {
        let mut world = World::with_both();
        for port in 1..=500 {
            if is_ipv6 {
                world.create_pinhole(Tcp, port)
            } else {
                world.create(Tcp, port)
            };
        }
        world.run_until(World::all_success);
        let made = world.elapsed();
        let cleaned = world.cleanup();
        world.assert_nothing_left();
        (made, cleaned)
    };
    assert_eq!(time(true), time(false));
}

#[test]
fn cleanup_of_both_families_has_one_budget() {
    let mut world = World::with_both();
    world.create(Tcp, 8000);
    world.create_pinhole(Tcp, 8000);
    world.run_until(World::all_success);
    world.power_off();
    let took = world.cleanup();
    assert!(took <= Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_host_on_link_without_a_router_is_reached_directly() {
    let direct = |next_hop| {
        let mut world = World::set_up_both(|setup| {
            setup.gateways.clear();
            setup.ipv6.route.as_mut().unwrap().next_hop = next_hop;
        });
        let id = world.create_pinhole(Tcp, 8000);
        world.run_for(Duration::from_secs(30));
        world.success(id).map(|(protocol, ..)| protocol)
    };
    assert_eq!(direct(NextHop::OnLink), Some(Protocol::Direct));
    assert_eq!(direct(NextHop::PointToPoint), None, "a VPN without next hop");
    assert_eq!(direct(NextHop::Unknown), None, "the kernel was not asked");
}

#[test]
fn routes_depend_on_the_source() {
    let second = "2600:2::100".parse().unwrap();
    let other = "fe80::2".parse().unwrap();
    let mut world = World::set_up_both(|setup| {
        setup.gateways.push(plum_gateway::core::Config::at("192.168.1.2".parse().unwrap()).with_ipv6(other));
        setup.ipv6.addresses.list.push(stable(second, INTERFACE));
        let mut route = setup.ipv6.route.clone().unwrap();
        route.next_hop = NextHop::Router(other);
        setup.ipv6.routes_from.insert(second, Some(route));
    });
    let (one, two) =
        (world.create_pinhole_to(Tcp, 8000, IPV6_LOCAL), world.create_pinhole_to(Tcp, 8000, second));
    world.run_until(World::all_success);
    assert_eq!(world.success(one).unwrap().1, IpAddr::V6(IPV6_LOCAL));
    assert_eq!(world.success(two).unwrap().1, IpAddr::V6(second));
    assert_eq!([0, 1].map(|node| world.gateway_at(node).counts.pcp_map), [1, 1]);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn addresses_share_a_gateway_that_takes_one_connection_at_a_time() {
    let addresses = [IPV6_LOCAL, "2600:2::100".parse().unwrap(), "2600:3::100".parse().unwrap()];
    let mut world = World::set_up_both(|setup| {
        setup.ipv6.addresses.list.extend(addresses[1..].iter().map(|&address| stable(address, INTERFACE)));
    });
    world.gateway().faults.closed.pcp = true;
    world.gateway().faults.http.max_connections = Some(1);
    for address in addresses {
        for port in 8000..8003 {
            world.create_pinhole_to(Tcp, port, address);
        }
    }
    world.run_for(Duration::from_secs(10));
    assert!(world.all_success());
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_renumbering_keeps_the_mapping_and_its_id() {
    let new = "2600:2::100".parse().unwrap();
    let mut world = World::with_both();
    let id = world.create_pinhole(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(Duration::from_secs(60));
    world.change_ipv6(|ipv6| {
        (ipv6.addresses.list[0].is_deprecated, ipv6.addresses.list[0].preferred_secs) = (true, 0);
        ipv6.addresses.list.push(stable(new, INTERFACE));
    });
    world.run_until(|world| world.success(id).is_some_and(|(_, address, _)| address == IpAddr::V6(new)));
    assert!(!world.events(id).contains(&Event::Pending));
    world.run_for(Duration::from_secs(10));
    world.destroy_and_wait(id);
    world.assert_nothing_left();
}

#[test]
fn a_restart_of_the_gateway_makes_pinholes_anew() {
    let mut world = World::with_both();
    let id = world.create_pinhole(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(Duration::from_secs(100));
    world.start_gateway(false);
    world.run_for(Duration::from_secs(20));
    assert!(world.is_success(id));
    let made = world.counts().pcp_map;
    assert!(made >= 2, "{made}");
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_link_local_address_that_comes_later_disturbs_no_pinhole() {
    let mut world = World::set_up_both(|setup| setup.ipv6.route.as_mut().unwrap().link_local = None);
    let id = world.create_pinhole(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.change_ipv6(|ipv6| ipv6.route.as_mut().unwrap().link_local = Some(LINK_LOCAL));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.events(id).len(), 1, "{:?}", world.events(id));
    world.cleanup();
    world.assert_nothing_left();
}
