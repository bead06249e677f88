//! Discovery on a virtual clock: who is asked when, who is taken, and how many packets that costs.

use plum_engine::io::{Allowed, Event, Protocol, Route, Suggestion};
use plum_gateway::core::{Action, Kind, Spoken, Times};
use plum_testkit::world::{EXTERNAL, GATEWAY, INTERFACE, LOCAL, World};
use plum_wire::Transport::{Tcp, Udp};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

/// A gateway that takes 20 ms for every answer (and the wire another 2).
fn slow_world(change: impl FnOnce(&mut plum_gateway::core::Faults)) -> World {
    let mut world = World::new();
    world.gateway().faults.delay = Duration::from_millis(20);
    change(&mut world.gateway().faults);
    world
}

/// Creates one mapping and says by whom it was made, and after how many milliseconds.
fn map_one(world: &mut World) -> (Protocol, u128) {
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    let (protocol, address, port) = world.success(id).unwrap();
    assert_eq!((address, port), (EXTERNAL, 8000));
    let elapsed = world.elapsed().as_millis();
    world.cleanup();
    world.assert_nothing_left();
    (protocol, elapsed)
}

#[test]
fn pcp_takes_one_round_trip() {
    let mut world = slow_world(|_| {});
    assert_eq!(map_one(&mut world), (Protocol::Pcp, 22));
    assert_eq!(world.gateway().counts.pcp_map, 1);
    assert_eq!(world.gateway().counts.natpmp_address, 1);
    assert_eq!(world.gateway().counts.natpmp_map, 0);
    assert_eq!(world.gateway().counts.upnp(), world.gateway().counts.ssdp_search, "no HTTP for a fall-back");
}

#[test]
fn natpmp_takes_two_round_trips_where_pcp_says_so() {
    for version in [0, 1] {
        let mut world = slow_world(|faults| faults.pcp = Spoken::UnsuppVersion(version));
        assert_eq!(map_one(&mut world), (Protocol::NatPmp, 44), "in version {version}");
    }
}

#[test]
fn natpmp_waits_out_the_grace_where_pcp_is_silent() {
    for has_upnp in [false, true] {
        let mut world = slow_world(|faults| faults.silence.pcp = Times::Always);
        world.gateway().faults.closed.ssdp = !has_upnp;
        // Where the gateway answers by UPnP, too, the first grant is asked for twice.
        let expected = if has_upnp { 294 } else { 272 };
        assert_eq!(map_one(&mut world), (Protocol::NatPmp, expected));
    }
}

#[test]
fn natpmp_takes_two_round_trips_where_pcp_alone_is_refused() {
    let mut world = slow_world(|faults| faults.closed.pcp = true);
    assert_eq!(map_one(&mut world), (Protocol::NatPmp, 44));
}

#[test]
fn upnp_takes_three_round_trips_where_5351_is_closed() {
    let mut world = slow_world(|faults| (faults.closed.pcp, faults.closed.natpmp) = (true, true));
    // Three answers of 20 ms, three UDP or TCP round trips and two TCP handshakes of 2 ms.
    assert_eq!(map_one(&mut world), (Protocol::UpnpIgd, 70));
    let counts = world.gateway().counts.clone();
    assert_eq!(counts.http_description, 1);
    assert_eq!(counts.soap[&Action::GetExternalIPAddress], 1);
}

#[test]
fn upnp_waits_out_the_grace_where_5351_is_silent() {
    let mut world =
        slow_world(|faults| (faults.silence.pcp, faults.silence.natpmp) = (Times::Always, Times::Always));
    assert_eq!(map_one(&mut world), (Protocol::UpnpIgd, 274));
}

#[test]
fn nothing_answers_failure_comes_once_after_3750_ms() {
    let mut world = World::new();
    world.power_off();
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.elapsed(), Duration::from_millis(3750));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.callbacks(id), [Event::Failure]);
}

