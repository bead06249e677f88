//! A gateway that does not answer, and a network that changes meanwhile.

use plum_engine::time::Time;
use plum_gateway::core::{Action, Kind, Silence, Times};
use plum_testkit::world::World;
use plum_wire::Transport;
use std::time::Duration;

#[test]
fn a_mapping_that_nobody_answered_is_tried_again_as_soon_as_the_network_changes() {
    let mut world = World::new();
    let first = world.create(Transport::Tcp, 8000);
    world.run_until(|world| world.is_success(first));
    let always = Times::Always;
    world.gateway().faults.silence = Silence { pcp: always, natpmp: always, ssdp: always, http: always };
    let second = world.create(Transport::Tcp, 8001);
    world.run_until(|world| world.is_failure(second));
    world.run_for(Duration::from_secs(2));
    let failed_at = world.now();
    // As when a cable is plugged in again: the route is the same, its links changed.
    world.gateway().faults.silence = Silence::default();
    world.change_network();
    world.run_until(|world| world.is_success(second));
    assert!(world.now().since(failed_at) < Duration::from_secs(2), "{:?}", world.now().since(failed_at));
    world.cleanup();
}

/// UPnP refuses a mapping at a gateway that is silent by PCP. Returns when it is next asked for it after `until`.
fn refused_by_upnp(until: Duration, change: impl FnOnce(&mut World)) -> Time {
    let mut world = World::new();
    let faults = &mut world.gateway().faults;
    (faults.silence.pcp, faults.closed.natpmp) = (Times::Always, true);
    let add = Kind::Soap(Action::AddPortMapping);
    faults.refuse(add, 728);
    let id = world.create(Transport::Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    world.run_for(until - world.elapsed());
    change(&mut world);
    let before = world.counts().of(add);
    world.run_until(|world| world.counts().of(add) > before);
    world.now()
}

#[test]
fn a_failed_rung_comes_back_in_its_time_though_a_better_one_is_silent() {
    let at = Duration::from_secs(60);
    let due = refused_by_upnp(at, |_| {});
    // PCP is asked once more, for 3.75 s.
    let since_start = due.since(plum_testkit::world::START);
    let next = refused_by_upnp(since_start - Duration::from_secs(2), World::change_network);
    assert_eq!(next, due);
}
