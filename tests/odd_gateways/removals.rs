//! Gateways whose removals are odd.

use crate::stage::{Stage, VirtualClock, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::{NatPmp, Pcp, UpnpIgd};
use plum_gateway::core::{Action, Gateway, Reply, Times};
use plum_gateway::odd::{self, UNKNOWN};

rows! {
    fn a_removal_that_fails_for_one_mapping_costs_the_others_nothing<S>() {
        for (name, reply) in UNKNOWN.iter().filter(|(name, _)| !name.starts_with("714")) {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::removal_gets(gateway, Some(8000), *reply);
            });
            let ids = [8000, 8001, 8002].map(|port| stage.create(port));
            for id in ids {
                assert_eq!(stage.expect_success(secs(2), id).0, UpnpIgd);
            }
            let requests = stage.count_of(Action::AddPortMapping);
            stage.destroy_and_wait(ids[0]);
            stage.pass(secs(20));
            assert_eq!(stage.count_of(Action::AddPortMapping), requests, "{name}");
            for id in &ids[1..] {
                stage.assert_successes(*id, 1);
            }
            assert!(!stage.has_logged("8000: UPnP-IGD has deleted"), "{name}");
            // Once it may be, it is removed too.
            stage.gateway(Gateway::clear_scripts);
            match *name {
                // By now it is given up on the virtual clock alone: it may take ten seconds.
                "hanging" if !S::HAS_EXACT_TIMES => {
                    stage.cleanup();
                }
                _ => stage.end(),
            }
        }
    }

    fn an_entry_that_is_gone_counts_as_removed<S>() {
        let mut stage = S::begin(odd::closes_pcp_port);
        let id = stage.create(8000);
        stage.expect_success(millis(500), id);
        stage.gateway(Gateway::forget_mappings);
        stage.destroy_and_wait(id);
        assert!(!stage.has_logged("not confirmed"));
        stage.end();
    }

    fn a_dropped_pcp_port_costs_a_removal_no_time<S>() {
        let mut stage = S::begin(odd::drops_pcp_port);
        let ids = [8000, 8001].map(|port| stage.create(port));
        for id in ids {
            assert_eq!(stage.expect_success(millis(500), id).0, UpnpIgd);
        }
        stage.destroy(ids[0]);
        stage.wait(millis(20), "DESTROYED after one round trip", |stage| {
            stage.told(ids[0]).last() == Some(&plum_engine::io::Event::Destroyed)
        });
        let took = stage.cleanup();
        assert!(!S::HAS_EXACT_TIMES || took <= millis(20), "{took:?}");
        assert_eq!(stage.entries(), []);
    }

    fn wan_that_is_down_keeps_no_deletion_back<S>() {
        // miniupnpd counts its epoch anew when its WAN goes down, keeps its rules and answers NETWORK_FAILURE.
        let without: [fn(&mut Gateway); 3] =
            [|_| {}, |gateway| gateway.faults.closed.pcp = true, odd::closes_pcp_port];
        for (protocol, without) in [Pcp, NatPmp, UpnpIgd].into_iter().zip(without) {
            let mut stage = S::begin(without);
            let ids = [8000, 8001].map(|port| stage.create(port));
            for id in ids {
                assert_eq!(stage.expect_success(millis(500), id).0, protocol);
            }
            stage.pass(secs(100));
            stage.gateway(odd::loses_its_wan);
            // Another mapping has the library see it.
            let other = stage.create(8002);
            stage.wait(secs(11), "it is seen", |stage| !stage.told(other).is_empty());
            stage.destroy_and_wait(ids[0]);
            stage.end();
        }
    }
}

/// Virtual only: the repetitions come after 30 s, 5 min and 1 h.
#[test]
fn a_removal_that_was_refused_is_repeated() {
    for wait in [31, 331, 3931] {
        let mut stage = VirtualClock::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::removal_gets(gateway, Some(8000), || Reply::http(404, ""));
            // Only permanent entries outlive a lease of two hours anyway.
            odd::leases_get_code(gateway, 725);
        });
        let ids = [8000, 8001].map(|port| stage.create(port));
        stage.expect_success(millis(500), ids[0]);
        stage.destroy_and_wait(ids[0]);
        stage.pass(secs(wait) - secs(2));
        assert_eq!(stage.entries().len(), 2);
        stage.gateway(Gateway::clear_scripts);
        stage.pass(secs(4));
        assert_eq!(stage.entries().len(), 1, "after {wait} s");
        stage.end();
    }
}

/// PCP answers deletions alone. While it is asked anew, by one request, the deletions of what it has made before go out.
#[test]
fn what_a_silent_pcp_made_is_deleted_while_it_is_asked_anew() {
    let mut stage = VirtualClock::begin(|gateway| {
        odd::pcp_maps_without_a_word(gateway);
        gateway.faults.silence.natpmp = Times::Always;
        gateway.faults.tables_apart = true;
    });
    let first = stage.create(8000);
    assert_eq!(stage.expect_success(secs(2), first).0, UpnpIgd);
    stage.destroy_and_wait(first);
    // It was heard just now: the next is asked for until it has failed.
    for (port, pause) in [(8001, 10), (8002, 4000), (8003, 1)] {
        let id = stage.create(port);
        stage.expect_success(secs(10), id);
        stage.pass(secs(pause));
    }
    stage.end();
}
