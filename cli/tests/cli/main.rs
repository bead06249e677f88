//! The real program against the simulated gateway on loopback.

#![cfg(unix)] // it sends signals, and gives the command a pseudo-terminal

mod ground;
mod list;
mod map;
mod others;
mod probe;
mod terminal;
mod unmap;
