//! UPnP: devices that come and go, leases, looks.

use super::*;
use plum_gateway::core::Action;

/// Neither home's gateway speaks anything but UPnP.
fn assert_made_by_upnp_in_both_homes(world: &mut World) {
    for node in [0, 1] {
        let faults = &mut world.gateway_at(node).faults;
        (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    }
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(60));
    move_house(world);
    world.run_for(secs(10));
    assert!(world.is_success(id), "{:?}", world.timeline(id));
    assert_eq!(world.gateway_at(1).table().len(), 1);
}

#[test]
fn a_gateway_of_another_home_with_another_service_at_the_same_url_is_searched_anew() {
    for kinds in [&[WanKind::Ip2][..], &[WanKind::Ppp1]] {
        let mut world = World::new();
        add_home(&mut world, |config| config.igd = Some(Igd::with(2, kinds)));
        assert_made_by_upnp_in_both_homes(&mut world);
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
    assert_made_by_upnp_in_both_homes(&mut world);
}

#[test]
fn a_service_without_an_address_is_asked_for_it_once_for_many_that_failed() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.external_address_text = Some(String::new());
    for port in 1..=100 {
        world.create(Udp, 10_000 + port);
    }
    world.run_for(secs(1000));
    let most = most_packets_a_second_since(&mut world, secs(60));
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn a_service_whose_address_natpmp_tells_is_asked_for_it_once_a_second_by_retries() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    faults.closed.pcp = true;
    faults.refuse(Kind::NatPmpMap, 4);
    let address = Kind::Soap(Action::GetExternalIPAddress);
    faults.refuse(address, 501);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.gateway().faults.refuse(Kind::Soap(Action::AddPortMapping), 501);
    for port in 1..=50 {
        world.create(Udp, 10_000 + port);
    }
    world.run_for(secs(60));
    world.gateway().counts.reset();
    world.run_for(secs(1000));
    let received = world.counts().received.iter().filter(|received| received.kind == address);
    let asked: Vec<Duration> = received.map(|received| received.at).collect();
    assert!(asked.is_sorted() && asked.len() > 2);
    let soon = asked.windows(2).find(|two| two[1] - two[0] < secs(1));
    assert_eq!(soon, None, "asked {} times", asked.len());
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
    let most = most_packets_a_second_since(&mut world, secs(290));
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
fn a_gateway_that_denied_its_entries_for_a_while_is_asked_for_all_of_them_again() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.permanent_leases_only = true;
    faults.refuse(Kind::Soap(gateway::Action::GetSpecificPortMappingEntry), 714);
    for port in 1..=10 {
        world.create(Udp, 10_000 + port);
    }
    world.run_for(secs(20));
    world.gateway().faults.refusals.clear();
    world.gateway().forget_mappings();
    // The first recheck makes one anew; once that is seen, the others are looked at.
    world.run_for(secs(700));
    assert_eq!(world.table().len(), 10);
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
    add_device(&mut world);
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
fn what_was_under_way_at_a_service_that_is_gone_does_not_wait_for_it() {
    let mut world = World::new();
    // The same device describes another service, then the first again.
    add_home(&mut world, |config| config.igd = Some(Igd::with(1, &[WanKind::Ppp1])));
    world.network.hides_hardware = true;
    for node in [0, 1] {
        let faults = &mut world.gateway_at(node).faults;
        (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    }
    let wish = Suggestion { address: None, port: NonZeroU16::new(20_000), ..Suggestion::default() };
    let first = world.create_wishing(Tcp, 8000, wish);
    world.run_until(|world| world.is_success(first));
    // The deletion of the first is not answered any more, and the second waits for its port.
    world.gateway().faults.silence.http = Times::Next(1);
    world.destroy(first);
    let second = world.create_wishing(Tcp, 8001, wish);
    let third = world.create(Tcp, 8002);
    for (home, restarts) in [(1, 1), (0, 2)] {
        world.run_for(Duration::from_millis(5));
        world.network.move_to_home(home);
        // Each time another BOOTID.
        (0..restarts).for_each(|_| world.gateway_at(home).restart(true));
        world.run_for(Duration::from_millis(100));
        assert!(world.runs_until(secs(2), World::all_success), "{:?}", world.timeline(second));
        let table = world.network.nodes[home].gateway.table();
        for id in [second, third] {
            let (_, _, port) = world.success(id).expect("it is made");
            assert!(
                table.get(gateway::Transport::Tcp, port).is_some(),
                "in home {home}: {:?}",
                world.timeline(id)
            );
        }
    }
}

#[test]
fn two_services_of_a_gateway_that_is_gone_do_not_keep_failure_away() {
    let mut world =
        World::set_up(|setup| setup.gateways[0].igd = Some(Igd::with(1, &[WanKind::Ip1, WanKind::Ip1])));
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let made = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(made));
    world.run_for(secs(20));
    // Connections to it never come to be, and each service is tried again before the other has failed.
    world.network.cut = true;
    let id = world.create(Tcp, 8001);
    assert!(world.runs_until(secs(15), |world| world.is_failure(id)), "{:?}", world.timeline(id));
}

#[test]
fn an_address_that_follows_a_time_of_none_is_told() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.gateway().faults.external_address_text = Some(String::new());
    world.run_for(secs(310));
    world.gateway().faults.external_address_text = None;
    let address = Ipv4Addr::new(203, 0, 113, 24);
    world.gateway().set_external_address(address, false);
    world.run_for(secs(310));
    assert_eq!(world.success(id).map(|(_, address, _)| address), Some(address.into()));
}

