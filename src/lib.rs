//! libplum in Rust: opens ports on NAT gateways by PCP, NAT-PMP and UPnP-IGD.
//!
//! C programs use `include/plum.h`; ARCHITECTURE.md says how the layers below fit together.

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
pub mod time;
#[doc(hidden)]
pub mod wire;
#[doc(hidden)]
pub mod worker;
