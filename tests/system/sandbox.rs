//! Sandboxes that keep netlink or randomness from a program: systemd's RestrictAddressFamilies, filters of system calls.

use crate::filter::{Refused, refuse, refuse_to_all};
use crate::harness::{Program, Router, gateway, settings};
use plum_engine::io::Protocol;
use plum_runtime::client::{Settings, local_address};
use plum_runtime::log::Level;
use plum_runtime::net::Uplink;
use plum_testkit::namespace::{add_cable, index, ip, is_inside};

/// What sandboxes refuse a socket with.
const ERRORS: [i32; 6] =
    [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT];

/// In milliseconds; many times what a look at the gateway takes.
const RECHECK: i32 = 500;

/// Does something in a sandbox of its own.
fn in_sandbox<T: Send + 'static>(
    refused: &'static [Refused],
    errno: i32,
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        refuse(refused, errno);
        act()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A router on the way to the internet.
fn router() -> Router {
    let router = Router::start(1);
    ip("route add default via 10.1.0.1");
    router
}

/// The best protocol of the router is this one.
fn offer(router: &Router, best: Protocol) {
    router.with_gateway(|core| {
        core.faults.closed.pcp = best > Protocol::Pcp;
        core.faults.closed.natpmp = best > Protocol::NatPmp;
    });
}

/// A mapping is made by this protocol, and removed.
fn expect_mapped(settings: Settings, protocol: Protocol) {
    assert_eq!(local_address(), Some([10, 1, 0, 2].into()));
    let program = Program::start(settings);
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, protocol);
    program.cleanup();
}

#[test]
fn without_netlink_the_next_hop_is_that_of_the_main_table() {
    if !is_inside("sandbox::without_netlink_the_next_hop_is_that_of_the_main_table") {
        return;
    }
    let router = router();
    for protocol in Protocol::ASKING {
        offer(&router, protocol);
        for errno in ERRORS {
            in_sandbox(&[Refused::Netlink], errno, move || expect_mapped(settings(), protocol));
            assert_eq!(router.with_gateway(|core| core.table().len()), 0, "{protocol}, error {errno}");
        }
    }
}

#[test]
fn without_netlink_and_the_main_table_upnp_or_a_named_gateway_maps() {
    if !is_inside("sandbox::without_netlink_and_the_main_table_upnp_or_a_named_gateway_maps") {
        return;
    }
    let router = router();
    for errno in ERRORS {
        in_sandbox(&[Refused::Netlink, Refused::Files], errno, || {
            expect_mapped(settings(), Protocol::UpnpIgd);
        });
        for protocol in Protocol::ASKING {
            offer(&router, protocol);
            let named = Settings { gateway: Some((gateway(1), None)), ..settings() };
            in_sandbox(&[Refused::Netlink, Refused::Files], errno, move || expect_mapped(named, protocol));
        }
        offer(&router, Protocol::Pcp);
        assert_eq!(router.with_gateway(|core| core.table().len()), 0, "error {errno}");
    }
}

#[test]
fn without_netlink_a_rule_leads_past_the_main_table() {
    if !is_inside("sandbox::without_netlink_a_rule_leads_past_the_main_table") {
        return;
    }
    let first = router();
    let _second = Router::start(2);
    // As VPNs do it: of the main table all counts but its default route.
    ip("route add default via 10.2.0.1 table 100");
    ip("rule add table main suppress_prefixlength 0 priority 100");
    ip("rule add table 100 priority 101");
    in_sandbox(&[Refused::Netlink], libc::EPERM, || {
        assert_eq!(local_address(), Some([10, 2, 0, 2].into()));
        let program = Program::start(settings());
        let id = program.create(4000);
        assert_eq!(program.expect_success(id, 2).protocol, Protocol::UpnpIgd);
        program.cleanup();
    });
    assert_eq!(first.with_gateway(|core| core.counts.total()), 0, "nobody asks the wrong gateway");
}

#[test]
fn without_netlink_an_interface_that_is_named_has_its_route() {
    if !is_inside("sandbox::without_netlink_an_interface_that_is_named_has_its_route") {
        return;
    }
    ip("link set lo up");
    for (number, metric) in [(1, 100), (2, 200)] {
        add_cable(&format!("lan{number}"), &format!("10.{number}.0.2/24"));
        ip(&format!("route add default via 10.{number}.0.1 metric {metric}"));
    }
    let find = |refused, name: &'static str| {
        in_sandbox(refused, libc::EPERM, move || {
            let route = Uplink::named(name).expect("a name").find_route(None).expect("some way is left")?;
            Some((route.gateway, route.local.to_string(), route.interface))
        })
    };
    let address = "10.2.0.2".to_owned();
    let gateway = Some([10, 2, 0, 1].into());
    let by_table = Some((gateway, address.clone(), index("lan2")));
    assert_eq!(find(&[Refused::Netlink], "lan2"), by_table);
    assert_eq!(find(&[Refused::Netlink, Refused::Files], "lan2"), Some((None, address, index("lan2"))));
    assert_eq!(find(&[Refused::Netlink], "lan3"), None);
}

