//! SSDP: finding UPnP devices (UPnP Device Architecture 2.0, section 1).

#![forbid(unsafe_code)]
use super::Malformed;
use std::net::SocketAddr;

/// UDP port of SSDP.
pub const PORT: u16 = 1900;

/// A search (M-SEARCH) for `target`, to be sent to `to`, asking for replies within `mx_secs`.
pub fn emit_search(_to: SocketAddr, _target: &str, _mx_secs: u8) -> Vec<u8> {
    todo!()
}

/// What devices send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The reply to a search.
    Reply(Headers),
    /// NOTIFY ssdp:alive, or ssdp:update.
    Alive(Headers),
    /// NOTIFY ssdp:byebye.
    ByeBye(Headers),
}

/// The header fields that matter; empty text where the field was missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// ST of a reply, NT of a notification.
    pub target: String,
    /// URL of the device description.
    pub location: String,
    /// Unique service name.
    pub usn: String,
    /// What the device says it is.
    pub server: String,
    /// BOOTID.UPNP.ORG, when given.
    pub boot_id: Option<u32>,
}

/// Parses a datagram. M-SEARCH of others and anything else is `Malformed`.
pub fn parse(_bytes: &[u8]) -> Result<Message, Malformed> {
    todo!()
}
