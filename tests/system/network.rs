//! Interfaces, addresses and routes that come and go. The kernel tells of all of them: everything here is seen at once.

use crate::harness::{Program, Router, gateway, pcp_only, settings};
use plum_runtime::client::Settings;
use plum_runtime::log::Level;
use plum_testkit::namespace::{ip, is_inside};
use std::time::Duration;

/// The contract's promise for a changed network, with room for a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// A change costs some lookups, requests and notices.
const WAKE_UPS: u64 = 60;

/// A mapping that router 1 has made by PCP.
fn mapped() -> (Router, Program, i32) {
    let router = Router::start(1);
    ip("route add default via 10.1.0.1");
    let program = Program::start(settings());
    let id = program.create(4000);
    program.expect_success(id, 1);
    (router, program, id)
}

#[test]
fn an_interface_that_goes_down_is_failure_and_up_again_success() {
    if !is_inside("network::an_interface_that_goes_down_is_failure_and_up_again_success") {
        return;
    }
    let (_router, program, id) = mapped();
    for _ in 0..3 {
        let before = program.work();
        ip("link set lan1 down");
        assert!(program.expect_failure(id) < SOON);
        program.expect_log(Level::Warn, &["no IPv4 route to the internet"]);
        ip("link set lan1 up");
        ip("route add default via 10.1.0.1");
        program.expect_success(id, 1);
        program.work().assert_little_since(before, WAKE_UPS);
    }
    program.cleanup();
}

#[test]
fn a_cable_that_is_cut_costs_no_mapping_and_is_mended_at_once() {
    if !is_inside("network::a_cable_that_is_cut_costs_no_mapping_and_is_mended_at_once") {
        return;
    }
    let router = Router::start(1);
    ip("route add default via 10.1.0.1");
    let program = Program::start(Settings { mapping_timeout_millis: 1000, ..pcp_only() });
    let old = program.create(4000);
    program.expect_success(old, 1);
    let before = program.work();
    // The far end: this side only loses its carrier, and keeps its routes.
    router.ip("link set wan down");
    let new = program.create(4001);
    program.expect_failure(new);
    program.expect_log(Level::Warn, &["PCP: no answer"]);
    router.ip("link set wan up");
    program.expect_success(new, 1);
    // The new one may hear of a second protocol, which grants the same.
    program.expect_nothing_told_of(old);
    program.work().assert_little_since(before, 2 * WAKE_UPS);
    program.cleanup();
}

#[test]
fn an_address_that_is_taken_away_is_failure_and_another_one_success() {
    if !is_inside("network::an_address_that_is_taken_away_is_failure_and_another_one_success") {
        return;
    }
    let (router, program, id) = mapped();
    let before = program.work();
    ip("addr del 10.1.0.2/24 dev lan1");
    assert!(program.expect_failure(id) < SOON);
    ip("addr add 10.1.0.77/24 dev lan1");
    ip("route add default via 10.1.0.1");
    program.expect_success(id, 1);
    router.with_gateway(|core| {
        let clients: Vec<_> = core.table().iter().map(|mapping| mapping.internal.ip().to_string()).collect();
        assert!(clients.contains(&"10.1.0.77".to_owned()), "{clients:?}");
    });
    program.work().assert_little_since(before, WAKE_UPS);
    program.cleanup();
}

#[test]
fn routes_that_lead_nowhere_are_failure() {
    if !is_inside("network::routes_that_lead_nowhere_are_failure") {
        return;
    }
    let (_router, program, id) = mapped();
    for kind in ["blackhole", "unreachable", "prohibit"] {
        let before = program.work();
        ip("route del default");
        ip(&format!("route add {kind} default"));
        assert!(program.expect_failure(id) < SOON, "{kind}");
        program.expect_log(Level::Warn, &["no IPv4 route to the internet"]);
        ip(&format!("route del {kind} default"));
        ip("route add default via 10.1.0.1");
        program.expect_success(id, 1);
        program.work().assert_little_since(before, WAKE_UPS);
    }
    program.cleanup();
}

#[test]
fn mappings_follow_the_default_route() {
    if !is_inside("network::mappings_follow_the_default_route") {
        return;
    }
    let (_first, program, id) = mapped();
    let _second = Router::start(2);
    let before = program.work();
    ip("route replace default via 10.2.0.1");
    program.expect_success(id, 2);
    program.expect_log(Level::Info, &["gateway", &gateway(2).to_string()]);
    ip("route replace default via 10.1.0.1");
    program.expect_success(id, 1);
    program.work().assert_little_since(before, 2 * WAKE_UPS);
    program.cleanup();
}

#[test]
fn of_two_default_routes_the_one_with_the_lower_metric_counts() {
    if !is_inside("network::of_two_default_routes_the_one_with_the_lower_metric_counts") {
        return;
    }
    let _first = Router::start(1);
    let _second = Router::start(2);
    ip("route add default via 10.1.0.1 metric 100");
    ip("route add default via 10.2.0.1 metric 600");
    let program = Program::start(settings());
    let id = program.create(4000);
    program.expect_success(id, 1);
    let before = program.work();
    ip("route del default via 10.1.0.1 metric 100");
    program.expect_success(id, 2);
    ip("route add default via 10.1.0.1 metric 100");
    program.expect_success(id, 1);
    // The other one's coming and going changes nothing.
    ip("route del default via 10.2.0.1 metric 600");
    ip("route add default via 10.2.0.1 metric 600");
    program.work().assert_little_since(before, 2 * WAKE_UPS);
    program.cleanup();
}

#[test]
fn a_rule_that_leads_elsewhere_is_followed_at_once() {
    if !is_inside("network::a_rule_that_leads_elsewhere_is_followed_at_once") {
        return;
    }
    let (first, program, id) = mapped();
    let _second = Router::start(2);
    // As VPNs do it: first their own table, which nobody looks at yet.
    ip("route add default via 10.2.0.1 table 100");
    // The looks at the network that this brings about must not be those that find the rule.
    first.settle();
    let before = program.work();
    ip("rule add table 100");
    program.expect_success(id, 2);
    ip("rule del table 100");
    program.expect_success(id, 1);
    program.work().assert_little_since(before, 2 * WAKE_UPS);
    program.cleanup();
}

#[test]
fn without_ipv4_it_is_failure_until_there_is_some() {
    if !is_inside("network::without_ipv4_it_is_failure_until_there_is_some") {
        return;
    }
    // Not even the loopback interface is up.
    let program = Program::start(settings());
    let id = program.create(4000);
    assert!(program.expect_failure(id) < SOON);
    program.expect_log(Level::Warn, &["no IPv4 route to the internet"]);
    let before = program.work();
    // Loopback and IPv6 alone are no way out.
    ip("link set lo up");
    let _router = Router::start(1);
    ip("addr del 10.1.0.2/24 dev lan1");
    ip("-6 addr add fd00::2/64 dev lan1 nodad");
    ip("-6 route add default via fd00::1");
    program.expect_log(Level::Debug, &["links, addresses or routes have changed"]);
    program.expect_nothing_told();
    ip("addr add 10.1.0.2/24 dev lan1");
    ip("route add default via 10.1.0.1");
    program.expect_success(id, 1);
    program.work().assert_little_since(before, 2 * WAKE_UPS);
    program.cleanup();
}
