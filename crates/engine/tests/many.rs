//! Many mappings at once, on a virtual clock: windows, loss, and what one mapping's trouble costs the others.

use plum_engine::io::{Event, Protocol, Suggestion};
use plum_gateway::core::{self as gateway, Action, Chance, Igd, Kind, Times, WanKind};
use plum_testkit::world::World;
use plum_wire::Transport::{Tcp, Udp};
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

/// A gateway that takes 20 ms for every answer, on a fast link.
fn world_at_20_ms() -> World {
    let mut world = World::set_up(|setup| setup.latency = Duration::from_micros(50));
    world.gateway().faults.delay = Duration::from_millis(20);
    world
}

#[test]
fn fifty_mappings_take_one_round_trip() {
    let mut world = world_at_20_ms();
    for port in 1..=50 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() < Duration::from_millis(22), "{:?}", world.elapsed());
}

#[test]
fn five_hundred_mappings_take_five_round_trips() {
    let mut world = world_at_20_ms();
    for port in 1..=500 {
        world.create(Udp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() <= Duration::from_millis(125), "{:?}", world.elapsed());
    assert_eq!(world.gateway().counts.pcp_map, 500, "none was sent twice");
    let took = world.cleanup();
    assert!(took <= Duration::from_millis(110), "{took:?}");
    world.assert_nothing_left();
}

#[test]
fn a_hundred_upnp_mappings_go_four_at_a_time() {
    let mut world = world_at_20_ms();
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (true, true);
    for port in 1..=100 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() <= Duration::from_millis(650), "{:?}", world.elapsed());
    assert!(world.gateway().counts.max_http_connections <= 4);
}

#[test]
fn one_refused_among_a_hundred_delays_no_other() {
    let mut world = world_at_20_ms();
    // USER_EX_QUOTA for one of them, and no other protocol.
    world.gateway().faults.refuse_port(Kind::PcpMap, 10, 8050);
    (world.gateway().faults.closed.natpmp, world.gateway().faults.closed.ssdp) = (true, true);
    let ids: Vec<_> = (1..=100).map(|port| world.create(Tcp, 8000 + port)).collect();
    world.run_for(Duration::from_millis(60));
    for (port, &id) in (1..).zip(&ids) {
        if port == 50 {
            assert_eq!(world.callbacks(id), [], "somebody may answer yet");
        } else {
            assert_eq!(world.success(id).unwrap().0, Protocol::Pcp, "port {port}");
        }
    }
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.callbacks(ids[49]), [Event::Failure]);
    world.run_for(Duration::from_secs(1000));
    assert!(ids.iter().all(|&id| world.callbacks(id).len() == 1), "and none is told anything more");
}

#[test]
fn at_30_percent_loss_twenty_mappings_are_made_by_pcp_and_nothing_is_left() {
    let (runs, mut late, mut left_behind) = (200, 0, 0);
    for seed in 1..=runs {
        let mut world = World::set_up(|setup| {
            setup.seed = seed;
            setup.gateways[0].seed = seed;
            setup.latency = Duration::from_micros(50);
        });
        world.gateway().faults.delay = Duration::from_millis(20);
        world.gateway().faults.loss = Chance::both(0.3);
        let ids: Vec<_> = (1..=20).map(|port| world.create(Tcp, 8000 + port)).collect();
        world.run_until(World::all_success);
        late += u64::from(world.elapsed() > Duration::from_millis(2500));
        for id in ids {
            assert_eq!(world.success(id).unwrap().0, Protocol::Pcp, "seed {seed}");
        }
        assert_eq!(world.gateway().table().len(), 20, "seed {seed}: none that the program does not know");
        // The deletions are lost as easily: now and then one is given up.
        let took = world.cleanup();
        assert!(took <= Duration::from_secs(5), "seed {seed}: {took:?}");
        left_behind += u64::from(!world.gateway().table().is_empty());
    }
    assert!(late * 20 <= runs, "{late} of {runs} runs took more than 2.5 s");
    assert!(left_behind * 20 <= runs, "{left_behind} of {runs} runs left a mapping behind");
}

