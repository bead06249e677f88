//! Wire formats: bytes to meaning and back, and their limits.
//!
//! Nothing here does I/O, reads a clock or logs, and no parser panics, whatever the bytes: what it
//! cannot make sense of is [`Malformed`], and the caller drops it.

#![forbid(unsafe_code)]

pub mod http;
pub mod igd;
pub mod natpmp;
pub mod pcp;
pub mod soap;
pub mod ssdp;

/// The bytes are not a message of this format, or one that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The transport whose port is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}
