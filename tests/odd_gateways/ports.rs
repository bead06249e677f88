//! Gateways that do not give every external port.

use crate::stage::rows;
use crate::{millis, secs};
use plum_gateway::core::Igd;
use plum_gateway::odd;
use plum_wire::Transport::{Tcp, Udp};
use std::ops::RangeInclusive;

/// What refuses a port: not for us, or taken by what nobody can look at.
const REFUSALS: [i32; 2] = [606, 718];

/// Which protocols the gateway has.
const GATEWAYS: [odd::Named; 4] = [
    ("PCP", |_| {}),
    ("NAT-PMP", |gateway| gateway.faults.closed.pcp = true),
    ("WANIPConnection:1", odd::closes_pcp_port),
    ("WANIPConnection:2", |gateway| {
        odd::closes_pcp_port(gateway);
        gateway.set_igd(Some(Igd::v2()));
    }),
];

rows! {
    fn a_well_known_port_that_is_refused_gives_way_to_another<S>() {
        for code in REFUSALS {
            // The internal port comes after the wish, the upper ports after both.
            let cases: [(u16, u16, RangeInclusive<u16>); 3] =
                [(80, 0, 49_152..=65_535), (8000, 443, 8000..=8000), (80, 443, 49_152..=65_535)];
            for (internal, wish, expected) in cases {
                let mut stage = S::begin(|gateway| {
                    odd::closes_pcp_port(gateway);
                    odd::ports_are_refused(gateway, 1..=1023, code);
                });
                let id = stage.create_wishing(Tcp, internal, wish);
                let (_, port) = stage.expect_success(secs(1), id);
                assert!(expected.contains(&port), "{internal} wishing {wish}, {code}: {port}");
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn a_range_of_ports_is_found<S>() {
        let ranges = [40_000..=49_999, 20_000..=29_999];
        for code in REFUSALS {
            for range in &ranges {
                for (internal, wish) in [(8000, 0), (8000, 9000)] {
                    let mut stage = S::begin(|gateway| {
                        odd::closes_pcp_port(gateway);
                        odd::only_ports_of(gateway, range.clone(), code);
                    });
                    let id = stage.create_wishing(Tcp, internal, wish);
                    let (_, port) = stage.expect_success(secs(1), id);
                    assert!(range.contains(&port), "{code}: {port}");
                    // The next mapping need not begin anew.
                    let id = stage.create(8001);
                    assert!(range.contains(&stage.expect_success(secs(1), id).1));
                    stage.end();
                }
            }
        }
    }

    fn two_mappings_that_wish_for_one_port_get_two<S>() {
        for (name, has) in GATEWAYS {
            let mut stage = S::begin(has);
            let ids = [stage.create_wishing(Tcp, 8000, 9000), stage.create_wishing(Tcp, 8001, 9000)];
            let mut ports = ids.map(|id| stage.expect_success(secs(2), id).1);
            ports.sort_unstable();
            assert!(ports.contains(&9000), "{name}: {ports:?}");
            assert_ne!(ports[0], ports[1], "{name}");
            stage.pass(secs(8000));
            let mut internal: Vec<u16> =
                stage.entries().iter().map(|entry| entry.internal_port).collect();
            internal.sort_unstable();
            assert_eq!(internal, [8000, 8001], "{name}");
            for id in ids {
                stage.assert_successes(id, 1);
            }
            stage.end();
        }
    }

    fn an_internal_port_that_is_anothers_external_one_overwrites_nothing<S>() {
        for (name, has) in GATEWAYS {
            for (first, second) in [((8000, 8001), (8001, 0)), ((8001, 0), (8000, 8001))] {
                let mut stage = S::begin(has);
                let ids = [first, second].map(|(internal, wish)| stage.create_wishing(Udp, internal, wish));
                let ports = ids.map(|id| stage.expect_success(secs(2), id).1);
                assert_ne!(ports[0], ports[1], "{name}");
                let entries = stage.entries();
                for ((internal, _), port) in [first, second].into_iter().zip(ports) {
                    let is_its = |entry: &crate::stage::Entry| {
                        entry.internal_port == internal && entry.external_port == port
                    };
                    assert!(entries.iter().any(is_its), "{name}: {entries:?}");
                }
                stage.pass(secs(8000));
                for id in ids {
                    stage.assert_successes(id, 1);
                }
                stage.end();
            }
        }
    }

    fn ports_of_other_hosts_are_left_alone<S>() {
        for (name, has) in GATEWAYS {
            let mut stage = S::begin(|gateway| {
                has(gateway);
                let other = "192.168.1.7:80".parse().expect("an address");
                gateway.occupy(plum_gateway::core::Transport::Tcp, 8000, other);
                gateway.occupy(plum_gateway::core::Transport::Tcp, 9000, other);
            });
            let ids = [stage.create(8000), stage.create_wishing(Tcp, 8001, 9000)];
            for id in ids {
                let (_, port) = stage.expect_success(millis(500), id);
                assert!(![8000, 9000].contains(&port), "{name}: {port}");
            }
            stage.cleanup();
            assert_eq!(stage.entries(), []);
            assert_eq!(stage.gateway(|gateway| gateway.table().len()), 2, "{name}");
        }
    }
}
