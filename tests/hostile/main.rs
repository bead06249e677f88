//! Attacks by whoever shares the network: forged answers, hostile devices, hostile servers, hostile text.
//!
//! Each asserts that nothing crashes or hangs, that memory, connections and packets stay within limits, that nobody is
//! contacted but the gateway and hosts that answered a search themselves (`harness` checks every packet and connection), and
//! that the true gateway's mapping is made all the same where the protocols leave a way.

// A module of this suite, which adds methods of its own to the world.
#[path = "../../crates/testkit/src/world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each user takes what it needs")]
mod world;
// As in its own crate.
use plum_testkit::random;

mod addresses;
mod announcements;
mod description;
mod document;
mod forged;
mod harness;
mod http;
mod memory;
mod rogues;
mod sockets;
mod ssdp;
mod sweep;
mod text;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
