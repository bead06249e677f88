//! What the simulation (`simulation/`) has found, each in its shortest form.

mod world;

use plum::engine::io::{Protocol, Socket, Suggestion};
use plum::wire::Transport::{Tcp, Udp};
use plum_gateway::core::{self as gateway, Gateway, Igd, Kind, Spoken, Times, WanKind};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;
use world::{GATEWAY, INTERFACE, Node, Power, World, gateway_time};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Another home whose gateway has the address of the first.
fn add_home(world: &mut World, change: impl FnOnce(&mut gateway::Config)) {
    let mut config = gateway::Config { seed: 77, first_epoch: 5_000_000, ..gateway::Config::at(GATEWAY) };
    change(&mut config);
    let gateway = Gateway::new(config, gateway_time(world.now()));
    world.network.nodes.push(Node { gateway, power: Power::On, interface: INTERFACE, home: 1 });
}

/// The machine is carried to the other home, where it finds the same route.
fn move_house(world: &mut World) {
    world.network.move_to_home(1);
    world.change_network();
}

#[test]
fn a_silent_pcp_is_asked_for_no_more_than_its_first_window_when_natpmp_wins() {
    let mut world = World::new();
    world.gateway().faults.silence.pcp = Times::Always;
    for port in 1..=300 {
        world.create(Tcp, 10_000 + port);
    }
    world.run_until(World::all_success);
    let counts = world.counts();
    // The first is sent once more or twice before the grace is over.
    assert!(counts.pcp_map <= 66, "{}", counts.pcp_map);
    assert!(counts.pcp_delete <= 64, "{}", counts.pcp_delete);
}

#[test]
fn a_protocol_that_was_out_for_a_moment_is_back_at_the_next_recheck() {
    for by_natpmp in [false, true] {
        let mut world = World::new();
        world.gateway().faults.closed.pcp = by_natpmp;
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        if by_natpmp {
            world.gateway().faults.natpmp = Spoken::UnsuppVersion(2);
        } else {
            world.gateway().faults.pcp = Spoken::UnsuppVersion(0);
        }
        world.run_for(secs(310));
        world.gateway().faults.pcp = Spoken::Yes;
        world.gateway().faults.natpmp = Spoken::Yes;
        world.run_for(secs(310));
        world.destroy_and_wait(id);
        world.run_for(secs(5));
        world.assert_nothing_left();
    }
}

#[test]
fn a_mapping_that_a_lesser_protocol_refuses_is_made_by_a_better_one_that_is_back() {
    let mut world = World::new();
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (true, true);
    // The table is full.
    world.gateway().faults.refuse(Kind::Soap(gateway::Action::AddPortMapping), 728);
    let id = world.create(Udp, 8000);
    world.run_until(|world| world.is_failure(id));
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (false, false);
    assert!(world.runs_until(secs(620), |world| world.is_success(id)));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
}

#[test]
fn a_gateway_of_another_home_with_another_service_at_the_same_url_is_searched_anew() {
    for kinds in [&[WanKind::Ip2][..], &[WanKind::Ppp1]] {
        let mut world = World::new();
        add_home(&mut world, |config| config.igd = Some(Igd::with(2, kinds)));
        for node in [0, 1] {
            let faults = &mut world.gateway_at(node).faults;
            (faults.closed.pcp, faults.closed.natpmp) = (true, true);
        }
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.run_for(secs(60));
        move_house(&mut world);
        world.run_for(secs(10));
        assert!(world.is_success(id), "{:?}", world.timeline(id));
        assert_eq!(world.gateway_at(1).table().len(), 1);
    }
}

#[test]
fn a_control_url_that_is_not_there_any_more_is_searched_anew() {
    let mut world = World::set_up(|setup| {
        let mut igd = Igd::with(1, &[WanKind::Ip1, WanKind::Ip1]);
        igd.services[0].status = "Disconnected".into();
        setup.gateways[0].igd = Some(igd);
    });
    // It has no second service.
    add_home(&mut world, |_| {});
    for node in [0, 1] {
        let faults = &mut world.gateway_at(node).faults;
        (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    }
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(60));
    move_house(&mut world);
    world.run_for(secs(10));
    assert!(world.is_success(id), "{:?}", world.timeline(id));
    assert_eq!(world.gateway_at(1).table().len(), 1);
}

