//! What must hold of the UPnP parsers for any bytes at all: they survive, they keep their limits, and nothing
//! that came from the network can act as a line end in a log or a request.
//!
//! More cases: `PROPTEST_CASES=100000 cargo test --test upnp_properties`.

use plum_wire::http::{ReadError, Reply, ReplyReader, Url, emit_get, emit_post};
use plum_wire::{igd, soap, ssdp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Messages in the manner of real gateways, to be damaged.
const MESSAGES: [&str; 9] = [
    "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\nUSN: uuid:1::upnp:rootdevice\r\n\
     EXT:\r\nSERVER: x UPnP/1.1 y\r\nLOCATION: http://192.0.2.1:5000/rootDesc.xml\r\nBOOTID.UPNP.ORG: 1\r\n\r\n",
    "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\n\
     LOCATION: http://192.0.2.1:5000/rootDesc.xml\r\nUSN: uuid:1::upnp:rootdevice\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\nContent-Type: text/xml\r\n\r\n<root></root>",
    "HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 Error\r\n\r\n<s:Envelope>",
    "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><URLBase>http://192.0.2.1/</URLBase><device>\
     <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>a &amp; b</friendlyName>\
     <modelName>c</modelName><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
     </serviceType><controlURL>/ctl</controlURL></service></serviceList></device></root>",
    "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
     <u:GetExternalIPAddressResponse xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">\
     <NewExternalIPAddress>198.51.100.1</NewExternalIPAddress></u:GetExternalIPAddressResponse></s:Body></s:Envelope>",
    "<s:Envelope><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
     <UPnPError><errorCode>718</errorCode><errorDescription>Conflict</errorDescription></UPnPError></detail></s:Fault>",
    "http://192.0.2.1:5000/a/b?c=d#e",
];

/// Pieces that mean something to one parser or another.
const WORDS: [&str; 45] = [
    "\u{202e}",
    "<",
    ">",
    "</",
    "/>",
    "<a>",
    "</a>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE x [",
    "<?xml ",
    "?>",
    "\"",
    "'",
    "&",
    "&amp;",
    "&#10;",
    "&#x0;",
    ";",
    "\u{feff}",
    "<device>",
    "<service>",
    "</service>",
    "<controlURL>",
    "</controlURL>",
    "<serviceType>",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "<u:XResponse>",
    "<errorCode>",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "HTTP/1.1 200 OK\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "LOCATION: ",
    "NOTIFY * HTTP/1.1\r\n",
    "0\r\n",
    "ffffffffffffffff\r\n",
    "ä",
];

/// A damage done to a message.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index, usize),
    Insert(Index, Vec<u8>),
    Replace(Index, u8),
    Repeat(Index, usize, usize),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (any::<Index>(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), select(&WORDS[..])).prop_map(|(at, word)| Damage::Insert(at, word.into())),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), 1..40_usize, 2..20_usize).prop_map(|(at, length, n)| Damage::Repeat(at, length, n)),
        any::<Index>().prop_map(Damage::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let place = |at: Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match damage {
        Damage::Cut(at, length) => {
            let at = place(at, bytes);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Damage::Insert(at, inserted) => {
            let at = place(at, bytes);
            bytes.splice(at..at, inserted);
        }
        Damage::Replace(at, byte) => {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        Damage::Repeat(at, length, times) => {
            let at = place(at, bytes);
            let piece = bytes[at..(at + length).min(bytes.len())].repeat(times);
            bytes.splice(at..at, piece);
        }
        Damage::Truncate(at) => bytes.truncate(place(at, bytes)),
    }
}

/// Bytes from nonsense to nearly right.
fn input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..300),
        2 => vec(select(&WORDS[..]), 0..60).prop_map(|words| words.concat().into_bytes()),
        4 => (select(&MESSAGES[..]), vec(damage(), 0..6)).prop_map(|(message, damages)| {
            let mut bytes = message.as_bytes().to_vec();
            damages.into_iter().for_each(|damage| apply(&mut bytes, damage));
            bytes
        }),
    ]
}

/// Text that would like to break out of wherever it is put.
fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        // Any characters, control characters too (which `any::<String>()` leaves out).
        vec(any::<char>(), 0..30).prop_map(String::from_iter),
        vec(select(&WORDS[..]), 0..20).prop_map(|words| words.concat()),
    ]
}

/// Controls, line separators, and what turns the direction of text.
fn is_disruptive(character: char) -> bool {
    let others = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    character.is_control() || others.contains(character)
}

fn is_clean(text: &str) -> bool {
    !text.contains(is_disruptive) && text.trim() == text
}

