//! libplum's engine through simulated years: a seed is a whole story of a program, its machine, its networks and their
//! gateways, in which every promise of the library is checked after every step. See README.md.

pub mod agreement;
pub mod allocations;
pub mod checked_engine;
pub mod expectation;
pub mod firewall_reference;
pub mod gateways;
pub mod invariants;
pub mod ipv6_homes;
pub mod pinhole_expectation;
pub mod pinholes;
pub mod reference;
pub mod run;
pub mod sockets;
pub mod story;
pub mod traits;

pub use plum_testkit::world;
