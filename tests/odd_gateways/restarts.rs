//! Gateways that restart in odd ways.

use crate::stage::{Stage, Start, VirtualClock, rows};
use crate::{millis, secs};
use plum_engine::io::Event;
use plum_engine::io::Protocol::{self, NatPmp, Pcp, UpnpIgd};
use plum_gateway::core::{Action, Gateway, Kind, Spoken};
use plum_gateway::odd;
use plum_testkit::packets::most_packets_a_second;
use plum_testkit::world::World;
use plum_wire::Transport::Tcp;

rows! {
    fn a_daemon_that_comes_back_on_another_http_port_is_found<S>() {
        for (keeps_rules, announces) in [(false, false), (true, false), (false, true), (true, true)] {
            for odd in [|_: &mut Gateway| {}, odd::gives_no_boot_id] {
                let mut stage = S::begin_with(Start { recheck: millis(500) }, |gateway| {
                    odd::closes_pcp_port(gateway);
                    odd(gateway);
                    gateway.faults.never_announces = true;
                });
                let ids = [8000, 8001].map(|port| stage.create(port));
                for id in ids {
                    assert_eq!(stage.expect_success(millis(500), id).0, UpnpIgd);
                }
                stage.gateway(|gateway| {
                    gateway.restart(keeps_rules);
                    let port = gateway.config().http_port;
                    gateway.set_http_port(if port == 5000 { 5001 } else { 5000 });
                    if announces {
                        // A new LOCATION, and no goodbye before it.
                        gateway.notify(true);
                    }
                });
                for id in ids {
                    stage.wait(secs(10), "SUCCESS again", |stage| {
                        let told = stage.told(id);
                        told.len() == 2 && stage.success(id).is_some()
                    });
                }
                assert_eq!(stage.entries().len(), 2);
                stage.end();
            }
        }
    }

    fn a_grant_of_before_a_restart_is_neither_told_nor_left<S>() {
        for delay in [15, 100] {
            let mut stage = S::begin(|gateway| {
                // So that the mapping is asked for at once.
                gateway.faults.pcp = Spoken::UnsuppVersion(0);
                gateway.set_igd(None);
                odd::natpmp_restarts_after_a_grant(gateway, millis(delay));
            });
            let id = stage.create(4000);
            stage.wait(secs(2), "something is told", |stage| !stage.told(id).is_empty());
            stage.pass(secs(20));
            // The grant of before is made anew.
            stage.assert_successes(id, 1);
            assert!(stage.count(Kind::NatPmpMap) > 1);
            assert_eq!(stage.entries().len(), 1);
            stage.destroy_and_wait(id);
            assert!(stage.count(Kind::NatPmpDelete) > 0);
            stage.end();
        }
    }

    fn a_renewal_refused_by_pcp_while_the_wan_is_down_moves_nothing<S>() {
        assert_refused_renewal_moves_nothing::<S>(Pcp, |_| {});
    }

    fn a_renewal_refused_by_natpmp_while_the_wan_is_down_moves_nothing<S>() {
        assert_refused_renewal_moves_nothing::<S>(NatPmp, |gateway| gateway.faults.closed.pcp = true);
    }

    fn a_renewal_refused_by_upnp_while_the_wan_is_down_moves_nothing<S>() {
        assert_refused_renewal_moves_nothing::<S>(UpnpIgd, odd::closes_pcp_port);
    }
}

fn assert_refused_renewal_moves_nothing<S: Stage>(protocol: Protocol, odd: impl FnOnce(&mut Gateway)) {
    let mut stage = S::begin(|gateway| {
        odd(gateway);
        // The second renewal comes 4 s after the first at the soonest, and before 7/8.
        gateway.faults.lifetime = Some(18);
    });
    let id = stage.create(8000);
    assert_eq!(stage.expect_success(millis(500), id).0, protocol);
    let kind = match protocol {
        Pcp => Kind::PcpMap,
        NatPmp => Kind::NatPmpMap,
        _ => Kind::Soap(Action::AddPortMapping),
    };
    let renewals = stage.count(kind);
    stage.gateway(odd::refuses_while_the_wan_is_down);
    stage.wait(secs(12), "a renewal is refused", |stage| stage.count(kind) > renewals);
    stage.gateway(Gateway::clear_scripts);
    let granted_at =
        |stage: &mut S| stage.gateway(|gateway| gateway.table().iter().next().map(|entry| entry.granted_at));
    let before = granted_at(&mut stage);
    stage.wait(secs(6), "a renewal goes through", |stage| granted_at(stage) != before);
    stage.assert_successes(id, 1);
    stage.end();
}

/// Virtual only: leases of two hours.
#[test]
fn renewals_refused_for_hours_move_nothing() {
    let without: [fn(&mut Gateway); 3] =
        [|_| {}, |gateway| gateway.faults.closed.pcp = true, odd::closes_pcp_port];
    for (protocol, without) in [Pcp, NatPmp, UpnpIgd].into_iter().zip(without) {
        let mut stage = VirtualClock::begin(without);
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(500), id).0, protocol);
        stage.pass(secs(3000));
        stage.gateway(odd::refuses_while_the_wan_is_down);
        // The first renewal fails, the second goes through; from 7/8 of the lifetime the others would be asked too.
        stage.pass(secs(2300));
        stage.gateway(Gateway::clear_scripts);
        stage.pass(secs(8000));
        stage.assert_successes(id, 1);
        assert_eq!(stage.success(id).map(|success| success.0), Some(protocol));
        assert_eq!(stage.entries().len(), 1);
        stage.end();
    }
}

/// Virtual only: for how long the program believes in entries that are gone, in the time after the first look.
#[test]
fn many_mappings_of_a_device_that_has_lost_its_table_are_found_out_soon() {
    for recheck in [secs(300), secs(5)] {
        let mut world = World::set_up(|setup| setup.engine.recheck_interval = recheck);
        world.close_better(2);
        let ids: Vec<_> = (8000..8200).map(|port| world.create(Tcp, port)).collect();
        world.run_until(World::all_success);
        world.run_for(secs(400));
        world.gateway().counts.reset();
        world.gateway().forget_mappings();
        assert!(world.runs_until(secs(310), |world| !world.all_success()), "nobody looks");
        let begun = world.now();
        assert!(world.runs_until(secs(60), |world| world.table().len() == ids.len()), "not made again");
        assert!(world.now().since(begun) <= secs(40), "{recheck:?}: {:?}", world.now().since(begun));
        world.run_for(secs(100));
        let believed = |&id: &_| match world.timeline(id) {
            // Told once a loss.
            [_, (lost, Event::Pending), (_, Event::Success { .. })] => lost.since(begun),
            other => panic!("{recheck:?}: {other:?}"),
        };
        let mut believed: Vec<_> = ids.iter().map(believed).collect();
        believed.sort();
        // Each look and each request costs six packets, and a second has a hundred at most.
        let (median, most) = (believed[ids.len() / 2], believed[ids.len() - 1]);
        assert!(median <= secs(20) && most <= secs(40), "{recheck:?}: {median:?}, {most:?} at most");
        let most = most_packets_a_second(world.counts().received.iter());
        assert!(most <= 100, "{recheck:?}: {most} packets in one second");
    }
}
