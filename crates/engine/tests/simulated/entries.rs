//! Entries: renewals, deletions, and what comes late or twice.

use super::*;

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
    let wish = Suggestion { address: None, port: NonZeroU16::new(20_000), ..Suggestion::default() };
    let id = world.create_wishing(Tcp, 8000, wish);
    world.run_until(|world| world.is_success(id));
    // A conflict with our own entry, which is deleted to make it anew. Then the table is full.
    let kind = Kind::Soap(gateway::Action::AddPortMapping);
    world.gateway().faults.refuse_next(kind, 718, 1);
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
        let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Pcp);
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
    let (_, _, port) = world.success(id).expect("it is made");
    let table = world.gateway().table();
    let entry = table.get(gateway::Transport::Tcp, port).expect("the gateway has what the program was told");
    assert_eq!(entry.internal.port(), 8000);
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

#[test]
fn a_renewal_is_of_the_entry_that_holds_the_mapping() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.closed.pcp, faults.closed.natpmp) = (true, true);
    let wish = Suggestion { address: None, port: NonZeroU16::new(20_000), ..Suggestion::default() };
    let id = world.create_wishing(Tcp, 8000, wish);
    let add = Kind::Soap(gateway::Action::AddPortMapping);
    let look = Kind::Soap(gateway::Action::GetSpecificPortMappingEntry);
    assert!(world.runs_until(secs(1), |world| world.counts().of(look) == 1));
    // What becomes of the requests for the wished port nobody knows, and deletions are refused.
    world.run_for(Duration::from_millis(2));
    world.gateway().faults.http.junk = Times::Next(3);
    world.gateway().faults.refuse(Kind::Soap(gateway::Action::DeletePortMapping), 501);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).map(|success| success.2), Some(8000));
    let made = world.counts().of(add);
    assert!(world.runs_until(secs(5000), |world| world.counts().of(add) > made));
    world.run_for(secs(1));
    assert_eq!(world.callbacks(id).len(), 1, "{:?}", world.timeline(id));
    let renewed = world.table().get(gateway::Transport::Tcp, 8000).expect("it is there");
    assert!(renewed.granted_at > gateway_time(world.now() - secs(2)));
}

#[test]
fn a_copy_of_a_natpmp_answer_is_not_taken_for_that_of_another_mapping() {
    let mut world = World::new();
    world.gateway().faults.closed.pcp = true;
    world.gateway().faults.duplicate = Chance { requests: 0.0, replies: 1.0 };
    let ids = [world.create(Udp, 8000), world.create(Udp, 8001), world.create(Udp, 8002)];
    world.run_until(World::all_success);
    world.run_for(secs(1));
    let ports = ids.map(|id| world.success(id).map(|success| success.2));
    assert_eq!(ports, [Some(8000), Some(8001), Some(8002)]);
}

#[test]
fn a_deletion_does_not_overtake_the_request_before_it() {
    for (seed, by_natpmp) in (1..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut world = World::set_up(|setup| setup.seed = seed);
        world.gateway().faults.closed.pcp = by_natpmp;
        let known = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(known));
        world.network.jitter = Duration::from_millis(100);
        let id = world.create(Tcp, 8001);
        world.run_for(Duration::from_millis(1));
        world.destroy_and_wait(id);
        world.run_for(secs(2));
        assert_eq!(world.table().len(), 1, "seed {seed}, NAT-PMP {by_natpmp}");
    }
}

#[test]
fn requests_of_mappings_that_are_destroyed_are_in_flight_still() {
    let mut world = World::new();
    world.gateway().faults.delay = Duration::from_millis(100);
    let first = world.create(Udp, 9999);
    world.run_until(|world| world.is_success(first));
    let ids: Vec<_> = (1..=200).map(|port| world.create(Udp, 10_000 + port)).collect();
    for id in ids {
        world.destroy(id);
    }
    world.run_for(Duration::from_millis(90));
    let asked = world.counts().of(Kind::PcpMap) - 1;
    assert!(asked <= 65, "{asked} requests at once");
    world.run_for(secs(10));
    assert_eq!(world.table().len(), 1);
}

#[test]
fn a_late_grant_that_is_on_its_way_out_is_no_mapping() {
    let mut world = World::new();
    // PCP answers when UPnP elsewhere has made the mapping, and the deletion that follows comes later still.
    world.gateway().faults.delay = Duration::from_millis(1400);
    (world.gateway().faults.closed.natpmp, world.gateway().faults.closed.ssdp) = (true, true);
    add_device(&mut world);
    let id = world.create(Tcp, 8000);
    world.run_for(secs(20));
    let held = world.network.nodes.iter().any(|node| node.gateway.table().len() == 1);
    assert!(held && world.is_success(id), "{:?}", world.timeline(id));
}

#[test]
fn a_refusal_for_the_entry_of_another_protocol_ends_with_that_entry() {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.pcp, faults.closed.ssdp) = (Spoken::UnsuppVersion(0), true);
    faults.max_lifetime = Some(600);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    // From now on it speaks PCP only, which refuses the port as long as it has the entry.
    let faults = &mut world.gateway().faults;
    (faults.pcp, faults.natpmp) = (Spoken::Yes, Spoken::UnsuppVersion(2));
    let (kind, port, code, lifetime, times) = (Kind::PcpMap, None, 2, 1800, Times::Always);
    faults.refuse_some(gateway::Refusal { kind, port, code, lifetime, times });
    world.run_for(secs(599));
    world.gateway().faults.refusals.clear();
    world.run_for(secs(10));
    assert_eq!(
        world.success(id).map(|(protocol, ..)| protocol),
        Some(Protocol::Pcp),
        "{:?}",
        world.timeline(id)
    );
}

#[test]
fn a_late_entry_at_the_holders_port_does_not_end_the_mapping_with_its_own_lease() {
    let mut world = World::new();
    // The answer of PCP and then that of UPnP come to a mapping for which both were asked.
    world.gateway().faults.silence.pcp = Times::Next(1);
    world.gateway().faults.closed.natpmp = true;
    world.gateway().faults.delay = Duration::from_millis(40);
    world.gateway().faults.leases = gateway::Leases::GoneAfter(secs(2));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
    world.run_for(secs(10));
    let added = [gateway::Action::AddPortMapping, gateway::Action::AddAnyPortMapping];
    assert_eq!(added.map(|action| world.counts().of(Kind::Soap(action))).iter().sum::<u64>(), 1);
    assert_eq!(world.table().len(), 1, "{:?}", world.timeline(id));
}
