//! The real program against the simulated gateway on loopback.

#![cfg(unix)] // it sends signals, and gives the command a pseudo-terminal

mod address;
mod causes;
mod exec;
#[cfg(target_os = "linux")] // network namespaces
mod far_side;
#[cfg(target_os = "linux")] // network namespaces
mod forged;
mod harness;
#[cfg(target_os = "linux")] // network namespaces
mod ipv6;
#[path = "../../src/json_page/page.rs"]
mod json_page;
mod list;
mod list_tables;
#[cfg(target_os = "linux")] // network namespaces
mod manual;
mod map;
mod map_options;
mod map_ports;
#[cfg(target_os = "linux")] // network namespaces
mod networks;
mod others;
#[cfg(target_os = "linux")] // network namespaces
mod pictures;
mod probe;
mod signals;
mod status;
mod terminal;
mod unmap;
mod unmap_all;
mod unmap_truth;
#[cfg(target_os = "linux")] // network namespaces
mod uplinks;
mod verdict;
