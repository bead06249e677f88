//! Ports 5350 and 1900 in the hands of a program that does not share them. Nobody tells when they are free: the next
//! recheck finds out.

use crate::harness::{Program, Router, pcp_only, settings};
use plum_engine::io::{Allowed, Protocol};
use plum_runtime::client::Settings;
use plum_runtime::log::Level;
use plum_testkit::namespace::{ip, is_inside};
use std::net::UdpSocket;

/// In milliseconds.
const RECHECK: i32 = 500;

#[test]
fn port_5350_in_other_hands_costs_only_announcements_until_it_is_free() {
    if !is_inside("ports::port_5350_in_other_hands_costs_only_announcements_until_it_is_free") {
        return;
    }
    let router = Router::start(1);
    ip("route add default via 10.1.0.1");
    let taken = UdpSocket::bind("0.0.0.0:5350").expect("the port");
    let program = Program::start(Settings { recheck_interval_millis: RECHECK, ..pcp_only() });
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::Pcp);
    program.expect_log(Level::Warn, &["announcements", "another program", "5350"]);
    let before = program.work();
    let announces = |core: &plum_gateway::core::Gateway| core.counts.pcp_announce;
    let seen = router.with_gateway(|core| announces(core));
    router.wait_until("it rechecks three times", |core| announces(core) >= seen + 3);
    assert_eq!(program.count_warnings("5350"), 0, "it was said once");
    program.work().assert_little_since(before, 100);
    drop(taken);
    let seen = router.with_gateway(|core| announces(core));
    router.wait_until("it rechecks twice", |core| announces(core) >= seen + 2);
    // An announcement is heard again.
    router.with_gateway(|core| core.restart(true));
    program.expect_log(Level::Info, &["announces that it has restarted"]);
    program.expect_success(id, 1);
    program.cleanup();
}

#[test]
fn port_1900_in_other_hands_costs_only_notifications() {
    if !is_inside("ports::port_1900_in_other_hands_costs_only_notifications") {
        return;
    }
    let _router = Router::start(1);
    ip("route add default via 10.1.0.1");
    let _taken = UdpSocket::bind("0.0.0.0:1900").expect("the port");
    let program =
        Program::start(Settings { recheck_interval_millis: RECHECK, allowed: Allowed::Upnp, ..settings() });
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::UpnpIgd);
    program.expect_log(Level::Warn, &["notifications", "another program", "1900"]);
    program.expect_nothing_told();
    program.cleanup();
}
