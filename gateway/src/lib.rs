//! Simulated gateway.