#[test]
fn success_follows_failure_when_the_gateway_comes_at_the_recheck() {
    let mut world = World::new();
    world.power_off();
    let id = world.create(Tcp, 8000);
    world.run_for(Duration::from_secs(10));
    world.start_gateway(false);
    world.run_for(Duration::from_secs(300));
    // Chance gives each protocol its point in time: a second grant may take over, and an announcement right after the gateway's
    // start may make a mapping be asked for again.
    let callbacks = world.callbacks(id);
    assert_eq!(callbacks[0], Event::Failure);
    match callbacks[callbacks.len() - 1] {
        Event::Success { address, port, .. } => assert_eq!((address, port.get()), (EXTERNAL, 8000)),
        other => panic!("{other:?}"),
    }
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn an_answer_after_the_failure_still_counts() {
    let mut world = World::new();
    world.gateway().faults.delay = Duration::from_millis(5000);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert!(world.runs_until(Duration::from_secs(20), |world| world.is_success(id)));
    world.gateway().faults.delay = Duration::ZERO;
    world.run_for(Duration::from_secs(10));
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn without_a_route_failure_comes_at_once_and_success_with_the_route() {
    let mut world = World::set_up(|setup| setup.route = None);
    let id = world.create(Tcp, 8000);
    assert!(world.is_failure(id), "without any wait");
    world.run_for(Duration::from_secs(100));
    let route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };
    let before = world.now();
    world.change_route(Some(route));
    world.run_until(|world| world.is_success(id));
    assert!(world.now().since(before) < Duration::from_millis(10));
    assert_eq!(world.callbacks(id).len(), 2);
}

#[test]
fn a_public_address_needs_nobody() {
    let public = IpAddr::V4(Ipv4Addr::new(9, 8, 7, 6));
    let mut world = World::set_up(|setup| {
        setup.route = Some(Route { gateway: Some(GATEWAY), local: public, interface: INTERFACE });
    });
    let id = world.create(Udp, 9000);
    assert_eq!(world.success(id), Some((Protocol::Direct, public, 9000)));
    world.run_for(Duration::from_secs(3600));
    assert_eq!(world.gateway().counts.total(), 0);
    assert_eq!(world.cleanup(), Duration::ZERO);
}

#[test]
fn config_pcp_sends_no_search_and_fails_at_once_where_5351_is_closed() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Pcp);
    world.gateway().faults.closed.pcp = true;
    world.gateway().faults.closed.natpmp = true;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.elapsed(), Duration::from_millis(2));
    assert_eq!(world.gateway().counts.ssdp_search, 0);
}

#[test]
fn config_upnp_sends_nothing_to_5351() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Upnp);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    world.run_for(Duration::from_secs(4000));
    world.cleanup();
    let counts = &world.gateway().counts;
    assert_eq!(counts.pcp_map + counts.pcp_announce + counts.pcp_delete, 0);
    assert_eq!(counts.natpmp_address + counts.natpmp_map + counts.natpmp_delete, 0);
}

#[test]
fn pcp_and_nat_pmp_may_be_used_without_each_other() {
    for (allowed, protocol, other) in [
        (Allowed::PcpOnly, Protocol::Pcp, Spoken::UnsuppVersion(0)),
        (Allowed::NatPmpOnly, Protocol::NatPmp, Spoken::UnsuppVersion(2)),
    ] {
        let mut world = World::set_up(|setup| setup.engine.allowed = allowed);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        assert_eq!(world.success(id).map(|made| made.0), Some(protocol));
        world.run_for(Duration::from_secs(4000));
        world.destroy_and_wait(id);
        // A gateway that points to the other one.
        let faults = &mut world.gateway().faults;
        match protocol {
            Protocol::Pcp => faults.pcp = other,
            _ => faults.natpmp = other,
        }
        world.run_for(Duration::from_secs(40));
        let refused = world.create(Tcp, 8001);
        world.run_for(Duration::from_secs(60));
        assert!(world.is_failure(refused), "{allowed:?}");
        let counts = world.counts();
        let by_pcp = counts.pcp_map + counts.pcp_announce + counts.pcp_delete;
        let by_natpmp = counts.natpmp_address + counts.natpmp_map + counts.natpmp_delete;
        assert_eq!((by_pcp == 0, by_natpmp == 0), (protocol != Protocol::Pcp, protocol == Protocol::Pcp));
        assert_eq!(counts.ssdp_search, 0);
        world.cleanup();
    }
}

#[test]
fn nat_pmp_alone_is_told_of_restarts_too() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::NatPmpOnly);
    let id = world.create(Tcp, 8000);
    world.run_for(Duration::from_secs(1000));
    world.power_off();
    world.start_gateway(false);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.callbacks(id).len(), 2, "SUCCESS again");
    assert_eq!(world.table().len(), 1);
}

