//! A gateway that does not answer, and a network that changes meanwhile.

use plum_gateway::core::{Silence, Times};
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
