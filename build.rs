//! Link arguments of the shared library.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let unix = var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family.split(',').any(|one| one == "unix"));
    let apple = var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    if unix && !apple {
        // As the C library does: the SONAME carries the full version, since the structs differ between versions.
        let version = var("CARGO_PKG_VERSION").expect("cargo names the version");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libplum.so.{version}");
        // A thread that waits for a name server may outlive dlclose: its code has to stay.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
