//! The real program against the simulated gateway on loopback.

#![cfg(unix)]

mod ground;
mod map;
mod others;
mod terminal;
mod unmap;
