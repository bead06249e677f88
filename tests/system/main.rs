//! Faults of the system: the real library on a real kernel, in network namespaces made here.
//!
//! Each test asserts what the log says, what the program is told, and that the library recovers by itself: at once where
//! the system tells of the change (these run with the default recheck period of five minutes), else with the next recheck.
//! And that it does not keep busy meanwhile. What the kernel cannot be made to do is in `c-tests/faults`.
#![cfg(target_os = "linux")]

mod filter;
mod firewall;
mod harness;
mod ipv6;
mod network;
mod notices;
mod own_host;
mod ports;
mod sandbox;
mod strangers;
mod system_calls;
