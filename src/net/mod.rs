//! The operating system: clock, randomness, sockets, routes, change notices. One file a platform.
//!
//! No protocol knowledge. Beside `ffi` the only module that may hold `unsafe`.
