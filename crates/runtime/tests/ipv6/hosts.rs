//! Hosts at the far ends of cables.

use crate::far_side::FarSide;
use crate::{set, wait_until};
use plum_testkit::namespace::ip;
use std::process::Command;

/// A host with an address and fe80::1, on the interface `far`; the cable leads to it from our interface `name`, which gets
/// another address and fe80::2.
pub fn host_behind(name: &str, ours: &str, theirs: &str) -> FarSide {
    set("default", "addr_gen_mode", "1");
    set("default", "accept_ra", "0");
    let far = FarSide::start(name, "far");
    for address in [ours, "fe80::2"] {
        ip(&format!("-6 addr add {address}/64 dev {name} nodad"));
    }
    let theirs = theirs.to_owned();
    far.run(move || {
        for address in [&theirs, "fe80::1"] {
            ip(&format!("-6 addr add {address}/64 dev far nodad"));
        }
        ip("link set far up");
        wait_until_ready("far", &[&theirs, "fe80::1"]);
    });
    wait_until_ready(name, &[ours, "fe80::2"]);
    far
}

/// Waits until an interface is up and packets to its addresses are for this host: until then the kernel drops them.
fn wait_until_ready(name: &str, addresses: &[&str]) {
    let shows = |arguments: &str, part: &str| {
        let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).contains(part)
    };
    wait_until("the cable is up", || shows(&format!("link show dev {name}"), "state UP"));
    for address in addresses {
        let line = format!("local {address} dev {name} ");
        wait_until("the address is ready", || shows("-6 route show table local", &line));
    }
}
