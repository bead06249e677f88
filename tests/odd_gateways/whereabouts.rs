//! Where the gateway is, and whether it is the same: routes, named gateways, other networks, sleep, a time of no mapping.

use crate::{ROUTE, mapped_by, millis, secs};
use plum_engine::Reason;
use plum_engine::io::{Allowed, Protocol, Route, Socket};
use plum_gateway::core as gateway;
use plum_gateway::odd;
use plum_testkit::world::{self, GATEWAY, IPV6_LOCAL, World};
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[test]
fn the_first_mapping_after_a_time_of_none_looks_for_the_gateway_again() {
    let mut world = World::new();
    world.power_off();
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    world.destroy_and_wait(id);
    world.start_gateway(false);
    world.run_for(secs(60));
    let id = world.create(Tcp, 8001);
    assert!(world.runs_until(secs(1), |world| world.is_success(id)), "{:?}", world.state(id));
    assert_eq!(world.callbacks(id).len(), 1);
}

#[test]
fn the_first_mapping_after_a_time_of_none_has_the_address_of_today() {
    let new = Ipv4Addr::new(203, 0, 113, 99);
    for index in 0..3 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.destroy_and_wait(id);
        world.run_for(secs(3600));
        world.gateway().set_external_address(new, false);
        let id = world.create(Tcp, 8000);
        world.run_for(secs(1));
        assert_eq!(world.success(id).map(|s| s.1), Some(IpAddr::V4(new)), "protocol {index}");
    }
}

#[test]
fn sockets_that_cannot_be_opened_are_tried_again_at_the_recheck() {
    let all = [Socket::Pcp, Socket::NatPmp, Socket::Ssdp, Socket::Announcements, Socket::Notifications];
    for allowed in [Allowed::Any, Allowed::Pcp, Allowed::Upnp] {
        let mut world = World::set_up(|setup| setup.engine.allowed = allowed);
        world.unopenable.extend(all);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_failure(id));
        world.change_route(None);
        world.change_route(Some(ROUTE));
        world.unopenable.clear();
        assert!(world.runs_until(secs(301), |world| world.is_success(id)), "{allowed:?}");
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn connections_that_the_system_has_no_descriptor_for_are_tried_again_within_seconds() {
    for starved_after in [0, 3, 5, 7, 9, 11, 13] {
        let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Upnp);
        let id = world.create(Tcp, 8000);
        world.run_for(millis(starved_after));
        world.network.is_starved = true;
        world.run_for(secs(2));
        world.network.is_starved = false;
        assert!(world.runs_until(secs(7), |world| world.is_success(id)), "after {starved_after} ms");
        world.network.is_starved = true;
        world.destroy(id);
        world.run_for(secs(2));
        world.network.is_starved = false;
        world.run_for(secs(31));
        world.assert_nothing_left();
    }
}

#[test]
fn what_keeps_packets_from_leaving_is_the_reason() {
    for reason in [Reason::Firewall, Reason::Unreachable] {
        let mut world = World::set_up(|setup| setup.gateways.clear());
        let id = world.create(Tcp, 8000);
        for socket in [Socket::Pcp, Socket::NatPmp, Socket::Ssdp] {
            world.act(|engine, now| engine.handle_unsent(now, socket, reason));
        }
        world.run_until(|world| world.is_failure(id));
        let status = world.engine().mapping_status(world.now(), id).expect("it is known");
        let expected =
            [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd].map(|protocol| (protocol, reason));
        assert_eq!(status.reasons, Some(expected.to_vec()));
    }
}

#[test]
fn without_a_next_hop_there_is_upnp_only() {
    let mut world = World::set_up(|setup| setup.route = Some(Route { gateway: None, ..ROUTE }));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(mapped_by(&world, id), Some(Protocol::UpnpIgd));
    world.run_for(secs(10_000));
    assert_eq!(world.counts().pcp() + world.counts().natpmp(), 0);
    assert_eq!(world.callbacks(id).len(), 1);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn without_a_next_hop_and_without_upnp_it_is_a_failure() {
    for allowed in [Allowed::Any, Allowed::Pcp] {
        let mut world = World::set_up(|setup| {
            setup.route = Some(Route { gateway: None, ..ROUTE });
            setup.engine.allowed = allowed;
        });
        world.power_off();
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_failure(id));
        assert!(world.elapsed() <= millis(3750));
    }
}