#[test]
fn the_work_grows_with_the_number_of_mappings_not_faster() {
    // Outputs and inputs, not time: a test must not depend on the machine.
    let packets = |count: u16| {
        let mut world = world_at_20_ms();
        for port in 1..=count {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(Duration::from_secs(7200));
        world.cleanup();
        world.gateway().counts.total()
    };
    let (few, many) = (packets(100), packets(1000));
    assert!(many < 11 * few, "{few} packets for 100 mappings, {many} for 1000");
}

fn wish(port: u16) -> Suggestion {
    Suggestion { address: None, port: NonZeroU16::new(port), ..Suggestion::default() }
}

#[test]
fn upnp_mappings_that_wish_for_one_port_at_the_same_moment_get_different_ones() {
    let mut world = world_at_20_ms();
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (true, true);
    let mut ids = vec![world.create(Tcp, 8000)];
    ids.extend((1..=5).map(|n| world.create_wishing(Tcp, 8000 + n, wish(9000))));
    world.run_until(World::all_success);
    let ports: BTreeSet<u16> = ids.iter().filter_map(|&id| Some(world.success(id)?.2)).collect();
    assert_eq!(ports.len(), ids.len(), "{ports:?}");
    assert!(ports.contains(&9000));
    assert_eq!(world.table().len(), ids.len());
}

#[test]
fn upnp_does_not_take_the_port_that_another_protocol_gave_to_another_mapping() {
    for (version, kind) in [(1, WanKind::Ip1), (2, WanKind::Ip2)] {
        for (by_natpmp, is_wished) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = World::set_up(|setup| setup.gateways[0].igd = Some(Igd::with(version, &[kind])));
            world.gateway().faults.closed.pcp = by_natpmp;
            let first = world.create_wishing(Tcp, 8000, wish(9000));
            world.run_until(|world| world.is_success(first));
            world.gateway().faults.refuse(Kind::PcpMap, 8);
            world.gateway().faults.refuse(Kind::NatPmpMap, 4);
            world.gateway().faults.refuse(Kind::Soap(Action::GetSpecificPortMappingEntry), 501);
            let second = match is_wished {
                true => world.create_wishing(Tcp, 8001, wish(9000)),
                false => world.create(Tcp, 9000),
            };
            world.run_until(|world| world.is_success(second));
            let of_first =
                world.table().get(gateway::Transport::Tcp, 9000).map(|entry| entry.internal.port());
            let what = format!("version {version}, NAT-PMP {by_natpmp}, wished {is_wished}");
            assert_eq!(of_first, Some(8000), "{what}");
            assert_ne!(world.success(second).map(|(.., port)| port), Some(9000), "{what}");
        }
    }
}

#[test]
fn a_protocol_that_was_out_is_asked_by_one_request_before_all_others() {
    let mut world = world_at_20_ms();
    world.gateway().faults.closed.pcp = true;
    world.create(Tcp, 8000);
    world.run_until(World::all_success);
    world.run_for(Duration::from_secs(2));
    // It may be back, since the network changed; what it answers does not count.
    (world.gateway().faults.closed.pcp, world.gateway().faults.wrong_nonce) = (false, Times::Always);
    world.change_network();
    for port in 1..=200 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    let asked = world.counts().pcp_map;
    assert!((1..10).contains(&asked), "{asked} requests");
}

#[test]
fn a_gateway_without_an_external_address_is_asked_for_the_address_alone() {
    let mut world = world_at_20_ms();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.external_address_text = Some("0.0.0.0".into());
    let ids: Vec<_> = (1..=50).map(|port| world.create(Tcp, 8000 + port)).collect();
    world.run_until(|world| ids.iter().all(|&id| world.is_failure(id)));
    world.run_for(Duration::from_secs(600));
    let made = world.counts().of(Kind::Soap(Action::AddPortMapping));
    assert_eq!(made, 1, "entries of no use");
    assert!(world.table().is_empty());
    world.gateway().faults.external_address_text = None;
    assert!(world.runs_until(Duration::from_secs(330), World::all_success));
}

#[test]
fn deletions_that_were_refused_are_repeated_in_a_pace_that_a_gateway_can_bear() {
    let mut world = world_at_20_ms();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let ids: Vec<_> = (1..=100).map(|port| world.create(Tcp, 8000 + port)).collect();
    world.run_until(World::all_success);
    world.gateway().faults.refuse(Kind::Soap(Action::DeletePortMapping), 606);
    ids.into_iter().for_each(|id| world.destroy(id));
    world.run_for(Duration::from_secs(10));
    // After 30 s, 5 min and 1 h, spread over some seconds.
    for (wait, repeats) in [(60, 100), (200, 0), (120, 100), (3500, 0), (200, 100), (10_000, 0)] {
        world.gateway().counts.reset();
        world.run_for(Duration::from_secs(wait));
        let counts = world.counts();
        let deletions = counts.of(Kind::Soap(Action::DeletePortMapping));
        assert_eq!(deletions, repeats, "in {wait} s");
        assert!(counts.max_packets_per_second <= 100, "{}", counts.max_packets_per_second);
    }
}
