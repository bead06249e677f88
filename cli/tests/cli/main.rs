//! The real program against the simulated gateway on loopback.

#![cfg(unix)]

mod ground;
mod list;
mod map;
mod others;
mod probe;
mod terminal;
mod unmap;
