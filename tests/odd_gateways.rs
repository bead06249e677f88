//! Gateways that misbehave in the ways real ones do, on a virtual clock: what the program must not suffer from.

mod world;

use plum::engine::io::{Allowed, Event, MappingId, Protocol, Route, Socket, Suggestion};
use plum::wire::Transport::{Tcp, Udp};
use plum_gateway::core::{self as gateway, Action, Kind, Received, Spoken, Times};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;
use world::{EXTERNAL, GATEWAY, INTERFACE, LOCAL, World};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const ROUTE: Route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };

/// Closes the ports of all protocols better than the one of this index (0: PCP, 1: NAT-PMP, 2: UPnP).
fn only_from(world: &mut World, index: usize) {
    let faults = &mut world.gateway().faults;
    faults.closed.pcp = index > 0;
    faults.closed.natpmp = index > 1;
}

fn world_of(index: usize) -> World {
    let mut world = World::new();
    only_from(&mut world, index);
    world
}

fn mapped_by(world: &World, id: MappingId) -> Option<Protocol> {
    world.success(id).map(|(protocol, _, _)| protocol)
}

/// A mapping that UPnP made at a gateway whose PCP is up, but had refused it.
fn upnp_mapping_beside_pcp(world: &mut World) -> MappingId {
    world.gateway().faults.closed.natpmp = true;
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let id = world.create(Tcp, 8000);
    let other = world.create(Tcp, 9000);
    world.run_until(World::all_success);
    assert_eq!(mapped_by(world, id), Some(Protocol::UpnpIgd));
    assert_eq!(mapped_by(world, other), Some(Protocol::Pcp));
    world.gateway().faults.refusals.clear();
    id
}

