//! What gateways answer: entries that they deny, lose or give to others, epochs, refusals, addresses.

use crate::{millis, secs};
use plum_engine::io::{Allowed, Suggestion};
use plum_gateway::core::{Action, Kind};
use plum_testkit::world::World;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

#[test]
fn a_gateway_that_denies_its_own_entries_is_believed_once() {
    let mut world = World::with_best(2);
    world.gateway().faults.refuse(Kind::Soap(Action::GetSpecificPortMappingEntry), 714);
    let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
    world.run_for(secs(6000));
    for id in ids {
        assert!(world.is_success(id));
        assert!(world.callbacks(id).len() <= 2, "{:?}", world.timeline(id));
    }
    let checks = world.gateway().counts.of(Kind::Soap(Action::GetSpecificPortMappingEntry));
    assert!(checks <= 60, "{checks} looks at a gateway that shows nothing");
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn entries_that_are_gone_again_and_again_are_made_again_and_again() {
    let mut world = World::with_best(2);
    let id = world.create(Tcp, 8000);
    world.run_for(secs(10));
    for round in 1..=5 {
        world.gateway().forget_mappings();
        world.run_for(secs(310));
        assert_eq!(world.gateway().table().len(), 1, "round {round}");
        assert_eq!(world.callbacks(id).len(), 1 + round);
    }
}

#[test]
fn a_refusal_for_good_is_over_with_its_lifetime_where_nobody_else_is_left() {
    for recheck_interval in [secs(300), Duration::from_millis(i32::MAX as u64)] {
        let mut world = World::set_up(|setup| {
            setup.engine.allowed = Allowed::Pcp;
            setup.engine.recheck_interval = recheck_interval;
        });
        world.gateway().faults.closed.natpmp = true;
        // NOT_AUTHORIZED, for 30 s.
        world.gateway().faults.refuse_next(Kind::PcpMap, 2, 1);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_failure(id));
        assert!(world.runs_until(secs(40), |world| world.is_success(id)), "{recheck_interval:?}");
        assert!(world.elapsed() >= secs(30));
    }
}

#[test]
fn an_epoch_that_means_nothing_is_no_restart_without_end() {
    for index in 0..2 {
        for constant in [true, false] {
            let mut world = World::with_best(index);
            let mut rng = fastrand::Rng::with_seed(1);
            let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
            for _ in 0..10_000 {
                world.gateway().set_epoch(if constant { 5 } else { rng.u32(..) });
                world.run_for(secs(1));
            }
            for id in ids {
                assert!(world.is_success(id));
                let news = world.callbacks(id).len();
                assert!(news <= 8, "protocol {index}, constant {constant}: SUCCESS {news} times");
            }
            let requests = world.gateway().counts.pcp_map + world.gateway().counts.natpmp_map;
            assert!(requests <= 300, "protocol {index}, constant {constant}: {requests} requests");
        }
    }
}

#[test]
fn two_mappings_that_wish_for_the_same_external_port_get_two() {
    let wish = Suggestion { address: None, port: NonZeroU16::new(4711), ..Suggestion::default() };
    for index in 0..3 {
        let mut world = World::with_best(index);
        world.gateway().faults.delay = millis(5);
        let ids = [world.create_wishing(Tcp, 8000, wish), world.create_wishing(Tcp, 8001, wish)];
        world.run_until(World::all_success);
        let mut ports = ids.map(|id| world.success(id).unwrap().2);
        assert_eq!(ports[0], 4711);
        ports.sort_unstable();
        assert_ne!(ports[0], ports[1], "protocol {index}");
        world.run_for(secs(20_000));
        for id in ids {
            assert_eq!(world.events(id).len(), 1, "protocol {index}: {:?}", world.timeline(id));
        }
        assert_eq!(world.gateway().table().len(), 2);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn behind_a_second_nat_a_mapping_is_made_with_the_address_that_the_first_one_has() {
    for index in 0..3 {
        for address in [Ipv4Addr::new(100, 64, 3, 4), Ipv4Addr::new(10, 9, 8, 7)] {
            let mut world = World::with_best(index);
            world.gateway().set_external_address(address, false);
            let id = world.create(Tcp, 8000);
            world.run_until(|world| world.is_success(id));
            assert_eq!(world.success(id).map(|s| s.1), Some(IpAddr::V4(address)), "protocol {index}");
            // Another one is noticed at the latest with a renewal.
            let next = Ipv4Addr::new(172, 16, 0, 1);
            world.gateway().set_external_address(next, false);
            world.run_for(secs(7200));
            assert_eq!(world.success(id).map(|s| s.1), Some(IpAddr::V4(next)), "protocol {index}");
            world.cleanup();
            world.assert_nothing_left();
        }
    }
}
