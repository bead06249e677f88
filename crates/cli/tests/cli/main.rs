//! The real program against the simulated gateway on loopback.

#![cfg(unix)] // it sends signals, and gives the command a pseudo-terminal

#[cfg(target_os = "linux")] // network namespaces
mod forged;
mod harness;
mod list;
mod map;
mod others;
mod probe;
mod terminal;
mod unmap;
