//! Gateways whose replies to AddPortMapping and AddAnyPortMapping are odd.

use crate::stage::rows;
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Action, Gateway, Igd};
use plum_gateway::odd;

/// WANIPConnection:1 and :2.
const VERSIONS: [fn() -> Igd; 2] = [Igd::default, Igd::v2];

rows! {
    fn what_is_answered_with_200_is_made<S>() {
        let replies: [fn(&mut Gateway); 5] = [
            |gateway| odd::addition_says(gateway, odd::HTML),
            |gateway| odd::addition_says(gateway, ""),
            |gateway| odd::addition_says(gateway, odd::HALF_ENVELOPE),
            |gateway| odd::addition_says(gateway, odd::OTHER_ELEMENT),
            odd::addition_is_cut_off,
        ];
        for igd in VERSIONS {
            for (n, reply) in replies.into_iter().enumerate() {
                let mut stage = S::begin(|gateway| {
                    odd::closes_pcp_port(gateway);
                    gateway.set_igd(Some(igd()));
                    reply(gateway);
                });
                let id = stage.create(8000);
                assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000), "reply {n}");
                stage.pass(secs(8000));
                stage.assert_successes(id, 1);
                assert_eq!(stage.entries().len(), 1, "reply {n}");
                stage.end();
            }
        }
    }

    fn what_is_not_answered_is_deleted_at_the_end<S>() {
        for igd in VERSIONS {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                gateway.set_igd(Some(igd()));
                odd::addition_is_not_answered(gateway);
            });
            let id = stage.create(8000);
            stage.wait(secs(11), "something is told", |stage| !stage.told(id).is_empty());
            assert!(!stage.entries().is_empty());
            stage.end();
        }
    }

    fn add_any_that_hangs_gives_way_after_2_s<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::add_any_hangs(gateway);
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(2300), id), (UpnpIgd, 8000));
        assert_eq!(stage.count_of(Action::AddAnyPortMapping), 1);
        // The next mapping does not wait for it.
        let id = stage.create(8001);
        assert_eq!(stage.expect_success(millis(300), id), (UpnpIgd, 8001));
        stage.end();
    }

    fn what_add_any_makes_late_is_kept_or_deleted<S>() {
        for delay in [1000, 2500] {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::add_any_is_late(gateway, millis(delay));
                gateway.faults.assigned_port = plum_gateway::core::AssignedPort::Offset(1000);
            });
            let id = stage.create(8000);
            let port = if delay < 2000 { 9000 } else { 8000 };
            assert_eq!(stage.expect_success(millis(2600), id), (UpnpIgd, port));
            stage.wait(secs(2), "there is one entry", |stage| stage.entries().len() == 1);
            assert_eq!(stage.entries()[0].external_port, port);
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn what_add_any_makes_without_a_word_is_found_at_the_end<S>() {
        // The reply never comes: the entry's external port is not known.
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::add_any_makes_and_hangs(gateway);
            gateway.faults.assigned_port = plum_gateway::core::AssignedPort::Offset(1000);
        });
        let ids = [8000, 8001].map(|port| stage.create(port));
        assert_eq!(stage.expect_success(millis(2300), ids[0]), (UpnpIgd, 8000));
        assert_eq!(stage.expect_success(millis(300), ids[1]), (UpnpIgd, 8001));
        assert_eq!(stage.entries().len(), 3);
        // The search does not take the other mapping's entry for it.
        stage.destroy_and_wait(ids[0]);
        assert_eq!(stage.entries().iter().map(|entry| entry.external_port).collect::<Vec<_>>(), [8001]);
        stage.end();
    }
}