/// The most packets that the gateway got in any second since `from`: an HTTP exchange is six of them.
fn most_packets_a_second(world: &mut World, from: Duration) -> usize {
    let start = gateway_time(world::START) + from;
    let packets = |kind| if matches!(kind, Kind::Soap(_) | Kind::HttpDescription) { 6 } else { 1 };
    let received = world.counts().received.iter().filter(|received| received.at >= start);
    let all: Vec<(Duration, usize)> =
        received.map(|received| (received.at, packets(received.kind))).collect();
    let within = |first: usize| -> usize {
        let end = all[first].0 + secs(1);
        all[first..].iter().take_while(|(at, _)| *at < end).map(|(_, packets)| packets).sum()
    };
    (0..all.len()).map(within).max().unwrap_or(0)
}

#[test]
fn refused_mappings_are_tried_again_one_after_the_other() {
    for kind in [Kind::PcpMap, Kind::NatPmpMap, Kind::Soap(gateway::Action::AddPortMapping)] {
        let mut world = World::new();
        let faults = &mut world.gateway().faults;
        faults.closed.pcp = kind != Kind::PcpMap;
        faults.closed.natpmp = matches!(kind, Kind::Soap(_));
        // NO_RESOURCES, out of resources, no port maps available.
        let code = match kind {
            Kind::PcpMap => 8,
            Kind::NatPmpMap => 4,
            _ => 728,
        };
        faults.refuse(kind, code);
        for port in 1..=300 {
            world.create(Udp, 10_000 + port);
        }
        world.run_for(secs(28));
        world.run_for(secs(600));
        let most = most_packets_a_second(&mut world, secs(25));
        assert!(most <= 100, "{most} packets in a second, {kind:?}");
    }
}

#[test]
fn a_promise_of_natpmp_that_is_not_kept_holds_nobody_up() {
    let mut world = World::new();
    world.gateway().faults.pcp = Spoken::UnsuppVersion(1);
    world.gateway().faults.silence.natpmp = Times::Always;
    world.gateway().faults.closed.ssdp = true;
    // The promise comes before or after nobody wants anything any more.
    for (number, millis) in [(0, 50), (1, 1), (2, 0)] {
        let id = world.create(Tcp, 8000);
        world.run_for(Duration::from_millis(millis));
        world.destroy(id);
        world.run_for(Duration::from_millis(50));
        let id = world.create(Tcp, 8001);
        assert!(world.runs_until(secs(11), |world| world.is_failure(id)), "{number}: {:?}", world.state(id));
        world.destroy_and_wait(id);
        world.run_for(secs(20));
    }
}

#[test]
fn leases_that_ended_in_its_sleep_are_not_renewed_but_made_anew() {
    let mut world = World::new();
    world.gateway().faults.closed.pcp = true;
    for port in 1..=200 {
        world.create(Udp, 10_000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(20));
    world.sleep_for(secs(10_000));
    world.run_for(Duration::from_millis(1));
    let since = world.now() - Duration::from_millis(1);
    world.run_for(Duration::from_millis(1));
    let maps = world.counts().times(Kind::NatPmpMap);
    let at_once = maps.iter().filter(|&&at| at >= gateway_time(since)).count();
    assert!(at_once <= 64, "{at_once} requests in flight at once");
    world.run_for(secs(20));
    assert!(world.all_success());
    assert_eq!(world.table().len(), 200);
}

#[test]
fn a_renewal_that_fails_after_it_has_removed_the_entry_makes_it_anew() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let wish = Suggestion { address: None, port: NonZeroU16::new(20_000) };
    let id = world.create_wishing(Tcp, 8000, wish);
    world.run_until(|world| world.is_success(id));
    // "The same ports only": the entry is deleted to make one at the internal port. Then the table is full.
    let kind = Kind::Soap(gateway::Action::AddPortMapping);
    world.gateway().faults.refuse_next(kind, 724, 1);
    world.gateway().faults.refuse_next(kind, 728, 1);
    assert!(world.runs_until(secs(4600), |world| world.table().is_empty()));
    world.run_for(secs(60));
    assert!(world.is_success(id), "{:?}", world.timeline(id));
    assert_eq!(world.table().len(), 1);
    assert_eq!(
        world.success(id).map(|success| success.2),
        world.table().iter().next().map(|m| m.external_port)
    );
}

