//! A firewall of this machine that lets nothing out (EPERM of `send`). Nobody tells when its rules change: the next
//! retry finds out.

use crate::harness::{Program, Router, pcp_only, settings};
use plum_engine::io::Protocol;
use plum_runtime::client::Settings;
use plum_runtime::log::Level;
use plum_testkit::namespace::{ip, is_inside};
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether nft can be run; if not, the test says so.
fn has_nft(test: &str) -> bool {
    if Command::new("nft")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs nft");
    let _ = std::io::stderr().write_all(format!("{test} was NOT run: it needs nft\n").as_bytes());
    false
}

fn nft(words: &str) {
    assert!(Command::new("nft").arg(words).status().expect("nft runs").success(), "nft {words}");
}

#[test]
fn a_firewall_against_pcp_is_named_and_upnp_used() {
    const NAME: &str = "firewall::a_firewall_against_pcp_is_named_and_upnp_used";
    if !has_nft(NAME) || !is_inside(NAME) {
        return;
    }
    let _router = Router::start(1);
    ip("route add default via 10.1.0.1");
    nft("add table ip wall; add chain ip wall out { type filter hook output priority 0; }");
    nft("add rule ip wall out udp dport 5351 drop");
    let program = Program::start(settings());
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::UpnpIgd);
    program.expect_log(Level::Warn, &["cannot send to 10.1.0.1:5351", "firewall"]);
    program.cleanup();
}

#[test]
fn a_firewall_that_is_opened_is_noticed_by_the_next_retry() {
    const NAME: &str = "firewall::a_firewall_that_is_opened_is_noticed_by_the_next_retry";
    if !has_nft(NAME) || !is_inside(NAME) {
        return;
    }
    let _router = Router::start(1);
    ip("route add default via 10.1.0.1");
    nft("add table ip wall; add chain ip wall out { type filter hook output priority 0; policy drop; }");
    let program =
        Program::start(Settings { discover_timeout_millis: 500, recheck_interval_millis: 500, ..pcp_only() });
    let id = program.create(4000);
    let before = program.work();
    program.expect_failure(id);
    program.expect_log(Level::Warn, &["cannot send to 10.1.0.1:5351", "firewall"]);
    // It is tried again after some seconds.
    program.expect_log(Level::Debug, &["asks PCP"]);
    assert_eq!(program.count_warnings("cannot send"), 0, "it was said once for each socket");
    program.work().assert_little_since(before, 150);
    nft("delete table ip wall");
    program.expect_success(id, 1);
    program.cleanup();
}