#[test]
fn without_netlink_a_change_is_seen_at_the_next_recheck() {
    if !is_inside("sandbox::without_netlink_a_change_is_seen_at_the_next_recheck") {
        return;
    }
    let _first = router();
    let _second = Router::start(2);
    // The change is made outside.
    let (changed, expect_change) = std::sync::mpsc::channel();
    let (mapped, expect_mapped) = std::sync::mpsc::channel();
    let sandbox = std::thread::spawn(move || {
        in_sandbox(&[Refused::Netlink], libc::EAFNOSUPPORT, move || {
            let program = Program::start(Settings { recheck_interval_millis: RECHECK, ..settings() });
            let id = program.create(4000);
            program.expect_success(id, 1);
            mapped.send(()).expect("the test waits");
            expect_change.recv().expect("a change");
            program.expect_success(id, 2);
            // One that finds the same changes nothing, and is not worth a word.
            program.expect_log(Level::Debug, &["route by 10.2.0.1"]);
            program.expect_log(Level::Debug, &["route by 10.2.0.1"]);
            program.expect_nothing_told();
            program.cleanup();
        });
    });
    expect_mapped.recv().expect("a mapping");
    ip("route replace default via 10.2.0.1");
    changed.send(()).expect("the sandbox waits");
    sandbox.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn that_changes_are_not_told_is_said_once() {
    if !is_inside("sandbox::that_changes_are_not_told_is_said_once") {
        return;
    }
    let _router = router();
    in_sandbox(&[Refused::Netlink], libc::EAFNOSUPPORT, || {
        let program = Program::start(Settings { recheck_interval_millis: RECHECK, ..settings() });
        let id = program.create(4000);
        program
            .expect_log(Level::Warn, &["cannot watch for changes", "not supported", "at the next recheck"]);
        program.expect_success(id, 1);
        for _ in 0..3 {
            program.expect_log(Level::Debug, &["route by 10.1.0.1"]);
        }
        let second = program.create(4001);
        program.expect_success(second, 1);
        assert_eq!(program.count_warnings(""), 0, "nothing else is amiss");
        program.cleanup();
    });
}

#[test]
fn a_sandbox_that_is_entered_later_costs_no_mapping() {
    if !is_inside("sandbox::a_sandbox_that_is_entered_later_costs_no_mapping") {
        return;
    }
    let router = router();
    let program = Program::start(Settings { recheck_interval_millis: RECHECK, ..settings() });
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::Pcp);
    refuse_to_all(&[Refused::Netlink, Refused::Files], libc::EPERM);
    let announces = |core: &plum_gateway::core::Gateway| core.counts.pcp_announce;
    let seen = router.with_gateway(|core| announces(core));
    router.wait_until("it rechecks three times", |core| announces(core) >= seen + 3);
    // Else it would have been made anew.
    program.expect_nothing_told();
    let second = program.create(4001);
    assert_eq!(program.expect_success(second, 1).protocol, Protocol::Pcp);
    program.cleanup();
    assert_eq!(router.with_gateway(|core| core.table().len()), 0);
}

#[test]
fn without_randomness_pcp_makes_nothing_new_and_the_next_protocol_does() {
    if !is_inside("sandbox::without_randomness_pcp_makes_nothing_new_and_the_next_protocol_does") {
        return;
    }
    let router = router();
    // Mappings are renewed within the test.
    router.with_gateway(|core| core.faults.max_lifetime = Some(4));
    let program = Program::start(settings());
    let old = program.create(4000);
    assert_eq!(program.expect_success(old, 1).protocol, Protocol::Pcp);
    refuse_to_all(&[Refused::Randomness], libc::EPERM);
    let new = program.create(4001);
    program.expect_log(Level::Warn, &["gives no random numbers", "not permitted"]);
    program.expect_log(Level::Info, &["PCP fails", "no random numbers"]);
    assert_eq!(program.expect_success(new, 1).protocol, Protocol::NatPmp);
    let requests = |core: &plum_gateway::core::Gateway| core.counts.pcp_map;
    let seen = router.with_gateway(|core| requests(core));
    router.wait_until("the old one is renewed", |core| requests(core) >= seen + 2);
    assert_eq!(program.count_warnings("random"), 0, "it was said once");
    program.expect_nothing_told();
    program.cleanup();
    assert_eq!(router.with_gateway(|core| core.table().len()), 0);
}