#[test]
fn mappings_that_every_protocol_refuses_are_tried_again_one_after_the_other() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    faults.closed.pcp = true;
    faults.closed.ssdp = true;
    // NOT_AUTHORIZED: next protocol, of which there is none.
    faults.refuse(Kind::NatPmpMap, 2);
    for port in 1..=300 {
        world.create(Udp, 10_000 + port);
    }
    world.run_for(secs(600));
    let most = most_packets_a_second(&mut world, secs(25));
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn upnp_leases_that_the_gateway_shortens_in_silence_are_renewed_in_time() {
    for (kind, lease) in [(WanKind::Ip1, 60), (WanKind::Ip2, 60), (WanKind::Ip1, 600), (WanKind::Ip1, 3600)] {
        let mut world = World::set_up(|setup| setup.gateways[0].igd = Some(Igd::with(2, &[kind])));
        let faults = &mut world.gateway().faults;
        (faults.closed.pcp, faults.closed.natpmp) = (true, true);
        faults.lifetime = Some(lease);
        let ids: Vec<_> = (8000..8005).map(|port| world.create(Tcp, port)).collect();
        world.run_until(World::all_success);
        for _ in 0..200 {
            world.run_for(secs(50));
            assert_eq!(world.table().len(), 5, "lease {lease} at {:?}", world.elapsed());
        }
        assert!(ids.iter().all(|&id| world.callbacks(id).len() == 1), "lease {lease}");
        assert_eq!(world.gateway().table_mut().pop_expired(), None, "lease {lease}");
    }
}

#[test]
fn a_gateway_that_begins_to_shorten_upnp_leases_is_found_out() {
    for lease in [100, 1000] {
        let mut world = World::new();
        let faults = &mut world.gateway().faults;
        (faults.closed.pcp, faults.closed.natpmp) = (true, true);
        let id = world.create(Tcp, 8000);
        world.run_for(secs(100));
        world.gateway().faults.lifetime = Some(lease);
        // The next renewal has it, and the next look after that finds it.
        world.run_for(secs(6000));
        while world.gateway().table_mut().pop_expired().is_some() {}
        let told = world.callbacks(id).len();
        world.run_for(secs(20_000));
        assert_eq!(world.callbacks(id).len(), told, "lease {lease}");
        assert_eq!(world.gateway().table_mut().pop_expired(), None, "lease {lease}");
        world.gateway().faults.lifetime = None;
        world.run_for(secs(6000));
        let renewals = world.counts().of(Kind::Soap(gateway::Action::AddPortMapping));
        world.run_for(secs(20_000));
        let renewals = world.counts().of(Kind::Soap(gateway::Action::AddPortMapping)) - renewals;
        assert!(renewals < 8, "{renewals} renewals in 20,000 s of a gateway that grants two hours again");
    }
}

#[test]
fn looks_at_entries_do_not_pile_up_while_the_gateway_is_slow() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    for port in 1..=200 {
        world.create(Udp, 10_000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(290) - world.elapsed());
    world.gateway().faults.delay = secs(3);
    world.run_for(secs(100));
    world.gateway().faults.delay = Duration::ZERO;
    world.run_for(secs(100));
    let most = most_packets_a_second(&mut world, secs(290));
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn a_permanent_lease_that_is_none_is_renewed_in_time() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    (faults.permanent_leases_only, faults.lifetime) = (true, Some(600));
    let id = world.create(Tcp, 8000);
    world.run_for(secs(20_000));
    assert_eq!(world.callbacks(id).len(), 1);
    assert_eq!(world.gateway().table_mut().pop_expired(), None);
}

#[test]
fn a_late_deletion_by_another_protocol_does_not_take_the_mapping_away() {
    for seed in 1..40 {
        let mut world = World::set_up(|setup| setup.seed = seed);
        // PCP is silent, but takes what it is asked for; the network reorders.
        world.network.jitter = Duration::from_millis(300);
        world.gateway().faults.delay = Duration::from_millis(200);
        let id = world.create(Tcp, 8000);
        world.run_for(secs(20));
        assert!(world.is_success(id), "seed {seed}");
        let port = world.success(id).map(|success| success.2);
        assert_eq!(world.table().iter().next().map(|m| m.external_port), port, "seed {seed}");
    }
}

