//! Which protocol is asked, and when again.

use super::*;

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
        let most = most_packets_a_second_since(&mut world, secs(25));
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
    let most = most_packets_a_second_since(&mut world, secs(25));
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn mappings_that_a_service_refuses_are_tried_again_request_by_request() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let good = world.create(Udp, 10_000);
    world.run_until(World::all_success);
    world.gateway().faults.refuse(Kind::Soap(gateway::Action::AddPortMapping), 501);
    for port in 1..=40 {
        world.create(Udp, 10_000 + port);
    }
    world.run_for(secs(1000));
    let most = most_packets_a_second_since(&mut world, secs(60));
    assert!(most <= 100, "{most} packets in a second");
    assert!(world.is_success(good));
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
fn a_suspect_that_turns_out_to_be_no_speaker_ends_the_search() {
    let mut world = World::new();
    world.gateway().faults.max_lifetime = Some(30);
    // NAT-PMP has answered in the race, and is not asked after it.
    let ids = [world.create(Tcp, 8000), world.create(Tcp, 8001)];
    world.run_until(World::all_success);
    world.run_for(secs(1));
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.ssdp, faults.closed.http) = (true, true, true);
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
fn a_socket_that_is_there_again_brings_its_protocol_back_with_the_next_try() {
    let mut world = World::new();
    world.unopenable.insert(Socket::Pcp);
    world.gateway().faults.refuse(Kind::NatPmpMap, 4);
    world.gateway().faults.closed.ssdp = true;
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
fn a_nat_that_is_there_for_a_moment_holds_no_mapping_up_and_costs_pcp_one_recheck_period() {
    for others in [0, 3] {
        let mut world = World::new();
        // ADDRESS_MISMATCH, also on another socket.
        world.gateway().faults.refuse_next(Kind::PcpMap, 12, 2);
        let id = world.create(Tcp, 8000);
        world.run_for(Duration::from_millis(3));
        for port in 0..others {
            world.create(Udp, 9000 + port);
        }
        assert!(world.runs_until(secs(4), World::all_success), "{:?}", world.timeline(id));
        world.run_for(secs(310));
        let late = world.create(Tcp, 8001);
        assert!(world.runs_until(secs(1), World::all_success));
        assert_eq!(world.success(late).map(|success| success.0), Some(Protocol::Pcp));
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_natpmp_that_pcp_has_promised_and_that_is_silent_keeps_nobody_waiting() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.pcp, faults.silence.natpmp) = (Spoken::UnsuppVersion(0), Times::Always);
    let ids = [8000, 8001].map(|port| world.create(Tcp, port));
    // The first time, and when it is asked again after it was out.
    for _ in 0..2 {
        assert!(world.runs_until(secs(1), World::all_success));
        assert!(ids.iter().all(|&id| world.success(id).unwrap().0 == Protocol::UpnpIgd));
        world.run_for(secs(1000));
        world.start_gateway(false);
        world.run_for(Duration::from_millis(200));
    }
}
