//! The ABI that is built, and link arguments of the shared library.
//!
//! The environment variable PLUM_ABI names the ABI. It is no feature: features add up, and ABIs exclude each other.

use std::env::var;

/// An ABI, and the version of the C library that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Abi {
    /// As PLUM_ABI has it.
    pub name: String,
    /// In full, as the SONAME has it.
    pub version: String,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-env-changed=PLUM_ABI");
    let unix = var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family.split(',').any(|one| one == "unix"));
    let apple = var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor == "apple");
    let abis = abis();
    println!("cargo::rustc-check-cfg=cfg(plum_abi, values({}))", names(&abis));
    let abi = match choose_abi(&abis, var("PLUM_ABI").ok().as_deref()) {
        Ok(abi) => abi,
        Err(error) => return println!("cargo::error={error}"),
    };
    println!("cargo::rustc-cfg=plum_abi={:?}", abi.name);
    println!("cargo::rustc-env=PLUM_ABI_VERSION={}", abi.version);
    if unix && !apple {
        // As the C library does: the SONAME carries the full version, since the structs differ between versions.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libplum.so.{}", abi.version);
        // A thread that waits for a name server may outlive dlclose: its code has to stay.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

/// The ABI of this name, without one the default; or what is wrong with the name.
pub fn choose_abi<'a>(abis: &'a [Abi], wanted: Option<&str>) -> Result<&'a Abi, String> {
    let default = abis.last().expect("Cargo.toml names them");
    let Some(wanted) = wanted else { return Ok(default) };
    abis.iter().find(|abi| abi.name == wanted).ok_or_else(|| {
        format!(
            "the environment variable PLUM_ABI is {wanted:?}, which names no ABI: set it to one of {}, or unset it for {:?}",
            names(abis),
            default.name
        )
    })
}

fn names(abis: &[Abi]) -> String {
    abis.iter().map(|abi| format!("{:?}", abi.name)).collect::<Vec<_>>().join(", ")
}

/// The ABIs of Cargo.toml, which lies in the working folder. cargo hands no metadata to a build script.
pub fn abis() -> Vec<Abi> {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("Cargo.toml is here");
    manifest
        .lines()
        .skip_while(|line| *line != "[package.metadata.plum.abi-versions]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, version)| Abi {
            name: name.trim_matches('"').to_owned(),
            version: version.trim_matches('"').to_owned(),
        })
        .collect()
}