#[test]
fn a_renewal_that_is_granted_for_no_time_is_a_mapping_lost() {
    for by_natpmp in [false, true] {
        let mut world = World::new();
        world.gateway().faults.closed.pcp = by_natpmp;
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.gateway().faults.lifetime = Some(0);
        assert!(world.runs_until(secs(4600), |world| world.table().is_empty()));
        world.run_for(secs(1));
        assert!(world.is_failure(id), "{:?}", world.timeline(id));
        world.gateway().faults.lifetime = None;
        world.run_for(secs(310));
        assert!(world.is_success(id));
    }
}

#[test]
fn the_address_of_a_natpmp_beside_pcp_is_that_of_today() {
    let mut world = World::new();
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse(Kind::PcpMap, 2);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.destroy_and_wait(id);
    world.run_for(secs(600));
    world.gateway().set_external_address(Ipv4Addr::new(203, 0, 113, 77), false);
    let id = world.create(Tcp, 8001);
    world.run_for(secs(1));
    assert_eq!(world.success(id).map(|success| success.1), Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))));
}

#[test]
fn a_gateway_that_had_no_answer_to_looks_for_a_while_is_believed_again() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.gateway().faults.http.junk = Times::Always;
    world.run_for(secs(320));
    world.gateway().faults.http.junk = Times::Never;
    world.run_for(secs(620));
    world.gateway().forget_mappings();
    world.run_for(secs(310));
    assert!(world.is_success(id));
    assert_eq!(world.table().len(), 1);
}

#[test]
fn the_deletion_of_the_old_entry_does_not_take_the_new_one_away() {
    // One table, in which a deletion by NAT-PMP removes what PCP has made for the same internal port.
    let mut world = World::new();
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::NatPmp));
    world.run_for(secs(10));
    world.gateway().faults.refusals.clear();
    // The table is lost in silence, and another host has taken the port meanwhile.
    world.gateway().forget_mappings();
    world.gateway().occupy(gateway::Transport::Tcp, 8000, "192.168.1.77:80".parse().expect("an address"));
    world.run_for(secs(4700));
    let (protocol, _, port) = world.success(id).expect("it is made");
    assert_eq!(protocol, Protocol::Pcp);
    let table = world.gateway().table();
    let entry = table.get(gateway::Transport::Tcp, port).expect("the gateway has what the program was told");
    assert_eq!(entry.internal.port(), 8000);
}

#[test]
fn a_suspect_that_turns_out_to_be_no_speaker_ends_the_search() {
    let mut world = World::new();
    world.gateway().faults.max_lifetime = Some(30);
    // NAT-PMP has answered in the race, and is not asked after it.
    let ids = [world.create(Tcp, 8000), world.create(Tcp, 8001)];
    world.run_until(World::all_success);
    world.run_for(secs(1));
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.ssdp) = (true, true);
    faults.natpmp = Spoken::UnsuppVersion(2);
    world.run_for(secs(90));
    assert!(ids.iter().all(|&id| world.is_failure(id)));
}

#[test]
fn a_restart_that_one_protocol_has_seen_is_no_news_by_the_other() {
    let mut world = World::new();
    // NOT_AUTHORIZED of one port: both protocols are in use.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8001);
    let ids = [world.create(Tcp, 8000), world.create(Tcp, 8001)];
    world.run_until(World::all_success);
    world.run_for(secs(1000));
    world.network.cut = true;
    world.start_gateway(false);
    world.run_for(secs(20));
    world.network.cut = false;
    world.run_for(secs(10_000));
    for id in ids {
        assert_eq!(world.callbacks(id).len(), 2, "{:?}", world.timeline(id));
    }
}

#[test]
fn the_first_mapping_after_a_time_of_none_looks_for_the_best_protocol_again() {
    let mut world = World::new();
    world.gateway().faults.closed.pcp = true;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.destroy_and_wait(id);
    world.gateway().faults.closed.pcp = false;
    world.run_for(secs(60));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
}

#[test]
fn a_restart_is_seen_though_the_protocol_had_been_silent_for_a_while() {
    let mut world = World::set_up(|setup| setup.gateways[0].announcements = 1);
    world.gateway().faults.closed.natpmp = true;
    let id = world.create(Tcp, 8000);
    world.run_for(secs(1000));
    // The announcement is heard, but the renewal that follows it in the next seconds is not.
    world.start_gateway(false);
    world.run_for(Duration::from_millis(2));
    world.gateway().faults.closed.pcp = true;
    world.run_for(secs(60));
    world.gateway().faults.closed.pcp = false;
    world.run_for(secs(320));
    assert!(world.is_success(id));
    assert_eq!(world.table().len(), 1);
}

