//! Parts that the tests of the engine share.
//!
//! - [`world`]: the engine's machine, a network and simulated gateways on one virtual clock.
//! - [`namespace`]: tests in a network namespace of their own.
//! - [`packets`]: how many of them a gateway gets.
//! - [`random`]: randomness for the engine that is the same in every run.

#![forbid(unsafe_code)]

pub mod namespace;
pub mod packets;
pub mod random;
pub mod world;
