use super::bench::*;
use super::{key, no_wish, tcp, udp, wish};
use crate::engine::driver::{Notice, Refusal};
use crate::wire::Transport;
use std::time::Duration;

const FAILED: Refusal = Refusal::Failed { retry_after: Duration::ZERO };

fn refused(of: crate::engine::driver::Key) -> Notice {
    Notice::Refused { key: of, refusal: FAILED }
}

/// Maps TCP 4000 with this wish on a WANIPConnection:1 prepared so; gives the bench back 15 s later, when
/// every attempt is over and leases are not looked at yet.
fn map_on(service_type: &'static str, wished: Option<u16>, prepare: impl FnOnce(&mut Igd)) -> Bench {
    let mut bench = Bench::with_igd(service_type);
    prepare(bench.igd());
    bench.start_up();
    bench.map(tcp(4000), wished.map_or_else(no_wish, wish));
    bench.run_until(15_000);
    bench
}

fn foreign() -> (String, u16, u32) {
    ("192.168.1.99".to_owned(), 4000, 0)
}

fn entry(port: u16) -> (String, u16) {
    ("TCP".to_owned(), port)
}

/// The external ports that AddPortMapping was called for.
fn added_ports(bench: &Bench) -> Vec<u16> {
    let words = bench.lines().into_iter().filter(|line| line.starts_with("Add"));
    words.map(|line| line.split(' ').nth(2).expect("a port").parse().expect("a port")).collect()
}

#[test]
fn asks_for_the_internal_port_without_a_look() {
    let bench = map_on(IP1, None, |_| {});
    assert_eq!(bench.lines(), ["AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"]);
    assert_eq!(bench.notices, [(211, granted(tcp(4000), 4000))]);
}

#[test]
fn looks_before_it_asks_for_another_port() {
    let bench = map_on(IP1, Some(5000), |_| {});
    assert_eq!(
        bench.lines(),
        [
            "GetSpecificPortMappingEntry tcp 5000 -> 714",
            "AddPortMapping tcp 5000 to 192.168.1.20:4000 for 7200",
        ]
    );
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)]);
}

#[test]
fn does_not_overwrite_an_entry_of_this_host_for_another_port() {
    let mut bench = map_on(IP1, Some(5000), |igd| {
        igd.table.insert(entry(5000), (LOCAL.to_owned(), 77, 0));
    });
    assert_eq!(
        bench.lines(),
        ["GetSpecificPortMappingEntry tcp 5000", "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"]
    );
    assert_eq!(bench.igd().table[&entry(5000)].1, 77);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn any_port_of_igd2_is_renewed_by_name() {
    let mut bench = map_on(IP2, Some(5000), |igd| {
        igd.table.insert(entry(5000), foreign());
    });
    assert_eq!(bench.lines(), ["AddAnyPortMapping tcp 5000 to 192.168.1.20:4000 for 7200"]);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5001)]);
    bench.requests.clear();
    bench.map(tcp(4000), wish(5001));
    bench.run_until(16_000);
    assert_eq!(bench.lines(), ["AddPortMapping tcp 5001 to 192.168.1.20:4000 for 7200"]);
    assert_eq!(bench.notices_of(tcp(4000)).len(), 2);
}

#[test]
fn igd2_without_any_port_falls_back_and_remembers() {
    for code in [401, 602, 402, 501, 899] {
        let mut bench = map_on(IP2, None, |igd| igd.always.push(("AddAnyPortMapping", code)));
        assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)], "{code}");
        bench.requests.clear();
        bench.map(tcp(4001), no_wish());
        bench.run_until(31_000);
        assert_eq!(bench.notices_of(tcp(4001)), [granted(tcp(4001), 4001)], "{code}");
        if [401, 602, 402].contains(&code) {
            assert_eq!(bench.count("AddAny"), 0, "{code}");
        }
    }
}

#[test]
fn permanent_leases_are_remembered() {
    for code in [725, 402] {
        let mut bench = map_on(IP1, None, |igd| igd.lease_error = Some(code));
        assert_eq!(
            bench.lines(),
            [
                format!("AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200 -> {code}").as_str(),
                "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 0",
            ]
        );
        assert_eq!(bench.notices_of(tcp(4000)), [granted_for_ever(tcp(4000), 4000)]);
        bench.requests.clear();
        bench.map(udp(4000), no_wish());
        bench.run_until(18_000);
        assert_eq!(bench.lines(), ["AddPortMapping udp 4000 to 192.168.1.20:4000 for 0"]);
    }
}

#[test]
fn a_failed_action_is_tried_with_lease_zero_then_on_another_port() {
    let bench = map_on(IP1, None, |igd| igd.lease_error = Some(501));
    assert_eq!(bench.notices_of(tcp(4000)), [granted_for_ever(tcp(4000), 4000)]);

    let bench = map_on(IP1, None, |igd| {
        igd.script.extend([("AddPortMapping", 501), ("AddPortMapping", 501)]);
    });
    let lines = bench.lines();
    assert_eq!(lines[0], "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200 -> 501");
    assert_eq!(lines[1], "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 0 -> 501");
    assert_eq!(lines[2], "GetSpecificPortMappingEntry tcp 4000 -> 714");
    let port = added_ports(&bench)[2];
    assert!(port >= 1024 && port != 4000);
    assert!(lines[4].ends_with("for 7200"), "the lease was not to blame: {lines:?}");
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), port)]);
}

