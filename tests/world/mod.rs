//! The world of the testkit, for the suites that still take it as a module of their own.

#[allow(dead_code, unused_imports)] // Every suite takes what it needs.
#[path = "../../crates/testkit/src/world/mod.rs"]
mod kit;

#[allow(unused_imports)]
pub use kit::*;