#[test]
fn mappings_leave_another_device_for_the_gateway_one_after_the_other() {
    let mut world = World::new();
    add_device(&mut world);
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp, faults.closed.ssdp) = (true, true, true);
    let ids: Vec<_> = (1..=300).map(|port| world.create(Udp, 10_000 + port)).collect();
    world.run_until(World::all_success);
    world.gateway().faults.closed.pcp = false;
    let has_moved = |world: &World, id| world.success(id).is_some_and(|success| success.0 == Protocol::Pcp);
    let begin = world.elapsed();
    assert!(world.runs_until(secs(1300), |world| ids.iter().all(|&id| has_moved(world, id))));
    let most = most_packets_a_second_since(&mut world, begin);
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn entries_made_anew_in_silence_are_looked_at_more_slowly() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    // Made, and gone at the first look, and again at the next.
    faults.leases = gateway::Leases::GoneAfter(secs(1));
    let ids: Vec<_> = (1..=60).map(|port| world.create(Udp, 10_000 + port)).collect();
    world.run_until(World::all_success);
    let begin = world.elapsed();
    world.run_for(secs(60));
    let most = most_packets_a_second_since(&mut world, begin);
    assert!(most <= 100, "{most} packets in a second");
    assert!(ids.iter().all(|&id| world.callbacks(id).len() == 1), "in silence");
    let made = world.counts().of(Kind::Soap(gateway::Action::AddPortMapping));
    assert!(made > 60, "{made}");
}

#[test]
fn another_device_is_searched_for_while_that_of_the_gateway_makes_nothing() {
    let mut world = World::new();
    add_device(&mut world);
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    faults.external_address_text = Some("0.0.0.0".into());
    // The other device misses the first search.
    world.gateway_at(1).faults.silence.ssdp = Times::Always;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    world.run_for(secs(3600) - world.elapsed());
    let searches = world.counts().of(Kind::SsdpSearch);
    // Six targets to the gateway and to all: after 5 s, then in growing pauses up to the recheck period.
    assert!((120..=240).contains(&searches), "{searches} searches in an hour");
    world.gateway_at(1).faults.silence.ssdp = Times::Never;
    assert!(world.runs_until(secs(310), |world| world.is_success(id)), "{:?}", world.timeline(id));
    world.run_for(secs(3600));
    assert_eq!(world.callbacks(id).len(), 2);
}

#[test]
fn entries_that_are_lost_and_not_made_again_are_found_out_all_at_once() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    // Granted for ever, and gone when looked at: the gateway might hide its entries.
    (faults.permanent_leases_only, faults.lifetime) = (true, Some(1));
    let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
    world.run_until(World::all_success);
    world.run_for(secs(30));
    assert!(world.all_success() && world.table().is_empty());
    // No room: none of them can be made again. The first recheck is within the period in which the service is not checked.
    world.gateway().faults.refuse(Kind::Soap(gateway::Action::AddPortMapping), 728);
    world.run_for(secs(590));
    for id in ids {
        assert!(world.is_failure(id), "{:?}", world.timeline(id));
    }
}