#[test]
fn a_conflict_with_another_host_leads_to_another_port() {
    for code in [718, 729] {
        let mut bench = map_on(IP1, None, |igd| {
            igd.table.insert(entry(4000), foreign());
            igd.script.push_back(("AddPortMapping", code));
        });
        let ports = added_ports(&bench);
        assert_eq!(ports.len(), 2);
        assert!(ports[1] >= 1024 && ports[1] != 4000);
        assert_eq!(bench.lines()[1], "GetSpecificPortMappingEntry tcp 4000");
        assert_eq!(bench.igd().table[&entry(4000)], foreign(), "nobody else's entry is touched");
        assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), ports[1])]);
    }
}

#[test]
fn an_old_entry_of_ours_that_is_in_the_way_is_cleared() {
    for code in [718, 729] {
        let bench = map_on(IP1, None, |igd| {
            igd.table.insert(entry(4000), (LOCAL.to_owned(), 4000, 0));
            igd.script.push_back(("AddPortMapping", code));
        });
        assert_eq!(
            bench.lines(),
            [
                format!("AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200 -> {code}").as_str(),
                "GetSpecificPortMappingEntry tcp 4000",
                "DeletePortMapping tcp 4000",
                "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200",
            ]
        );
        assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
    }
}

#[test]
fn not_authorized_for_a_wish_leads_to_another_port() {
    let bench = map_on(IP1, Some(80), |igd| igd.script.push_back(("AddPortMapping", 606)));
    assert_eq!(added_ports(&bench), [80, 4000]);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);

    let bench = map_on(IP1, None, |igd| igd.always.push(("AddPortMapping", 606)));
    assert_eq!(added_ports(&bench), [4000]);
    assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
}

#[test]
fn a_hidden_entry_of_another_host_is_a_conflict() {
    let bench = map_on(IP1, Some(5000), |igd| {
        igd.script.push_back(("GetSpecificPortMappingEntry", 606));
    });
    assert_eq!(added_ports(&bench), [4000]);
}

#[test]
fn same_ports_are_remembered() {
    let mut bench = map_on(IP1, Some(5000), |igd| igd.different_ports_error = Some(724));
    assert_eq!(added_ports(&bench), [5000, 4000]);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
    bench.requests.clear();
    bench.map(udp(4000), wish(5000));
    bench.run_until(31_000);
    assert_eq!(added_ports(&bench), [4000]);
    // Where that one is taken, there is none.
    bench.igd().table.insert(entry(4002), foreign());
    bench.map(tcp(4002), no_wish());
    bench.run_until(32_000);
    assert_eq!(bench.notices_of(tcp(4002)), [refused(tcp(4002))]);
}

#[test]
fn wildcards_only_is_for_the_next_protocol() {
    let bench = map_on(IP1, None, |igd| igd.always.push(("AddPortMapping", 727)));
    assert!(matches!(
        bench.notices_of(tcp(4000))[..],
        [Notice::Refused { refusal: Refusal::NextProtocol { .. }, .. }]
    ));
    assert_eq!(bench.requests.len(), 1);
}

#[test]
fn other_errors_fail_the_mapping_alone() {
    for code in [600, 605, 715, 716, 728, 732, 899, 0] {
        let mut bench = map_on(IP1, None, |igd| igd.always.push(("AddPortMapping", code)));
        assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))], "{code}");
        assert_eq!(bench.requests.len(), 1, "{code}");
        bench.igd().always.clear();
        bench.map(tcp(4001), no_wish());
        bench.run_until(31_000);
        assert_eq!(bench.notices_of(tcp(4001)), [granted(tcp(4001), 4001)]);
    }
}

#[test]
fn twelve_requests_are_enough() {
    for (error, service_type) in [(718, IP1), (501, IP1), (718, IP2)] {
        let bench = map_on(service_type, Some(5000), |igd| {
            igd.always.push(("AddPortMapping", error));
            igd.always.push(("AddAnyPortMapping", error));
        });
        assert_eq!(bench.requests.len(), 12, "{error}");
        assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
        let mut ports = added_ports(&bench);
        assert!(ports.iter().all(|&port| port >= 1024));
        ports.dedup();
        let unique: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(unique.len(), ports.len(), "no port is tried twice: {ports:?}");
    }
}

#[test]
fn two_of_ours_never_take_the_same_external_port() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), wish(5000));
    bench.map(tcp(4001), wish(5000));
    bench.map(tcp(5000), no_wish());
    bench.map(udp(4000), wish(5000));
    bench.run_until(2000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)]);
    assert_eq!(bench.notices_of(tcp(4001)), [granted(tcp(4001), 4001)]);
    assert_eq!(bench.notices_of(udp(4000)), [granted(udp(4000), 5000)]);
    let [Notice::Granted { port, .. }] = bench.notices_of(tcp(5000))[..] else { panic!() };
    assert!(port != 5000 && port != 4001 && port >= 1024);
    assert_eq!(bench.igd().table.len(), 4);
}