/// The most packets that a gateway got in any one second: an HTTP exchange is six of them (SYN, its ACK, the request,
/// the reply's ACK, FIN and its ACK).
fn most_packets_a_second<'a>(received: impl Iterator<Item = &'a Received>) -> usize {
    let packets = |kind| match kind {
        Kind::HttpDescription | Kind::Soap(_) => 6,
        _ => 1,
    };
    let all: Vec<(Duration, usize)> = received.map(|r| (r.at, packets(r.kind))).collect();
    let within = |(first, &(start, _)): (usize, &(Duration, usize))| {
        all[first..].iter().take_while(|(at, _)| *at < start + secs(1)).map(|(_, n)| n).sum()
    };
    all.iter().enumerate().map(within).max().unwrap_or(0)
}

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
        let mut world = world_of(index);
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
fn a_mapping_whose_renewal_is_refused_for_good_moves_to_the_next_protocol_unbroken() {
    for port in [8000, 4711] {
        let mut world = World::new();
        let id = world.create_wishing(Tcp, 8000, Suggestion { address: None, port: NonZeroU16::new(port) });
        world.run_until(|world| world.is_success(id));
        // NOT_AUTHORIZED.
        world.gateway().faults.refuse(Kind::PcpMap, 2);
        world.run_for(secs(20_000));
        assert!(!world.events(id).contains(&Event::Pending), "{:?}", world.timeline(id));
        assert_eq!(mapped_by(&world, id), Some(Protocol::NatPmp));
        assert_eq!(world.gateway().table().len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_better_protocol_that_refuses_does_not_keep_a_mapping_from_its_renewals() {
    // NO_RESOURCES, NOT_AUTHORIZED.
    for code in [8, 2] {
        let mut world = World::new();
        let id = upnp_mapping_beside_pcp(&mut world);
        world.gateway().faults.refuse_port(Kind::PcpMap, code, 8000);
        world.run_for(secs(30_000));
        assert_eq!(world.callbacks(id).len(), 1, "{:?}", world.timeline(id));
        assert!(!world.events(id).contains(&Event::Pending));
        assert_eq!(world.gateway().table().len(), 2);
    }
}

#[test]
fn a_better_protocol_without_an_external_address_does_not_cost_the_mapping() {
    let mut world = World::new();
    let id = upnp_mapping_beside_pcp(&mut world);
    world.gateway().faults.external_address_text = Some("203.0.113.7".into());
    world.gateway().set_external_address(Ipv4Addr::UNSPECIFIED, false);
    world.run_for(secs(30_000));
    assert_eq!(world.callbacks(id).len(), 1, "{:?}", world.timeline(id));
    assert_eq!(mapped_by(&world, id), Some(Protocol::UpnpIgd));
}

#[test]
fn a_gateway_that_denies_its_own_entries_is_believed_once() {
    let mut world = world_of(2);
    world.gateway().faults.refuse(Kind::Soap(Action::GetSpecificPortMappingEntry), 714);
    let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
    world.run_for(secs(6000));
    for id in ids {
        assert!(world.is_success(id));
        assert!(world.callbacks(id).len() <= 2, "{:?}", world.timeline(id));
    }
    let checks = world.gateway().counts.of(Kind::Soap(Action::GetSpecificPortMappingEntry));
    assert!(checks <= 60, "{checks} looks at a gateway that shows nothing");
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn entries_that_are_gone_again_and_again_are_made_again_and_again() {
    let mut world = world_of(2);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    for round in 1..=5 {
        world.gateway().forget_mappings();
        world.run_for(secs(310));
        assert_eq!(world.gateway().table().len(), 1, "round {round}");
        assert_eq!(world.callbacks(id).len(), 1 + round);
    }
}

#[test]
fn a_gateway_that_takes_few_connections_at_a_time_gets_few() {
    for most in 1..=3 {
        let mut world = world_of(2);
        world.gateway().faults.http.max_connections = Some(most);
        world.gateway().faults.delay = millis(20);
        let ids: Vec<_> = (1..=40).map(|port| world.create(Tcp, 8000 + port)).collect();
        world.run_until(World::all_success);
        assert!(world.elapsed() < secs(15), "{most} at a time: {:?}", world.elapsed());
        for id in ids {
            assert_eq!(world.events(id).len(), 1, "{most} at a time: {:?}", world.timeline(id));
        }
        world.run_for(secs(1000));
        let took = world.cleanup();
        assert!(took < secs(5), "{took:?}");
        world.assert_nothing_left();
    }
}

#[test]
fn a_mapping_destroyed_around_the_change_of_protocols_leaves_nothing_behind() {
    // PCP answers its retransmission only, just after NAT-PMP was taken.
    for at in (200..700).step_by(3) {
        let mut world = World::set_up(|setup| setup.latency = millis(20));
        world.gateway().faults.silence.pcp = Times::Next(1);
        let stays = world.create(Udp, 9000);
        let id = world.create(Tcp, 8000);
        world.run_for(millis(at));
        world.destroy(id);
        world.run_for(secs(3));
        assert!(world.is_success(stays));
        assert_eq!(world.gateway().table().len(), 1, "after {at} ms");
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn cleanup_around_the_change_of_protocols_leaves_nothing_behind() {
    for at in (200..700).step_by(3) {
        let mut world = World::set_up(|setup| setup.latency = millis(20));
        world.gateway().faults.silence.pcp = Times::Next(1);
        for port in 0..3 {
            world.create(Tcp, 8000 + port);
        }
        world.run_for(millis(at));
        world.cleanup();
        world.run_for(secs(1));
        world.assert_nothing_left();
    }
}

#[test]
fn a_refusal_for_good_is_over_with_its_lifetime_where_nobody_else_is_left() {
    for recheck_interval in [secs(300), Duration::from_millis(i32::MAX as u64)] {
        let mut world = World::set_up(|setup| {
            setup.engine.allowed = Allowed::Pcp;
            setup.engine.recheck_interval = recheck_interval;
        });
        world.gateway().faults.closed.natpmp = true;
        // NOT_AUTHORIZED, for 30 s.
        world.gateway().faults.refuse_next(Kind::PcpMap, 2, 1);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_failure(id));
        assert!(world.runs_until(secs(40), |world| world.is_success(id)), "{recheck_interval:?}");
        assert!(world.elapsed() >= secs(30));
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
fn an_epoch_that_means_nothing_is_no_restart_without_end() {
    for index in 0..2 {
        for constant in [true, false] {
            let mut world = world_of(index);
            let mut rng = fastrand::Rng::with_seed(1);
            let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
            for _ in 0..10_000 {
                world.gateway().set_epoch(if constant { 5 } else { rng.u32(..) });
                world.run_for(secs(1));
            }
            for id in ids {
                assert!(world.is_success(id));
                let news = world.callbacks(id).len();
                assert!(news <= 8, "protocol {index}, constant {constant}: SUCCESS {news} times");
            }
            let requests = world.gateway().counts.pcp_map + world.gateway().counts.natpmp_map;
            assert!(requests <= 300, "protocol {index}, constant {constant}: {requests} requests");
        }
    }
}

#[test]
fn looking_after_many_upnp_mappings_stays_below_a_hundred_packets_a_second() {
    let mut world = world_of(2);
    for port in 1..=300 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(10));
    world.gateway().counts.reset();
    world.run_for(secs(5000));
    let quiet = most_packets_a_second(world.counts().received.iter());
    assert!(quiet <= 100, "{quiet} packets in one second of quiet");
    world.gateway().counts.reset();
    world.gateway().forget_mappings();
    assert!(world.runs_until(secs(600), |world| world.table().len() == 300), "{}", world.table().len());
    let remade = most_packets_a_second(world.counts().received.iter());
    assert!(remade <= 100, "{remade} packets in one second of making anew");
    world.gateway().counts.reset();
    world.gateway().announce();
    world.run_for(secs(200));
    let renewed = most_packets_a_second(world.counts().received.iter());
    assert!(renewed <= 100, "{renewed} packets in one second after an announcement");
}

#[test]
fn the_shortest_recheck_interval_stays_below_a_hundred_packets_a_second() {
    for index in 0..3 {
        let mut world = World::set_up(|setup| setup.engine.recheck_interval = millis(100));
        only_from(&mut world, index);
        for port in 1..=20 {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(secs(5));
        world.gateway().counts.reset();
        world.run_for(secs(100));
        let most = most_packets_a_second(world.counts().received.iter());
        assert!(most <= 100, "protocol {index}: {most} packets in one second");
    }
}

#[test]
fn the_shortest_recheck_interval_without_a_gateway_is_no_flood() {
    let mut world = World::set_up(|setup| setup.engine.recheck_interval = millis(100));
    world.stop_gateway();
    let id = world.create(Tcp, 8000);
    world.run_for(secs(100));
    assert_eq!(world.callbacks(id), [Event::Failure]);
    world.start_gateway(false);
    // At whatever moment of a race this is: its retransmissions are at most 2 s apart.
    assert!(world.runs_until(millis(2100), |world| world.is_success(id)));
}

#[test]
fn the_longest_timeouts_are_no_trap() {
    let longest = Duration::from_millis(i32::MAX as u64);
    for index in 0..3 {
        let mut world = World::set_up(|setup| {
            setup.engine.discover_timeout = longest;
            setup.engine.mapping_timeout = longest;
            if index < 2 {
                setup.engine.recheck_interval = longest;
            }
        });
        only_from(&mut world, index);
        // The description hangs, and the first requests after it.
        world.gateway().faults.silence.http = Times::Next(3);
        let id = world.create(Tcp, 8000);
        assert!(world.runs_until(secs(2000), |world| world.is_success(id)), "protocol {index}");
        world.run_for(secs(100_000));
        assert_eq!(world.gateway().table().len(), 1, "protocol {index}");
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn the_shortest_timeouts_end_at_once() {
    for index in 0..3 {
        let mut world = World::set_up(|setup| {
            setup.engine.discover_timeout = millis(1);
            setup.engine.mapping_timeout = millis(1);
            setup.engine.recheck_interval = millis(100);
        });
        only_from(&mut world, index);
        let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
        world.run_for(secs(10));
        for id in ids {
            assert!(!world.callbacks(id).is_empty(), "protocol {index}");
        }
        world.cleanup();
    }
}

#[test]
fn a_burst_of_notices_costs_the_gateway_next_to_nothing() {
    for index in 0..3 {
        let mut world = world_of(index);
        for port in 1..=100 {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(secs(10));
        world.gateway().counts.reset();
        world.route_lookups = 0;
        for _ in 0..3000 {
            world.change_network();
            world.run_for(millis(1));
        }
        assert!(world.route_lookups <= 35, "{} lookups in 3 s", world.route_lookups);
        let most = most_packets_a_second(world.counts().received.iter());
        assert!(most <= 100, "protocol {index}: {most} packets in one second");
        let checks = world.counts().pcp_announce + world.counts().natpmp_address;
        assert!(checks <= 5, "protocol {index}: {checks} checks");
    }
}

#[test]
fn announcements_without_end_are_followed_once_in_ten_seconds() {
    for index in 0..2 {
        let mut world = World::set_up(|setup| setup.gateways[0].announcements = 1);
        only_from(&mut world, index);
        let ids: Vec<_> = (1..=10).map(|port| world.create(Tcp, 8000 + port)).collect();
        world.run_until(World::all_success);
        world.run_for(secs(10));
        world.gateway().counts.reset();
        for _ in 0..1000 {
            world.gateway().announce();
            world.run_for(millis(100));
        }
        let requests = world.counts().pcp_map + world.counts().natpmp_map;
        assert!((90..=110).contains(&requests), "protocol {index}: {requests} requests in 100 s");
        for id in ids {
            assert_eq!(world.events(id).len(), 1, "and none changes its state");
        }
    }
}

#[test]
fn announcements_of_a_gateway_that_answers_nothing_cost_no_renewal() {
    let mut world = World::set_up(|setup| setup.gateways[0].announcements = 1);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(10));
    world.network.lose_requests = u32::MAX;
    for _ in 0..20 {
        world.gateway().announce();
        world.run_for(secs(30));
    }
    world.network.lose_requests = 0;
    world.run_for(secs(20_000));
    assert_eq!(world.events(id).len(), 1, "{:?}", world.timeline(id));
    assert_eq!(world.gateway().table().len(), 1);
}

#[test]
fn an_outage_longer_than_the_lease_ends_with_the_protocol_of_before() {
    for index in 0..2 {
        let mut world = world_of(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        let before = mapped_by(&world, id);
        world.network.lose_requests = u32::MAX;
        world.run_for(secs(7150));
        world.network.lose_requests = 0;
        // No renewal is left; or only ones that fail.
        world.network.cut = true;
        world.run_for(secs(45));
        world.network.cut = false;
        world.run_for(secs(100));
        assert_eq!(mapped_by(&world, id), before);
        world.run_for(secs(1000));
        assert_eq!(mapped_by(&world, id), before);
        assert_eq!(world.gateway().table().len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_hung_once_is_used_again() {
    for index in 0..3 {
        let mut world = world_of(index);
        let first = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(first));
        world.run_for(secs(60));
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp, silence.http) = (Times::Always, Times::Always, Times::Always);
        let second = world.create(Tcp, 8001);
        assert!(world.runs_until(secs(11), |world| world.is_failure(second)), "protocol {index}");
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp, silence.http) = (Times::Never, Times::Never, Times::Never);
        assert!(world.runs_until(secs(31), |world| world.is_success(second)), "protocol {index}");
        assert_eq!(mapped_by(&world, first), mapped_by(&world, second));
        assert_eq!(world.events(first).len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_unlearns_pcp_keeps_its_mappings_by_natpmp() {
    let mut world = World::new();
    let ids: Vec<_> = (8000..8005).map(|port| world.create(Tcp, port)).collect();
    world.run_until(World::all_success);
    world.gateway().faults.pcp = Spoken::UnsuppVersion(0);
    world.run_for(secs(20_000));
    for id in ids {
        assert!(!world.events(id).contains(&Event::Pending), "{:?}", world.timeline(id));
        assert_eq!(mapped_by(&world, id), Some(Protocol::NatPmp));
    }
    assert_eq!(world.gateway().table().len(), 5);
    world.cleanup();
    world.assert_nothing_left();
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
        only_from(&mut world, index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        assert_eq!(mapped_by(&world, id), Some([Protocol::Pcp, Protocol::NatPmp][index]));
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_named_gateway_of_ipv6_is_asked_by_pcp_alone() {
    let address: IpAddr = "fd00::1".parse().unwrap();
    let local: IpAddr = "fd00::100".parse().unwrap();
    let mut world = World::set_up(|setup| {
        setup.engine.gateway = Some((address, None));
        setup.gateways = vec![gateway::Config::at(address)];
    });
    world.network.routes_toward.insert(address, Some(Route { gateway: None, local, interface: INTERFACE }));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id), Some((Protocol::Pcp, EXTERNAL, 8000)));
    assert_eq!(world.counts().natpmp() + world.counts().ssdp_search, 0);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_named_gateway_may_be_written_as_ipv4_in_ipv6() {
    let named: IpAddr = "::ffff:192.168.1.1".parse().unwrap();
    for index in 0..3 {
        let mut world = World::set_up(|setup| setup.engine.gateway = Some((named, None)));
        only_from(&mut world, index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
    }
}

#[test]
fn two_mappings_that_wish_for_the_same_external_port_get_two() {
    let wish = Suggestion { address: None, port: NonZeroU16::new(4711) };
    for index in 0..3 {
        let mut world = world_of(index);
        world.gateway().faults.delay = millis(5);
        let ids = [world.create_wishing(Tcp, 8000, wish), world.create_wishing(Tcp, 8001, wish)];
        world.run_until(World::all_success);
        let mut ports = ids.map(|id| world.success(id).unwrap().2);
        assert_eq!(ports[0], 4711);
        ports.sort_unstable();
        assert_ne!(ports[0], ports[1], "protocol {index}");
        world.run_for(secs(20_000));
        for id in ids {
            assert_eq!(world.events(id).len(), 1, "protocol {index}: {:?}", world.timeline(id));
        }
        assert_eq!(world.gateway().table().len(), 2);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn another_home_with_the_same_addresses_is_noticed() {
    for index in 0..3 {
        let mut world = world_of(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.run_for(secs(5000));
        let there = gateway::Config { first_epoch: 3, ..gateway::Config::at(GATEWAY) };
        let now = world::gateway_time(world.now());
        world.network.nodes[0].gateway = gateway::Gateway::new(there, now);
        only_from(&mut world, index);
        world.sleep_for(secs(600));
        world.run_for(secs(2));
        assert_eq!(world.gateway().table().len(), 1, "protocol {index}");
        assert_eq!(world.callbacks(id).len(), 2, "protocol {index}");
    }
}

#[test]
fn a_sleep_shorter_than_the_lease_is_silent() {
    for index in 0..3 {
        let mut world = world_of(index);
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
        let mut world = world_of(index);
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
        only_from(&mut world, index);
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

#[test]
fn a_mapping_made_before_an_address_mismatch_is_deleted_in_the_end() {
    let mut world = World::new();
    let old = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(old));
    // ADDRESS_MISMATCH, once.
    world.gateway().faults.refuse_next(Kind::PcpMap, 12, 1);
    let new = world.create(Tcp, 8001);
    world.run_until(|world| world.is_success(new));
    assert_eq!(mapped_by(&world, new), Some(Protocol::Pcp));
    world.destroy_and_wait(old);
    assert_eq!(world.gateway().table().len(), 1);
    // A week later it may happen again.
    world.run_for(secs(600_000));
    world.gateway().faults.refuse_next(Kind::PcpMap, 12, 1);
    let third = world.create(Tcp, 8002);
    world.run_until(|world| world.is_success(third));
    assert_eq!(mapped_by(&world, third), Some(Protocol::Pcp));
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_gateway_that_answers_pcp_only_at_the_second_try_has_one_entry_in_the_end() {
    for latency in [1, 5, 20, 60] {
        for natpmp in [true, false] {
            let mut world = World::set_up(|setup| setup.latency = millis(latency));
            world.gateway().faults.silence.pcp = Times::Next(1);
            world.gateway().faults.closed.natpmp = !natpmp;
            let id = world.create(Tcp, 8000);
            world.run_for(secs(5));
            assert_eq!(mapped_by(&world, id), Some(Protocol::Pcp), "{latency} ms, NAT-PMP {natpmp}");
            assert!(world.callbacks(id).len() <= 2);
            assert_eq!(world.gateway().table().len(), 1);
            world.run_for(secs(20_000));
            assert_eq!(world.gateway().table().len(), 1);
            assert!(world.callbacks(id).len() <= 2);
            world.cleanup();
            world.assert_nothing_left();
        }
    }
}

#[test]
fn the_notifications_port_is_given_back_when_upnp_is_out_of_use() {
    let mut world = World::new();
    let id = upnp_mapping_beside_pcp(&mut world);
    assert!(world.network.is_open(Socket::Notifications));
    world.run_for(secs(10_000));
    assert_eq!(mapped_by(&world, id), Some(Protocol::Pcp));
    assert!(!world.network.is_open(Socket::Notifications));
}

#[test]
fn behind_a_second_nat_a_mapping_is_made_with_the_address_that_the_first_one_has() {
    for index in 0..3 {
        for address in [Ipv4Addr::new(100, 64, 3, 4), Ipv4Addr::new(10, 9, 8, 7)] {
            let mut world = world_of(index);
            world.gateway().set_external_address(address, false);
            let id = world.create(Tcp, 8000);
            world.run_until(|world| world.is_success(id));
            assert_eq!(world.success(id).map(|s| s.1), Some(IpAddr::V4(address)), "protocol {index}");
            // Another one is noticed at the latest with a renewal.
            let next = Ipv4Addr::new(172, 16, 0, 1);
            world.gateway().set_external_address(next, false);
            world.run_for(secs(7200));
            assert_eq!(world.success(id).map(|s| s.1), Some(IpAddr::V4(next)), "protocol {index}");
            world.cleanup();
            world.assert_nothing_left();
        }
    }
}
