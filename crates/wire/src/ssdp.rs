//! SSDP: finding UPnP devices (UDA 2.0 §1).

#![forbid(unsafe_code)]
use super::head::{self, Head};
use super::{Malformed, printable};
use std::net::SocketAddr;

#[cfg(test)]
mod tests;

/// UDP port of SSDP.
pub const PORT: u16 = 1900;

/// A search (M-SEARCH) for `target`, to be sent to `to`, asking for replies within `mx_secs`.
pub fn emit_search(to: SocketAddr, target: &str, mx_secs: u8) -> Vec<u8> {
    // UDA 2.0 §1.3.2: HOST, MAN, MX and ST are required; strict devices drop a search without MX, unicast or not.
    // A scope id has no meaning to the other side, hence the new SocketAddr.
    format!(
        "M-SEARCH * HTTP/1.1\r\n\
         HOST: {}\r\n\
         MAN: \"ssdp:discover\"\r\n\
         MX: {mx_secs}\r\n\
         ST: {}\r\n\
         \r\n",
        SocketAddr::new(to.ip(), to.port()),
        printable(target, usize::MAX),
    )
    .into_bytes()
}

/// A message of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The reply to a search.
    Reply(Headers),
    /// NOTIFY ssdp:alive, or ssdp:update.
    Alive(Headers),
    /// NOTIFY ssdp:byebye.
    ByeBye(Headers),
}

/// The relevant header fields; empty: missing. Free of control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// ST of a reply, NT of a notification.
    pub target: String,
    /// URL of the device description.
    pub location: String,
    /// Unique service name.
    pub usn: String,
    /// SERVER: the product that the device names.
    pub server: String,
    /// BOOTID.UPNP.ORG, when given.
    pub boot_id: Option<u32>,
}

/// Parses a datagram. M-SEARCH of other hosts and anything else is `Malformed`.
pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
    let head = Head::parse(bytes)?;
    let headers = |target: &str| Headers {
        target: head.get(target).to_owned(),
        location: head.get("LOCATION").to_owned(),
        usn: head.get("USN").to_owned(),
        server: head.get("SERVER").to_owned(),
        boot_id: head.get("BOOTID.UPNP.ORG").parse().ok(),
    };
    let method = head.start_line.split_ascii_whitespace().next().unwrap_or_default();
    if method.eq_ignore_ascii_case("NOTIFY") {
        let headers = headers("NT");
        let kind = head.get("NTS");
        return if kind.eq_ignore_ascii_case("ssdp:byebye") {
            Ok(Message::ByeBye(headers))
        } else if ["ssdp:alive", "ssdp:update"].iter().any(|alive| kind.eq_ignore_ascii_case(alive)) {
            Ok(Message::Alive(headers))
        } else if kind.is_empty() && !headers.location.is_empty() {
            // Some builds of MiniUPnPd 1.7 lose the names of NT, NTS and USN: only ssdp:alive has a LOCATION.
            Ok(Message::Alive(headers))
        } else {
            Err(Malformed)
        };
    }
    let is_reply = match head::status(&head.start_line) {
        Some(status) => status == 200,
        // Some devices leave the status line out.
        None => method.is_empty() && !head.get("LOCATION").is_empty() && !head.get("ST").is_empty(),
    };
    if is_reply { Ok(Message::Reply(headers("ST"))) } else { Err(Malformed) }
}
