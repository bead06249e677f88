//! Gateways whose leases are odd.

use crate::stage::{Stage, VirtualClock, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Gateway, Igd, Reply};
use plum_gateway::odd;

fn assert_lease_0<S: Stage>(refusal: &str, odd: impl FnOnce(&mut Gateway)) {
    let mut stage = S::begin(|gateway| {
        odd::closes_pcp_port(gateway);
        odd(gateway);
    });
    let ids = [8000, 8001].map(|port| stage.create(port));
    for (id, port) in ids.into_iter().zip([8000, 8001]) {
        assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, port), "{refusal}");
    }
    assert!(stage.entries().iter().all(|entry| entry.is_permanent), "{refusal}");
    stage.pass(secs(8000));
    for id in ids {
        stage.assert_successes(id, 1);
    }
    // The next mapping is made likewise.
    let id = stage.create(8002);
    assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8002), "{refusal}");
    stage.end();
}

rows! {
    fn a_lease_refused_with_an_error_is_made_permanent<S>() {
        for code in odd::LEASE_REFUSALS {
            assert_lease_0::<S>(&format!("error {code}"), |gateway| odd::leases_get_code(gateway, code));
        }
    }

    fn a_lease_refused_otherwise_is_made_permanent<S>() {
        let refusals: [(&str, odd::Replies); 6] = [
            ("HTTP 400", || Reply::http(400, "")),
            ("HTTP 500", || Reply::http(500, "")),
            ("HTTP 500 with HTML", || Reply::http(500, odd::HTML)),
            ("HTTP 501", || Reply::http(501, "")),
            ("closed", Reply::close),
            ("reset", Reply::reset),
        ];
        for (refusal, reply) in refusals {
            assert_lease_0::<S>(refusal, |gateway| odd::leases_are_refused(gateway, reply));
        }
    }

    fn a_lease_refused_by_wanipconnection_2_is_made_permanent<S>() {
        for code in [402, 501, 725] {
            assert_lease_0::<S>(&format!("error {code}"), |gateway| {
                gateway.set_igd(Some(Igd::v2()));
                odd::leases_get_code(gateway, code);
            });
        }
    }

    fn leases_of_an_hour_are_found<S>() {
        for code in [402, 501, 600, 725] {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::leases_up_to_an_hour(gateway, code);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000), "error {code}");
            assert!(!stage.entries()[0].is_permanent);
            stage.pass(secs(40_000));
            stage.assert_successes(id, 1);
            assert_eq!(stage.entries().len(), 1);
            stage.end();
        }
    }

    fn a_lease_that_vanishes_is_made_permanent<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::leases_vanish(gateway);
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000));
        stage.wait(secs(15), "the entry is permanent", |stage| {
            stage.entries().iter().any(|entry| entry.is_permanent)
        });
        stage.pass(secs(8000));
        stage.assert_successes(id, 1);
        assert_eq!(stage.entries().len(), 1);
        stage.end();
    }

    fn a_lease_that_is_not_made_is_made_permanent<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::leases_are_not_made(gateway);
        });
        let id = stage.create(8000);
        stage.wait(millis(500), "the mapping is made", |stage| stage.success(id).is_some());
        stage.wait(secs(15), "the entry is permanent", |stage| {
            stage.entries().iter().any(|entry| entry.is_permanent)
        });
        stage.pass(secs(8000));
        stage.assert_successes(id, 1);
        stage.end();
    }

    fn a_short_lease_that_is_not_extended_has_a_gap_of_2_s_at_each_end<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::leases_are_not_extended(gateway);
            gateway.faults.lifetime = Some(12);
        });
        let id = stage.create(8000);
        stage.expect_success(millis(500), id);
        let gaps = if S::HAS_EXACT_TIMES { 20 } else { 1 };
        for _ in 0..gaps {
            stage.wait(secs(13), "the lease ends", |stage| stage.entries().is_empty());
            stage.wait(secs(2), "it is made anew", |stage| !stage.entries().is_empty());
        }
        stage.wait(secs(1), "it is told", |stage| stage.success(id).is_some());
        // Each loss is told, and once.
        assert!(stage.told(id).len() <= 1 + gaps, "{:?}", stage.told(id));
        stage.end();
    }
}

/// Virtual only: leases of two hours.
#[test]
fn a_lease_that_is_not_extended_has_a_gap_of_2_s_at_each_end() {
    let mut stage = VirtualClock::begin(|gateway| {
        odd::closes_pcp_port(gateway);
        odd::leases_are_not_extended(gateway);
    });
    let id = stage.create(8000);
    stage.expect_success(millis(500), id);
    let (mut gap, mut gaps) = (millis(0), 0);
    for _ in 0..400_000 {
        stage.pass(millis(100));
        if stage.entries().is_empty() {
            gaps += usize::from(gap.is_zero());
            gap += millis(100);
            assert!(gap <= secs(2), "the port is closed for {gap:?}");
        } else {
            gap = millis(0);
        }
    }
    assert!((1..=6).contains(&gaps), "{gaps} gaps in 40,000 s");
    // Each loss is told, and once.
    assert!(stage.told(id).len() <= 1 + gaps, "{:?}", stage.told(id));
    stage.end();
}
