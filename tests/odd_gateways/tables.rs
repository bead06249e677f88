//! Gateways with one table for all protocols, or several.

use crate::stage::{Stage, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Gateway, Kind, Times};
use plum_gateway::odd;

/// The lifetime of the late grant, in seconds.
fn late_lifetime<S: Stage>() -> u32 {
    if S::HAS_EXACT_TIMES { 120 } else { 6 }
}

/// A row of a gateway whose PCP answers only when UPnP has made the mapping.
fn assert_late_grant_harms_nothing<S: Stage>(tables_apart: bool, odd: impl FnOnce(&mut Gateway)) {
    let mut stage = S::begin(|gateway| {
        gateway.faults.silence.natpmp = Times::Always;
        gateway.faults.tables_apart = tables_apart;
        odd(gateway);
    });
    let id = stage.create(8000);
    let (protocol, _) = stage.expect_success(secs(1), id);
    assert_eq!(protocol, UpnpIgd);
    stage.wait(secs(5), "the late answer has come", |stage| stage.gateway(|gateway| gateway.epoch() >= 4));
    // While it goes on, the port is never closed.
    for _ in 0..300 {
        stage.pass(secs(1));
        let (_, port) = stage.success(id).expect("it stays made");
        let entries = stage.entries();
        assert!(entries.iter().any(|entry| entry.external_port == port), "no entry of {port}: {entries:?}");
    }
    stage.wait(secs(10), "one port is open", |stage| stage.entries().len() == 1);
    let (_, port) = stage.success(id).expect("it stays made");
    assert_eq!(stage.entries()[0].external_port, port);
    stage.end();
}

rows! {
    fn a_late_answer_of_a_gateway_with_one_table<S>() {
        assert_late_grant_harms_nothing::<S>(false, |gateway| {
            odd::pcp_answers_late(gateway, secs(3), late_lifetime::<S>());
        });
    }

    fn a_late_grant_of_a_gateway_with_one_table<S>() {
        assert_late_grant_harms_nothing::<S>(false, |gateway| {
            odd::pcp_acts_late(gateway, secs(3), late_lifetime::<S>());
        });
    }

    fn a_late_answer_of_a_gateway_with_two_tables<S>() {
        assert_late_grant_harms_nothing::<S>(true, |gateway| {
            odd::pcp_answers_late(gateway, secs(3), late_lifetime::<S>());
        });
    }

    fn a_late_grant_of_a_gateway_with_two_tables<S>() {
        assert_late_grant_harms_nothing::<S>(true, |gateway| {
            odd::pcp_acts_late(gateway, secs(3), late_lifetime::<S>());
        });
    }

    fn the_holders_entry_is_not_hit_by_another_rungs_deletion<S>() {
        // PCP made the entry and its answers were lost; UPnP has taken it over, and holds it.
        for tables_apart in [false, true] {
            for pause in [0, 1, 5, 50, 300, 1000] {
                let mut stage = S::begin(|gateway| {
                    gateway.faults.silence.natpmp = Times::Always;
                    gateway.faults.tables_apart = tables_apart;
                    odd::pcp_maps_without_a_word(gateway);
                });
                let id = stage.create(8000);
                assert_eq!(stage.expect_success(secs(1), id).0, UpnpIgd);
                assert_eq!(stage.count(Kind::PcpDelete), 0);
                stage.destroy(id);
                stage.pass(millis(pause));
                // PCP has answered a deletion: its silence is waited for.
                let id = stage.create(8000);
                stage.expect_success(millis(4500), id);
                stage.pass(secs(30));
                let (_, port) = stage.success(id).expect("it stays made");
                let entries = stage.entries();
                assert!(entries.iter().any(|entry| entry.external_port == port), "{pause} ms: {entries:?}");
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn a_holder_in_one_table_is_destroyed_with_all_that_others_made<S>() {
        for tables_apart in [false, true] {
            let mut stage = S::begin(|gateway| {
                gateway.faults.silence.natpmp = Times::Always;
                gateway.faults.tables_apart = tables_apart;
                odd::pcp_maps_without_a_word(gateway);
            });
            let ids = [8000, 8001].map(|port| stage.create(port));
            for id in ids {
                assert_eq!(stage.expect_success(secs(1), id).0, UpnpIgd);
            }
            stage.destroy_and_wait(ids[0]);
            stage.wait(secs(1), "nothing is left of it", |stage| {
                stage.entries().iter().all(|entry| entry.internal_port == 8001)
            });
            stage.assert_successes(ids[1], 1);
            stage.end();
        }
    }

    fn an_entry_that_another_protocol_has_taken_out_counts_as_removed<S>() {
        // One table: after the holder's deletion PCP has nothing to delete, and says NO_RESOURCES or NOT_AUTHORIZED.
        for code in [2, 8] {
            let mut stage = S::begin(|gateway| {
                gateway.faults.silence.natpmp = Times::Always;
                odd::pcp_maps_without_a_word(gateway);
                odd::pcp_refuses_deletions(gateway, code);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(secs(1), id).0, UpnpIgd);
            stage.destroy_and_wait(id);
            assert_eq!(stage.entries(), []);
            stage.wait(secs(1), "PCP is asked", |stage| stage.count(Kind::PcpDelete) > 0);
            stage.pass(secs(1));
            if code == 8 {
                assert!(!stage.has_logged("not confirmed"));
            }
            stage.end();
        }
    }
}
