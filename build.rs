//! Link arguments of the shared library, and how the system tells of routes: a condition that src/net knows.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    let unix = var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family.split(',').any(|one| one == "unix"));
    let apple = var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    match var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android") => println!("cargo:rustc-cfg=netlink"),
        Ok("freebsd" | "netbsd" | "openbsd") => println!("cargo:rustc-cfg=routing_sockets"),
        _ if apple => println!("cargo:rustc-cfg=routing_sockets"),
        _ => {}
    }
    if unix && !apple {
        // As the C library does: the SONAME carries the full version, since the structs differ between versions.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libplum.so.{}", abi_version());
        // A thread that waits for a name server may outlive dlclose: its code has to stay.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

/// The version of the C library whose ABI is built. Cargo.toml names both.
fn abi_version() -> String {
    if var("CARGO_FEATURE_ABI_05").is_err() {
        return var("CARGO_PKG_VERSION").expect("cargo names the version");
    }
    // cargo hands no metadata to a build script.
    let manifest = std::fs::read_to_string("Cargo.toml").expect("Cargo.toml is here");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("abi-05-version = ")).expect("a version");
    version.trim_matches('"').to_owned()
}