#[test]
fn a_second_call_while_one_is_open_asks_nothing_more() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.map(tcp(4000), wish(5000));
    bench.run_until(65);
    bench.map(tcp(4000), wish(6000));
    bench.run_until(1000);
    assert_eq!(added_ports(&bench), [5000]);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)]);
}

#[test]
fn many_mappings_share_four_exchanges_in_their_order() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    let keys: Vec<_> = (0..100).map(|at| key(Transport::Udp, 20_000 - at)).collect();
    for &key in &keys {
        bench.map(key, no_wish());
    }
    bench.run_until(10_000);
    assert_eq!(bench.max_open, 4);
    let granted: Vec<_> = keys.iter().map(|&key| granted(key, key.internal_port.get())).collect();
    let noticed: Vec<_> = bench.notices.iter().map(|&(_, notice)| notice).collect();
    assert_eq!(noticed, granted);
    // 25 turns of 11 ms.
    assert_eq!(bench.notices.last().map(|&(at, _)| at), Some(200 + 25 * 11));
    assert_eq!(bench.igd().table.len(), 100);
}

#[test]
fn an_attempt_that_is_under_way_goes_before_new_ones() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    for port in 4000..4020 {
        bench.map(tcp(port), wish(port + 1000));
    }
    bench.run_until(200 + 22);
    assert_eq!(bench.notices.len(), 4, "four of them are ready after two turns");
}

#[test]
fn grants_wait_for_the_external_address_only() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    bench.run_until(60);
    bench.map(tcp(4000), no_wish());
    bench.igd().external = "100.64.1.1".to_owned();
    bench.run_until(1000);
    let [Notice::Granted { address, .. }] = bench.notices_of(tcp(4000))[..] else { panic!() };
    assert_eq!(address, ip("100.64.1.1"));
}

#[test]
fn a_gateway_without_external_address_grants_none() {
    for external in ["", "0.0.0.0", "garbage", "fault"] {
        let mut bench = Bench::with_igd(IP1);
        bench.igd().external = external.to_owned();
        if external == "fault" {
            bench.igd().always.push(("GetExternalIPAddress", 501));
        }
        bench.start_up();
        bench.map(tcp(4000), no_wish());
        bench.run_until(1000);
        let [Notice::Granted { address, .. }] = bench.notices_of(tcp(4000))[..] else { panic!("{external}") };
        assert_eq!(address, ip("0.0.0.0"));
        // It is asked for again with the next attempt.
        bench.igd().external = EXTERNAL.to_owned();
        bench.igd().always.clear();
        bench.map(tcp(4000), no_wish());
        bench.run_until(2000);
        assert_eq!(bench.notices_of(tcp(4000)).last(), Some(&granted(tcp(4000), 4000)));
    }
}

#[test]
fn a_gateway_that_takes_its_own_hidden_entry_for_a_conflict_keeps_the_port() {
    let mut bench = map_on(IP1, None, |igd| igd.always.push(("GetSpecificPortMappingEntry", 714)));
    bench.requests.clear();
    bench.igd().script.push_back(("AddPortMapping", 718));
    bench.map(tcp(4000), wish(4000));
    bench.run_until(18_000);
    assert_eq!(
        bench.lines(),
        [
            "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200 -> 718",
            "GetSpecificPortMappingEntry tcp 4000 -> 714",
            "DeletePortMapping tcp 4000",
            "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200",
        ]
    );
    assert_eq!(bench.notices_of(tcp(4000)).last(), Some(&granted(tcp(4000), 4000)));
    assert_eq!(bench.igd().table.len(), 1);
}

#[test]
fn success_may_have_no_body() {
    let bench = map_on(IP1, None, |igd| igd.terse = true);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn any_port_that_is_not_told_is_asked_for_by_name() {
    let mut bench = map_on(IP2, None, |igd| igd.terse = true);
    assert_eq!(
        bench.lines(),
        [
            "AddAnyPortMapping tcp 4000 to 192.168.1.20:4000 for 7200",
            "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200",
        ]
    );
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
    // And remembered.
    bench.requests.clear();
    bench.map(tcp(4001), no_wish());
    bench.run_until(31_000);
    assert_eq!(bench.lines()[0], "AddPortMapping tcp 4001 to 192.168.1.20:4001 for 7200");
    assert_eq!(bench.count("AddAnyPortMapping"), 0);
}

#[test]
fn a_conflict_with_an_entry_of_nobody_knows_whom_leads_to_another_port() {
    for hide in [
        |igd: &mut Igd| igd.vague = true,
        |igd: &mut Igd| {
            igd.always.push(("GetSpecificPortMappingEntry", 606));
        },
    ] {
        let bench = map_on(IP1, None, |igd| {
            igd.table.insert(entry(4000), foreign());
            hide(igd);
        });
        assert_eq!(added_ports(&bench)[0], 4000);
        assert_eq!(bench.count("Delete"), 0, "{:?}", bench.lines());
    }
}