#[test]
fn the_discover_timeout_ends_the_race_sooner() {
    let mut world = World::set_up(|setup| setup.engine.discover_timeout = Duration::from_millis(600));
    world.power_off();
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.elapsed(), Duration::from_millis(600));
}

#[test]
fn a_slow_description_keeps_the_race_open() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    // 3 kB at 4 octets in 10 ms: 8 s.
    faults.http.dribble = Some((4, Duration::from_millis(10)));
    let id = world.create(Tcp, 8000);
    assert!(world.runs_until(Duration::from_secs(12), |world| !world.callbacks(id).is_empty()));
    let elapsed = world.elapsed();
    assert!(elapsed > Duration::from_millis(3750), "{elapsed:?}");
}

#[test]
fn an_error_to_the_address_request_leaves_upnp_in_the_race() {
    let mut world = slow_world(|faults| {
        faults.silence.pcp = Times::Always;
        faults.refuse(Kind::NatPmpAddress, 3);
    });
    assert_eq!(map_one(&mut world), (Protocol::UpnpIgd, 274));
}

#[test]
fn pcp_wins_by_its_retransmission_when_the_first_request_is_lost() {
    let mut world = slow_world(|_| {});
    world.network.lose_requests = 1;
    let (protocol, elapsed) = map_one(&mut world);
    // The first datagram out is the MAP request; NAT-PMP has answered, but the grace is just as long as the
    // first wait for the retransmission: whoever is taken, the mapping is there within two round trips more.
    assert!(elapsed <= 300, "{elapsed} ms by {protocol:?}");
}

#[test]
fn a_pcp_server_that_wakes_up_too_late_leaves_one_mapping() {
    // The request and its retransmission are lost: NAT-PMP has won when PCP answers the deletion of what it may
    // have granted.
    let mut world = World::new();
    world.gateway().faults.silence.pcp = Times::Next(2);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).unwrap().0, Protocol::NatPmp);
    world.run_for(Duration::from_secs(30));
    assert!(world.is_success(id));
    assert_eq!(world.gateway().table().len(), 1);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_refusal_for_good_sends_one_mapping_to_the_next_protocol_and_no_other() {
    let mut world = World::new();
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let refused = world.create(Tcp, 8000);
    let others: Vec<_> = (8001..8010).map(|port| world.create(Tcp, port)).collect();
    world.run_until(|world| world.all_success());
    assert_ne!(world.success(refused).unwrap().0, Protocol::Pcp);
    for other in others {
        assert_eq!(world.success(other).unwrap().0, Protocol::Pcp);
        assert_eq!(world.callbacks(other).len(), 1);
    }
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn an_error_of_the_last_protocol_is_failure_and_holds_for_its_lifetime() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Pcp);
    world.gateway().faults.closed.natpmp = true;
    // NO_RESOURCES, for 30 s.
    world.gateway().faults.refuse_next(Kind::PcpMap, 8, 1);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert!(world.elapsed() < Duration::from_millis(10));
    world.run_until(|world| world.is_success(id));
    assert!(world.elapsed() >= Duration::from_secs(30) && world.elapsed() < Duration::from_secs(31));
    assert_eq!(world.callbacks(id).len(), 2);
}

#[test]
fn address_mismatch_that_stays_puts_pcp_and_natpmp_out() {
    let mut world = World::new();
    world.gateway().faults.refuse(Kind::PcpMap, 12);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert_eq!(world.gateway().counts.natpmp_map, 0, "it would map the wrong host");
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_wished_port_is_asked_for_by_every_protocol() {
    for (pcp, natpmp) in [(false, false), (true, false), (true, true)] {
        let mut world = World::new();
        (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (pcp, natpmp);
        let wish = Suggestion { address: None, port: NonZeroU16::new(4711), ..Suggestion::default() };
        let id = world.create_wishing(Udp, 8000, wish);
        world.run_until(|world| world.is_success(id));
        assert_eq!(world.success(id).unwrap().2, 4711);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_named_gateway_is_asked_by_unicast_alone() {
    let mut world = World::set_up(|setup| setup.engine.gateway = Some((GATEWAY, None)));
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.gateway().counts.ssdp_search, 6, "six targets, once each");
}