/// What is left of a text on its way through.
fn cleaned(text: &str) -> String {
    text.replace(is_disruptive, " ").trim().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn is_safe(url: &Url) -> bool {
    url.path.starts_with('/') && url.path.bytes().all(|b| b.is_ascii_graphic()) && url.address.port() != 0
}

/// Reads `bytes` in pieces of the given lengths (over and over), then the close.
fn read(bytes: &[u8], lengths: &[usize], limit: usize) -> Result<Reply, ReadError> {
    let mut reader = ReplyReader::new(limit);
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        if let Some(reply) = reader.push(piece)? {
            return Ok(reply);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    reader.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ssdp_fields_are_clean_whatever_comes(bytes in input()) {
        use ssdp::Message::{Alive, ByeBye, Reply};
        if let Ok(Reply(headers) | Alive(headers) | ByeBye(headers)) = ssdp::parse(&bytes) {
            for text in [headers.target, headers.location, headers.usn, headers.server] {
                prop_assert!(is_clean(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn descriptions_are_clean_and_bounded_whatever_comes(bytes in input()) {
        if let Ok(description) = igd::parse(&bytes) {
            prop_assert!(is_clean(&description.name()) && is_clean(&description.manufacturer));
            prop_assert!(is_clean(&description.root_device_type));
            prop_assert!(description.url_base.is_none_or(|base| is_clean(&base) && !base.is_empty()));
            prop_assert!(description.services.len() <= 32);
            for service in description.services {
                prop_assert!(is_clean(&service.service_type) && is_clean(&service.control_url));
                prop_assert!(service.kind().is_none() || !service.control_url.is_empty());
            }
        }
    }

    #[test]
    fn soap_replies_are_clean_and_bounded_whatever_comes(bytes in input()) {
        match soap::parse(&bytes) {
            Ok(soap::Reply::Response(arguments)) => {
                prop_assert!(arguments.len() <= 32);
                prop_assert!(arguments.iter().all(|(_, value)| is_clean(value) && value.len() <= 4096));
            }
            Ok(soap::Reply::Fault { description, .. }) => {
                prop_assert!(is_clean(&description) && description.chars().count() <= 200);
            }
            Err(_) => {}
        }
    }

    #[test]
    fn http_replies_are_the_same_however_they_are_cut(
        bytes in input(),
        lengths in vec(1..50_usize, 1..10),
        limit in prop_oneof![0..400_usize, Just(usize::MAX)],
    ) {
        let by_byte = read(&bytes, &[1], limit);
        for cut in [read(&bytes, &[bytes.len().max(1)], limit), read(&bytes, &lengths, limit)] {
            match (&cut, &by_byte) {
                (Ok(cut), Ok(by_byte)) => {
                    prop_assert!((cut.status, &cut.location) == (by_byte.status, &by_byte.location));
                    // Only what came along behind the end that Content-Length promised is more.
                    prop_assert!(cut.body.starts_with(&by_byte.body), "{cut:?} {by_byte:?}");
                    prop_assert!(cut.body.len() <= limit);
                    prop_assert!((100..1000).contains(&cut.status));
                }
                _ => prop_assert_eq!(&cut, &by_byte),
            }
        }
    }

    #[test]
    fn urls_stay_within_a_request_line(text in hostile_text(), path in hostile_text(), reference in hostile_text()) {
        if let Ok(url) = Url::parse(&text) {
            prop_assert!(is_safe(&url), "{url:?}");
        }
        if let Ok(base) = Url::parse(&format!("http://192.0.2.1:5000/{path}")) {
            prop_assert!(is_safe(&base), "{base:?}");
            prop_assert_eq!(Url::parse(&format!("http://{}{}", base.address, base.path)), Ok(base.clone()));
            for reference in [reference.clone(), format!("/{reference}"), format!("../{reference}?{text}")] {
                if let Ok(url) = base.join(&reference) {
                    prop_assert!(is_safe(&url), "{url:?}");
                    // Another host only by an absolute reference.
                    let is_absolute = reference.contains("//");
                    prop_assert!(is_absolute || url.address == base.address, "{url:?}");
                }
            }
            let lines = |request: Vec<u8>| String::from_utf8(request).unwrap().matches('\n').count();
            prop_assert_eq!(lines(emit_get(&base)), 5);
            prop_assert_eq!(lines(emit_post(&base, &text, "")), 8);
        }
    }

    #[test]
    fn urls_have_the_host_they_name_and_no_credentials(
        ip in any::<std::net::IpAddr>(),
        port in 1..=u16::MAX,
        user in hostile_text(),
        path in hostile_text(),
    ) {
        let address = std::net::SocketAddr::new(ip, port);
        let url = Url::parse(&format!("http://{address}/{path}"));
        prop_assert!(url.is_err() || url.is_ok_and(|url| url.address == address));
        let user = user.replace(['/', '?', '#'], "");
        let url = Url::parse(&format!("http://{user}@{address}/{path}"));
        prop_assert!(url.is_err(), "{url:?}");
    }

    #[test]
    fn soap_arguments_arrive_as_they_were_sent(values in vec(hostile_text(), 0..8), service_type in hostile_text()) {
        let names = ["NewA", "NewB", "NewC", "NewD", "NewE", "NewF", "NewG", "NewH"];
        let arguments: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        // Named like a response, a call can be read back.
        let body = soap::emit(&service_type, "XResponse", &arguments);
        let expected = arguments.iter().map(|(name, value)| (name.to_string(), cleaned(value))).collect();
        prop_assert_eq!(soap::parse(body.as_bytes()), Ok(soap::Reply::Response(expected)));
    }

    #[test]
    fn services_are_found_as_they_were_written(urls in vec(hostile_text(), 0..10), name in hostile_text()) {
        let service_type = "urn:schemas-upnp-org:service:WANIPConnection:1";
        let services: String = urls
            .iter()
            .map(|url| {
                let url = escaped(url);
                format!("<service><serviceType>{service_type}</serviceType><controlURL>{url}</controlURL></service>")
            })
            .collect();
        let text = format!(
            "<root><device><deviceType>x</deviceType><modelName>{}</modelName><serviceList>{services}</serviceList>\
             </device></root>",
            escaped(&name),
        );
        let description = igd::parse(text.as_bytes()).unwrap();
        let found: Vec<String> = description.services.into_iter().map(|service| service.control_url).collect();
        let expected: Vec<String> = urls.iter().map(|url| cleaned(url)).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(cleaned(&name).starts_with(&description.model_name));
    }
}
