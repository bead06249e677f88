//! PCP servers that are odd.

use crate::stage::rows;
use crate::{millis, secs};
use plum_engine::io::Protocol::{NatPmp, Pcp, UpnpIgd};
use plum_gateway::core::{Gateway, Kind, Spoken, Times};
use plum_gateway::odd;

/// NAT-PMP is denied by PCP's version, is silent, or answers nothing of use: what a router without it does.
const WITHOUT_NATPMP: [fn(&mut Gateway); 3] = [
    |gateway| gateway.faults.natpmp = Spoken::UnsuppVersion(2),
    |gateway| gateway.faults.silence.natpmp = Times::Always,
    |gateway| odd::natpmp_refuses(gateway, 3),
];

rows! {
    fn map_is_refused_and_upnp_works<S>() {
        for without_natpmp in WITHOUT_NATPMP {
            for code in [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255] {
                let mut stage = S::begin(|gateway| {
                    without_natpmp(gateway);
                    odd::pcp_refuses(gateway, code);
                });
                let id = stage.create(8000);
                assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000), "result {code}");
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn map_is_refused_and_natpmp_works<S>() {
        for code in [2, 3, 7, 8, 10, 11, 13] {
            let mut stage = S::begin(|gateway| odd::pcp_refuses(gateway, code));
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(100), id), (NatPmp, 8000), "result {code}");
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn map_is_refused_in_the_header_alone_and_natpmp_works<S>() {
        for code in [2, 3, 7, 8, 10, 11, 13] {
            let mut stage = S::begin(|gateway| odd::pcp_refuses_in_the_header_alone(gateway, code));
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(1000), id), (NatPmp, 8000), "result {code}");
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn map_grants_nothing_and_upnp_works<S>() {
        let grants: [fn(&mut Gateway); 7] = [
            odd::pcp_grants_no_lifetime,
            odd::pcp_grants_no_port,
            odd::pcp_grants_ipv6_address,
            |gateway| odd::pcp_grants_address(gateway, [0, 0, 0, 0]),
            |gateway| odd::pcp_grants_address(gateway, [127, 0, 0, 1]),
            |gateway| odd::pcp_grants_address(gateway, [224, 0, 0, 5]),
            |gateway| odd::pcp_grants_address(gateway, [255, 255, 255, 255]),
        ];
        for without_natpmp in &WITHOUT_NATPMP[..2] {
            for (n, grants) in grants.into_iter().enumerate() {
                let mut stage = S::begin(|gateway| {
                    without_natpmp(gateway);
                    grants(gateway);
                });
                let id = stage.create(8000);
                let (protocol, _) = stage.expect_success(millis(500), id);
                assert_eq!(protocol, UpnpIgd, "grant {n}");
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn what_pcp_made_at_no_address_is_deleted_and_natpmp_keeps_its_own<S>() {
        let mut stage = S::begin(|gateway| odd::pcp_grants_address(gateway, [127, 0, 0, 1]));
        // NAT-PMP is known when the second is asked for.
        for port in [8000, 8001] {
            let id = stage.create(port);
            assert_eq!(stage.expect_success(millis(500), id).0, NatPmp);
        }
        stage.wait(secs(2), "what PCP made is deleted, and both have an entry", |stage| {
            stage.count(Kind::PcpDelete) == 2 && stage.entries().len() == 2
        });
        stage.end();
    }

    fn a_server_that_denies_itself_speaks_natpmp<S>() {
        for version in [0, 1, 2, 3] {
            for octets in [4, 8, 12, 24, 60] {
                let mut stage = S::begin(|gateway| odd::pcp_denies_itself(gateway, version, octets));
                let id = stage.create(8000);
                let what = format!("version {version}, {octets} octets");
                assert_eq!(stage.expect_success(millis(100), id), (NatPmp, 8000), "{what}");
                stage.pass(secs(8000));
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn a_busy_port_outlives_its_deletion_and_is_no_failure<S>() {
        for closed in [false, true] {
            let mut stage = S::begin(|gateway| {
                gateway.faults.closed.pcp = closed;
                odd::keeps_busy_ports(gateway, 2);
            });
            let id = stage.create(8000);
            let protocol = if closed { NatPmp } else { Pcp };
            assert_eq!(stage.expect_success(millis(500), id).0, protocol);
            stage.destroy_and_wait(id);
            assert_eq!(stage.entries().len(), 1);
            let kind = if closed { Kind::NatPmpDelete } else { Kind::PcpDelete };
            stage.wait(secs(3), "the gateway lets the port go", |stage| stage.entries().is_empty());
            assert_eq!(stage.count(kind), 1);
            assert!(!stage.has_logged("not confirmed"));
            stage.end();
        }
    }

    fn a_deletion_refused_for_good_is_not_called_removed<S>() {
        // NOT_AUTHORIZED, NO_RESOURCES: nothing else was deleted here that would explain them.
        for code in [2, 8] {
            let mut stage = S::begin(|gateway| odd::pcp_refuses_deletions(gateway, code));
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(100), id), (Pcp, 8000));
            stage.destroy_and_wait(id);
            assert_eq!(stage.entries().len(), 1);
            assert!(stage.has_logged("not confirmed"), "result {code}");
            assert!(!stage.has_logged("has deleted"), "result {code}");
            // Once it may, it does.
            stage.gateway(Gateway::clear_scripts);
            stage.end();
        }
    }
}
