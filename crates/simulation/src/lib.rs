//! libplum's engine through simulated years: a seed is a whole story of a program, its machine, its networks and their
//! gateways, in which every promise of the library is checked after every step. See README.md.

pub mod agreement;
pub mod allocations;
pub mod gateways;
pub mod invariants;
pub mod outlook;
pub mod run;
pub mod story;
pub mod traits;
pub mod twin;
pub mod watched;

pub use plum_testkit::world;
