//! What the engine tells the Rust API about a mapping is what it then does, on a virtual clock.

use plum_engine::driver::Key;
use plum_engine::io::{Config, MappingId, Protocol};
use plum_engine::{Engine, MappingStatus, Reason};
use plum_gateway::core::{Action, Kind};
use plum_testkit::random::Seeded;
use plum_testkit::world::{Setup, World};
use plum_wire::Transport::{Tcp, Udp};
use std::time::Duration;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn standing(world: &mut World, id: MappingId) -> MappingStatus {
    world.act(|engine, now| engine.mapping_status(now, id)).expect("the mapping is known")
}

/// Requests for mappings that the gateway has received.
fn requests(world: &World) -> u64 {
    let kinds = [Kind::PcpMap, Kind::NatPmpMap, Kind::Soap(Action::AddPortMapping)];
    kinds.into_iter().map(|kind| world.counts().of(kind)).sum()
}

#[test]
fn renewals_go_out_when_they_were_foretold() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        let made_at = world.now();
        for _ in 0..5 {
            let MappingStatus { renew_at, expires_at, reasons, counters, .. } = standing(&mut world, id);
            let renew_at = renew_at.expect("it is to be renewed");
            assert_eq!(reasons, None);
            assert!(renew_at > world.now() && renew_at < expires_at.expect("it has a lifetime"));
            let before = requests(&world);
            world.run_for(renew_at.since(world.now()) - Duration::from_millis(1));
            assert_eq!(requests(&world), before, "not before its time (protocol {index})");
            // And what the request takes to the gateway.
            world.run_for(secs(1));
            assert_eq!(requests(&world), before + 1, "protocol {index}");
            let counted = standing(&mut world, id).counters;
            let more = (counted.requests - counters.requests, counted.renewals - counters.renewals);
            assert_eq!((more, counted.losses), ((1, 1), 0), "protocol {index}");
        }
        assert!(world.now().since(made_at) > secs(5 * 3600));
    }
}

#[test]
fn unanswered_renewals_come_faster_until_none_is_to_come() {
    let mut world = World::new();
    let id = world.create(Udp, 8000);
    world.run_until(|world| world.is_success(id));
    let expires_at = standing(&mut world, id).expires_at.expect("it has a lifetime");
    world.power_off();
    let mut last = None;
    while let Some(renew_at) = standing(&mut world, id).renew_at {
        assert!(Some(renew_at) > last && renew_at < expires_at);
        last = Some(renew_at);
        world.run_for(renew_at.since(world.now()) + Duration::from_millis(1));
    }
    assert!(last.is_some());
    assert_eq!(standing(&mut world, id).expires_at, Some(expires_at), "its end is where it was");
    world.run_for(expires_at.since(world.now()) + Duration::from_millis(1));
    assert_eq!(standing(&mut world, id).expires_at, None, "it has ended");
}

#[test]
fn permanent_and_direct_mappings_have_no_end() {
    let mut world = World::with_best(2);
    world.gateway().faults.permanent_leases_only = true;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    let MappingStatus { renew_at, expires_at, reasons, .. } = standing(&mut world, id);
    assert_eq!((renew_at, expires_at, reasons), (None, None, None));
    assert_eq!(world.success(id).map(|(protocol, ..)| protocol), Some(Protocol::UpnpIgd));
}

