//! SSDP: replies to searches, notifications, and the searches themselves.

use crate::text::{assert_clean, field};
use plum_wire::ssdp::{self, Headers, Message};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The longest value kept of a field, in characters.
const MAX_VALUE_CHARS: usize = 4096;

/// Fields are clean and bounded, and read the same when written as the standard says.
pub fn run(data: &[u8]) {
    if let Ok(message) = ssdp::parse(data) {
        let (Message::Reply(headers) | Message::Alive(headers) | Message::ByeBye(headers)) = &message;
        for text in [&headers.target, &headers.location, &headers.usn, &headers.server] {
            assert_clean(text);
            assert!(text.chars().count() <= MAX_VALUE_CHARS);
        }
        assert_eq!(ssdp::parse(write(&message, headers).as_bytes()), Ok(message));
    }
    // The target of a search is the engine's own; even so nothing in it may end the line.
    let target = String::from_utf8_lossy(data);
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), ssdp::PORT);
    let search = ssdp::emit_search(to, &target, 1);
    assert_eq!(search.iter().filter(|&&octet| octet == b'\n').count(), 6);
    assert!(search.ends_with(b"\r\n\r\n"));
    assert!(ssdp::parse(&search).is_err(), "a search is nothing that devices send");
}

/// As UDA 2.0 §1.2.2, §1.2.3 and §1.3.3 write it.
fn write(message: &Message, headers: &Headers) -> String {
    let (start, target, kind) = match message {
        Message::Reply(_) => ("HTTP/1.1 200 OK", "ST", ""),
        Message::Alive(_) => ("NOTIFY * HTTP/1.1", "NT", "ssdp:alive"),
        Message::ByeBye(_) => ("NOTIFY * HTTP/1.1", "NT", "ssdp:byebye"),
    };
    let mut text = format!("{start}\r\n");
    field(&mut text, "NTS", kind);
    field(&mut text, target, &headers.target);
    field(&mut text, "LOCATION", &headers.location);
    field(&mut text, "USN", &headers.usn);
    field(&mut text, "SERVER", &headers.server);
    field(&mut text, "BOOTID.UPNP.ORG", &headers.boot_id.map_or(String::new(), |id| id.to_string()));
    text + "\r\n"
}
