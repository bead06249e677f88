//! The lifetime that the program asks for, on a virtual clock.

use plum_engine::io::{Allowed, Event, MappingId, Protocol, Suggestion};
use plum_gateway::core::{Action, Kind};
use plum_testkit::world::World;
use plum_wire::Transport::{Tcp, Udp};
use std::time::Duration;

const ADD: Kind = Kind::Soap(Action::AddPortMapping);

fn wish(secs: u32) -> Suggestion {
    Suggestion { lifetime_secs: Some(secs), ..Suggestion::default() }
}

fn make(world: &mut World, port: u16, wish: Suggestion) -> MappingId {
    let id = world.create_wishing(Tcp, port, wish);
    world.run_until(|world| world.is_success(id));
    id
}

/// The lifetimes that were asked for by requests of this kind.
fn asked(world: &World, kind: Kind) -> Vec<Option<u32>> {
    world.counts().received.iter().filter(|received| received.kind == kind).map(|r| r.lifetime).collect()
}

fn expires_in(world: &mut World, id: MappingId) -> Option<Duration> {
    let now = world.now();
    let status = world.act(|engine, now| engine.mapping_status(now, id)).expect("the mapping is known");
    status.expires_at.map(|at| at.since(now))
}

#[test]
fn each_protocol_asks_for_it_and_renews_it() {
    for (index, kind) in [Kind::PcpMap, Kind::NatPmpMap, ADD].into_iter().enumerate() {
        let mut world = World::with_best(index);
        let id = make(&mut world, 8000, wish(600));
        world.run_for(Duration::from_secs(2000));
        let asked = asked(&world, kind);
        assert!((5..=8).contains(&asked.len()) && asked.iter().all(|&secs| secs == Some(600)), "{asked:?}");
        assert_eq!(world.callbacks(id).len(), 1, "protocol {index}");
    }
}

#[test]
fn the_gateway_is_believed_beyond_a_day_and_asked_again_within_one() {
    for (index, kind) in [Kind::PcpMap, Kind::NatPmpMap].into_iter().enumerate() {
        let mut world = World::with_best(index);
        let week = 7 * 86_400;
        let id = make(&mut world, 8000, wish(week));
        let left = expires_in(&mut world, id).expect("it ends");
        assert!(left > Duration::from_secs(u64::from(week) - 10), "{left:?}");
        world.run_for(Duration::from_secs(86_400));
        let asked = asked(&world, kind);
        assert_eq!(asked, [Some(week); 2], "protocol {index}");
    }
}

#[test]
fn a_permanent_one_is_upnps_alone() {
    let mut world = World::new();
    let id = make(&mut world, 8000, wish(0));
    assert!(matches!(world.success(id), Some((Protocol::UpnpIgd, ..))), "{:?}", world.success(id));
    assert_eq!(expires_in(&mut world, id), None);
    assert_eq!(world.counts().of(Kind::PcpMap) + world.counts().of(Kind::NatPmpMap), 0);
    assert_eq!(asked(&world, ADD), [Some(0)]);
    world.destroy_and_wait(id);
    assert!(world.table().is_empty());
}

#[test]
fn a_permanent_one_is_not_to_be_had_without_upnp() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Pcp);
    let id = world.create_wishing(Tcp, 8000, wish(0));
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.callbacks(id), [Event::Failure]);
    assert_eq!(world.counts().of(Kind::PcpMap) + world.counts().of(Kind::NatPmpMap), 0);
}

#[test]
fn what_one_program_asks_for_is_not_what_the_service_is_asked_by_others() {
    for secs in [0, 600, 3600, 86_400] {
        let mut world = World::with_best(2);
        make(&mut world, 8000, wish(secs));
        make(&mut world, 8001, Suggestion::default());
        assert_eq!(asked(&world, ADD), [Some(secs), Some(7200)]);
    }
}

#[test]
fn a_service_that_refuses_it_is_asked_for_the_usual_one_then_for_others() {
    let mut world = World::with_best(2);
    world.gateway().add_script(|request| {
        let is_long = request.kind == ADD && request.lifetime.is_some_and(|secs| secs > 7200);
        if is_long { plum_gateway::core::Reply::code(402) } else { plum_gateway::core::Reply::usual() }
    });
    let id = make(&mut world, 8000, wish(86_400));
    assert_eq!(asked(&world, ADD), [Some(86_400), Some(7200)]);
    make(&mut world, 8001, Suggestion::default());
    assert_eq!(asked(&world, ADD)[2..], [Some(7200)]);
    assert!(expires_in(&mut world, id).is_some_and(|left| left <= Duration::from_secs(7200)));
}

#[test]
fn a_service_of_permanent_entries_grants_one() {
    let mut world = World::with_best(2);
    world.gateway().faults.permanent_leases_only = true;
    let id = make(&mut world, 8000, wish(600));
    assert_eq!(expires_in(&mut world, id), None);
    make(&mut world, 8001, wish(600));
    assert_eq!(asked(&world, ADD), [Some(600), Some(0), Some(0)]);
}

#[test]
fn a_second_mapping_of_the_port_shares_the_lifetime() {
    let mut world = World::new();
    make(&mut world, 8000, wish(600));
    let second = world.create_wishing(Tcp, 8000, wish(900));
    world.run_for(Duration::from_secs(1000));
    assert!(world.is_success(second));
    assert!(asked(&world, Kind::PcpMap).iter().all(|&secs| secs == Some(600)));
    let other = world.create_wishing(Udp, 8000, wish(900));
    world.run_until(|world| world.is_success(other));
    assert_eq!(asked(&world, Kind::PcpMap).last(), Some(&Some(900)), "another transport is another mapping");
}
