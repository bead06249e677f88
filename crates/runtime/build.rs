//! How the system tells of routes: `cfg(netlink)`, `cfg(routing_sockets)`, or neither.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let apple = var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    match var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android") => println!("cargo::rustc-cfg=netlink"),
        Ok("freebsd" | "netbsd" | "openbsd") => println!("cargo::rustc-cfg=routing_sockets"),
        _ if apple => println!("cargo::rustc-cfg=routing_sockets"),
        _ => {}
    }
}
