//! Simulated gateway server.
fn main() {}
