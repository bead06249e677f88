//! Our own requests, read as strictly as the standards allow: nothing of the network's text may change what they are.

use std::net::{IpAddr, SocketAddr};

/// The longest path (`MAX_URL_BYTES` of crates/wire/src/http.rs), with the octet that makes it too long encoded.
const MAX_PATH: usize = 2048 + 3;
/// Who a search looks for, UDA 2.0 §1.3.2.
const TARGETS: [&str; 6] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
    "upnp:rootdevice",
];
/// The arguments of an entry, in the order of WANIPConnection:1 §2.4.16.
const ENTRY: [&str; 8] = [
    "NewRemoteHost",
    "NewExternalPort",
    "NewProtocol",
    "NewInternalPort",
    "NewInternalClient",
    "NewEnabled",
    "NewPortMappingDescription",
    "NewLeaseDuration",
];

/// A search is one, to this address.
pub fn check_search(to: SocketAddr, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("a search is text");
    let target = text.split("\r\nST: ").nth(1).and_then(|rest| rest.strip_suffix("\r\n\r\n"));
    let target = target.unwrap_or_else(|| panic!("no target: {text:?}"));
    assert!(TARGETS.contains(&target), "a search for {target:?}");
    let expected = format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
    );
    assert_eq!(text, expected);
}

/// A request of HTTP is one, to this address, on a connection from that. Whether it is for a description.
pub fn check_http(to: SocketAddr, client: IpAddr, bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).expect("a request is UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head has an end");
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, path, "HTTP/1.1"] = words[..] else { panic!("the request line of {text:?}") };
    // RFC 3986 §3.3, and what is sent as it came: no space, no control character, nothing outside ASCII, no fragment.
    let is_plain = |octet: u8| octet.is_ascii_graphic() && octet != b'#';
    assert!(path.starts_with('/') && path.bytes().all(is_plain) && path.len() <= MAX_PATH, "{path:?}");
    let fields: Vec<(&str, &str)> =
        lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"))).collect();
    let host = SocketAddr::new(to.ip(), to.port()).to_string();
    let length = body.len().to_string();
    let agent = fields.get(1).map_or("", |(_, value)| value);
    assert!(agent.starts_with("libplum/") && agent.ends_with(" UPnP/1.1") && agent.len() < 30, "{agent:?}");
    let common = [("Host", host.as_str()), ("User-Agent", agent), ("Connection", "close")];
    assert_eq!(fields.get(..3), Some(&common[..]));
    if method == "GET" {
        assert!(body.is_empty() && fields.len() == 3, "{text:?}");
        return true;
    }
    assert_eq!(method, "POST");
    let [.., kind, (name, called), (length_name, said)] = fields[..] else { panic!("{fields:?}") };
    assert_eq!((kind, name), (("Content-Type", "text/xml; charset=\"utf-8\""), "SOAPAction"));
    assert_eq!((length_name, said, fields.len()), ("Content-Length", length.as_str(), 6));
    check_call(called, client, body);
    false
}

/// A call of an action, UDA 2.0 §3.2.1.
fn check_call(called: &str, client: IpAddr, body: &str) {
    let called = called.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("in quotes");
    let (service, action) = called.split_once('#').expect("a service and an action");
    check_service(service);
    let before = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{service}\">"
    );
    let after = format!("</u:{action}></s:Body></s:Envelope>\r\n");
    let inside = body.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
    let arguments = read_arguments(inside.unwrap_or_else(|| panic!("{called:?}: {body:?}")));
    let names: Vec<&str> = arguments.iter().map(|&(name, _)| name).collect();
    let expected: &[&str] = match action {
        "GetStatusInfo" | "GetExternalIPAddress" => &[],
        "GetGenericPortMappingEntry" => &["NewPortMappingIndex"],
        "GetSpecificPortMappingEntry" | "DeletePortMapping" => &ENTRY[..3],
        "AddPortMapping" | "AddAnyPortMapping" => &ENTRY,
        other => panic!("no such action: {other:?}"),
    };
    assert_eq!(names, expected, "{action}");
    for (name, value) in arguments {
        check_argument(name, value, client);
    }
}

/// The standard's services, and those of a vendor whose routers have no others.
fn check_service(service: &str) {
    let kind = ["urn:schemas-upnp-org:service:", "urn:dslforum-org:service:"]
        .iter()
        .find_map(|prefix| service.get(..prefix.len()).filter(|s| s.eq_ignore_ascii_case(prefix)))
        .and_then(|prefix| service[prefix.len()..].split_once(':'));
    let (name, version) = kind.unwrap_or_else(|| panic!("no service: {service:?}"));
    let is_known =
        ["WANIPConnection", "WANPPPConnection"].iter().any(|known| known.eq_ignore_ascii_case(name));
    assert!(is_known && version.parse::<u16>().is_ok(), "no service: {service:?}");
}

fn read_arguments(mut text: &str) -> Vec<(&str, &str)> {
    let mut arguments = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("an element");
        let (value, rest) = rest.split_once('<').expect("its end");
        arguments.push((name, value));
        text = rest.strip_prefix('/').and_then(|rest| rest.strip_prefix(name)).expect("the end of the same");
        text = text.strip_prefix('>').expect("the end of the end");
    }
    arguments
}

fn check_argument(name: &str, value: &str, client: IpAddr) {
    let is_good = match name {
        "NewRemoteHost" => value.is_empty(),
        // Written as numbers are: no sign, no zero in front.
        "NewExternalPort" | "NewInternalPort" => {
            value.parse().is_ok_and(|port: u16| port != 0 && port.to_string() == value)
        }
        "NewProtocol" => matches!(value, "TCP" | "UDP"),
        "NewInternalClient" => value == client.to_string(),
        "NewEnabled" => value == "1",
        "NewPortMappingDescription" => value == "libplum",
        "NewLeaseDuration" => matches!(value, "0" | "3600" | "7200"),
        "NewPortMappingIndex" => value.parse().is_ok_and(|index: u16| index < 64),
        _ => false,
    };
    assert!(is_good, "{name} is {value:?}");
}