#[test]
fn a_shortened_lease_is_found_out_though_the_first_mapping_is_gone() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.lifetime = Some(100);
    let first = world.create(Tcp, 8000);
    let second = world.create(Tcp, 8001);
    world.run_until(World::all_success);
    world.destroy_and_wait(first);
    world.run_for(secs(1000));
    assert_eq!(world.gateway().table_mut().pop_expired(), None);
    assert_eq!(world.callbacks(second).len(), 1);
}

#[test]
fn a_socket_that_is_there_again_brings_its_protocol_back_with_the_next_try() {
    let mut world = World::new();
    world.unopenable.insert(Socket::Pcp);
    world.gateway().faults.refuse(Kind::NatPmpMap, 4);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    world.destroy_and_wait(id);
    world.unopenable.clear();
    world.run_for(secs(400));
    let id = world.create(Tcp, 8000);
    assert!(world.runs_until(secs(35), |world| world.is_success(id)));
}

#[test]
fn mappings_asked_of_a_protocol_that_fell_silent_fail_in_time_whatever_the_rechecks_find() {
    let mut world = World::set_up(|setup| setup.engine.recheck_interval = secs(30));
    add_home(&mut world, |_| {});
    let faults = &mut world.gateway_at(1).faults;
    faults.pcp = Spoken::UnsuppVersion(1);
    faults.silence.natpmp = Times::Always;
    faults.closed.ssdp = true;
    let made = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(made));
    world.run_for(secs(22));
    move_house(&mut world);
    world.run_for(secs(1));
    let id = world.create(Tcp, 8001);
    assert!(world.runs_until(secs(25), |world| world.is_failure(id)), "{:?}", world.timeline(id));
}

#[test]
fn a_gateway_without_power_for_a_while_is_believed_when_it_says_that_its_table_is_empty() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    // Looks are not answered, the external address is.
    world.run_for(secs(299) - world.elapsed());
    world.gateway().faults.http.hang_up = Times::Next(40);
    world.run_for(secs(20));
    world.gateway().faults.http.hang_up = Times::Never;
    world.gateway().forget_mappings();
    world.run_for(secs(320));
    assert!(world.is_success(id), "{:?}", world.timeline(id));
    assert_eq!(world.table().len(), 1);
}

#[test]
fn a_mapping_that_leaves_another_device_for_the_gateway_leaves_nothing_there() {
    let mut world = World::new();
    let stranger = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    let config = gateway::Config { seed: 9, ..gateway::Config::at(stranger) };
    let node = Node {
        gateway: Gateway::new(config, gateway_time(world.now())),
        power: Power::On,
        interface: INTERFACE,
        home: 0,
    };
    world.network.nodes.push(node);
    (world.gateway().faults.closed.ssdp, world.gateway().faults.closed.natpmp) = (true, true);
    // NOT_AUTHORIZED of one port.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let id = world.create(Tcp, 8000);
    let other = world.create(Tcp, 8001);
    world.run_until(World::all_success);
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::UpnpIgd));
    assert_eq!(world.success(other).map(|success| success.0), Some(Protocol::Pcp));
    world.gateway().faults.refusals.clear();
    world.run_for(secs(4700));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
    assert!(world.gateway_at(1).table().is_empty());
}

#[test]
fn a_grant_that_comes_twice_after_its_deletion_was_sent_counts_once() {
    for seed in 1..30 {
        let mut world = World::set_up(|setup| setup.seed = seed);
        // So slow that NAT-PMP wins, whose answers are the faster ones.
        world.network.latency = Duration::from_millis(190);
        world.network.jitter = Duration::from_millis(200);
        world.network.duplicate = 1.0;
        let id = world.create(Tcp, 8000);
        world.run_for(secs(30));
        assert!(world.is_success(id), "seed {seed}");
        let (_, _, port) = world.success(id).expect("it is made");
        assert_eq!(world.table().iter().next().map(|m| m.external_port), Some(port), "seed {seed}");
    }
}
