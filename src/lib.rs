//! libplum in Rust: opens ports on NAT gateways by PCP, NAT-PMP and UPnP-IGD.
//!
//! The interface is the C API in [`ffi`]; C programs include `include/plum.h`, which is made of it. The other modules
//! are the layers below, public for the project's own tests only and without any promise. ARCHITECTURE.md says
//! how they fit together, and a test (`tests/architecture.rs`) that they use each other as it says.

// One operation a block, so that the comment on it states the contract of that operation.
#![warn(clippy::multiple_unsafe_ops_per_block)]

#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod dummytls;
#[doc(hidden)]
pub mod engine;
pub mod ffi;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod ordered;
mod sync;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod wire;
#[doc(hidden)]
pub mod worker;