#[test]
fn reasons_tell_what_each_protocol_said() {
    let reasons = |world: &mut World, id| standing(world, id).reasons;
    // While nothing is decided there is none.
    let mut world = World::new();
    world.power_off();
    let id = world.create(Tcp, 8000);
    assert_eq!(reasons(&mut world, id), None);
    world.run_until(|world| world.is_failure(id));
    let silent = Protocol::ASKING.map(|protocol| (protocol, Reason::Silence));
    assert_eq!(reasons(&mut world, id), Some(silent.to_vec()));

    world.change_route(None);
    world.run_for(secs(1));
    assert_eq!(reasons(&mut world, id), Some(Vec::new()), "nobody could be asked");
    assert!(!world.engine().is_routed());

    let mut world =
        World::set_up(|setup| setup.engine = Config { recheck_interval: secs(30), ..Config::default() });
    let faults = &mut world.gateway().faults;
    faults.refuse(Kind::PcpMap, 2);
    faults.refuse(Kind::NatPmpMap, 2);
    faults.refuse(Kind::Soap(Action::AddPortMapping), 606);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    let expected = [
        (Protocol::Pcp, Reason::Result { protocol: Protocol::Pcp, code: 2 }),
        (Protocol::NatPmp, Reason::Result { protocol: Protocol::NatPmp, code: 2 }),
        (Protocol::UpnpIgd, Reason::Upnp { code: 606 }),
    ];
    assert_eq!(reasons(&mut world, id), Some(expected.to_vec()));
    let retry_at = standing(&mut world, id).retry_at.expect("it is tried again");
    assert!(retry_at > world.now() && retry_at.since(world.now()) <= secs(30), "{retry_at:?}");
    world.gateway().faults = plum_gateway::core::Faults::default();
    world.run_until(|world| world.is_success(id));
    let MappingStatus { reasons, retry_at, .. } = standing(&mut world, id);
    assert_eq!((reasons, retry_at), (None, None), "it is made in the end");
}

#[test]
fn a_removal_is_unconfirmed_until_the_gateway_answers() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let ids = [world.create(Tcp, 8000), world.create(Tcp, 8001)];
        world.run_until(World::all_success);
        let port = |n: u16| std::num::NonZeroU16::new(n).expect("not 0");
        let is_open = |world: &mut World, n: u16| {
            world.act(|engine, _| {
                engine.is_deletion_unconfirmed(Key { transport: Tcp, internal_port: port(n) })
            })
        };
        assert!(!is_open(&mut world, 8000));
        world.destroy_and_wait(ids[0]);
        assert!(!is_open(&mut world, 8000), "protocol {index}");
        world.power_off();
        world.destroy_and_wait(ids[1]);
        assert!(is_open(&mut world, 8001), "protocol {index}: nobody has answered");
        assert!(!is_open(&mut world, 8000), "protocol {index}: of the other");
    }
}

#[test]
fn without_nonces_pcp_keeps_what_it_has_made_and_the_others_make_the_rest() {
    for (index, next) in [(0, Protocol::NatPmp), (1, Protocol::UpnpIgd)] {
        let setup = Setup::default();
        let random = Seeded::new(setup.seed).with_nonces(1);
        let engine = Engine::new(setup.engine.clone(), Box::new(random));
        let mut world = World::with_engine(setup, engine);
        world.gateway().faults.closed.natpmp = index > 0;
        let first = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(first));
        let others: Vec<MappingId> = (8001..8100).map(|port| world.create(Tcp, port)).collect();
        world.run_until(|world| others.iter().all(|&id| world.is_success(id)));
        let protocol = |world: &World, id| world.success(id).map(|(protocol, ..)| protocol);
        assert!(others.iter().all(|&id| protocol(&world, id) == Some(next)));
        world.run_for(secs(24 * 3600));
        assert_eq!(protocol(&world, first), Some(Protocol::Pcp));
        assert!(requests(&world) > 100, "all of them were renewed");
        world.destroy_and_wait(first);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn without_any_nonce_pcp_fails_for_that_reason() {
    let mut setup = Setup::default();
    setup.engine.allowed = plum_engine::io::Allowed::Pcp;
    let engine = Engine::new(setup.engine.clone(), Box::new(Seeded::new(setup.seed).with_nonces(0)));
    let mut world = World::with_engine(setup, engine);
    world.gateway().faults.closed.natpmp = true;
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    let reasons = standing(&mut world, id).reasons.expect("it has failed");
    assert!(reasons.contains(&(Protocol::Pcp, Reason::NoRandomness)), "{reasons:?}");
    assert_eq!(world.counts().pcp_map, 0);
    // There is no round of tries that costs time or packets.
    world.run_for(secs(3600));
    assert!(world.counts().total() < 200, "{:?}", world.counts().total());
    world.cleanup();
}
