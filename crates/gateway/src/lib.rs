//! A simulated NAT gateway: PCP, NAT-PMP and UPnP-IGD over one port table, and a firewall for IPv6, with scripted faults.
//!
//! [`core`] has all the logic and no I/O: tests drive it on a virtual clock. [`server`] adds sockets: tests of the
//! public API, the demo and the benchmarks run it on a loopback address of its own. [`control`] is the command language
//! that sets faults. [`odd`] has gateways with the habits of real ones.
//!
//! Nothing here shares code with libplum: it has its own encoders and decoders, so that a mistake in
//! libplum's is not mirrored and hidden.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod control;
pub mod core;
pub mod odd;
pub mod server;
