//! What libplum is fuzzed with: one function a target, which takes any bytes and panics on a defect.
//!
//! Not only a crash is one: each target says what must hold of the outcome. The functions know nothing of libFuzzer, so
//! `cargo test` replays the corpora through them on any toolchain.

pub mod api;
pub mod engine;
pub mod engines;
pub mod http;
pub mod igd;
pub mod memory;
pub mod natpmp;
pub mod pcp;
pub mod soap;
pub mod ssdp;
mod text;
pub mod upnp;

/// A target's name, that of its archive in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. `api` starts threads and a session of the library: one input at a time in a process.
pub const TARGETS: [Target; 10] = [
    ("pcp", pcp::run),
    ("natpmp", natpmp::run),
    ("ssdp", ssdp::run),
    ("http", http::run),
    ("igd", igd::run),
    ("soap", soap::run),
    ("engine", engine::run),
    ("engines", engines::run),
    ("upnp", upnp::run),
    ("api", api::run),
];
