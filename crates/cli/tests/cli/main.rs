//! The real program against the simulated gateway on loopback.

#![cfg(unix)] // it sends signals, and gives the command a pseudo-terminal

mod address;
mod causes;
mod exec;
#[cfg(target_os = "linux")] // network namespaces
#[path = "../../../../tests/system/far_side.rs"]
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
#[cfg(target_os = "linux")] // network namespaces
mod routers;
mod signals;
mod status;
mod terminal;
mod unmap;
mod unmap_all;
mod unmap_truth;
#[cfg(target_os = "linux")] // network namespaces
mod uplinks;
mod verdict;