#[test]
fn a_named_gateway_with_a_port_is_asked_there() {
    for index in 0..2 {
        let mut world = World::set_up(|setup| {
            setup.engine.gateway = Some((GATEWAY, Some(15_351)));
            setup.gateways[0].pcp_port = 15_351;
        });
        world.close_better(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        assert_eq!(mapped_by(&world, id), Some([Protocol::Pcp, Protocol::NatPmp][index]));
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_named_gateway_of_ipv6_is_the_only_one_for_pinholes() {
    let address: Ipv6Addr = "fd00::1".parse().unwrap();
    let mut world = World::set_up_both(|setup| {
        setup.engine.gateway = Some((address.into(), None));
        setup.gateways = vec![gateway::Config::at(GATEWAY).with_ipv6(address)];
    });
    let (ipv4, ipv6) = (world.create(Tcp, 8000), world.create_pinhole(Tcp, 8000));
    world.run_until(|world| world.is_success(ipv6));
    assert!(world.is_failure(ipv4), "the other IP version has no gateway");
    assert_eq!(world.success(ipv6), Some((Protocol::Pcp, IPV6_LOCAL.into(), 8000)));
    assert_eq!(world.counts().natpmp(), 0);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_named_gateway_may_be_written_as_ipv4_in_ipv6() {
    let named: IpAddr = "::ffff:192.168.1.1".parse().unwrap();
    for index in 0..3 {
        let mut world = World::set_up(|setup| setup.engine.gateway = Some((named, None)));
        world.close_better(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
    }
}

#[test]
fn another_home_with_the_same_addresses_is_noticed() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.run_for(secs(5000));
        let there = gateway::Config { first_epoch: 3, ..gateway::Config::at(GATEWAY) };
        let now = world::gateway_time(world.now());
        world.network.nodes[0].gateway = gateway::Gateway::new(there, now);
        world.close_better(index);
        world.sleep_for(secs(600));
        world.run_for(secs(2));
        assert_eq!(world.gateway().table().len(), 1, "protocol {index}");
        assert_eq!(world.callbacks(id).len(), 2, "protocol {index}");
    }
}

#[test]
fn a_sleep_shorter_than_the_lease_is_silent() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.sleep_for(secs(6000));
        world.run_for(secs(10));
        assert_eq!(world.events(id).len(), 1, "protocol {index}: {:?}", world.timeline(id));
        world.run_for(secs(3000));
        assert_eq!(world.events(id).len(), 1);
        assert_eq!(world.gateway().table().len(), 1, "protocol {index}");
    }
}

#[test]
fn a_sleep_longer_than_the_lease_is_mended_within_a_second() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
        world.run_until(World::all_success);
        world.sleep_for(secs(20_000));
        world.run_for(secs(1));
        assert_eq!(world.gateway().table().len(), 10, "protocol {index}");
        assert!(world.all_success());
        for id in ids {
            assert!(world.callbacks(id).len() <= 2);
        }
    }
}

#[test]
fn another_gateway_while_deletions_are_open() {
    for index in 0..3 {
        let second = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
        let mut world = World::set_up(|setup| setup.gateways.push(gateway::Config::at(second)));
        world.close_better(index);
        let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
        world.run_until(World::all_success);
        world.gateway().faults.delay = millis(100);
        for &id in &ids[..5] {
            world.destroy(id);
        }
        world.run_for(millis(10));
        world.change_route(Some(Route { gateway: Some(second), ..ROUTE }));
        for &id in &ids[..5] {
            assert!(world.is_destroyed(id));
        }
        assert!(world.runs_until(secs(1), World::all_success), "protocol {index}");
        assert_eq!(world.gateway_at(1).table().len(), 5);
        world.run_for(secs(8000));
        world.cleanup();
        world.assert_nothing_left();
    }
}

/// The gateway has entries that nobody knows of for certain, at another port each time; the mapping is another device's.
#[test]
fn what_holds_a_mapping_is_deleted_however_much_another_device_keeps() {
    let stranger = IpAddr::from([192, 168, 1, 2]);
    let mut world = World::set_up(|setup| {
        setup.gateways.push(gateway::Config::at(stranger));
        setup.engine.recheck_interval = secs(30);
    });
    odd::closes_pcp_port(world.gateway());
    odd::addition_is_not_answered(world.gateway());
    odd::removal_gets(world.gateway(), None, || gateway::Reply::http(404, ""));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(7000));
    assert!(world.gateway().table().len() > 8, "too few to crowd anything out");
    world.cleanup();
    assert!(world.gateway_at(1).table().is_empty(), "left behind at the device that held the mapping");
}

#[test]
fn what_is_destroyed_without_a_network_is_deleted_at_the_return() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        world.gateway().faults.permanent_leases_only = true;
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.change_route(None);
        world.run_for(secs(60));
        world.destroy_and_wait(id);
        world.run_for(secs(60));
        world.change_route(Some(ROUTE));
        let id = world.create(Tcp, 8001);
        world.run_until(|world| world.is_success(id));
        world.run_for(secs(60));
        assert_eq!(world.table().len(), 1, "protocol {index}: left behind");
        world.cleanup();
        world.assert_nothing_left();
    }
}
