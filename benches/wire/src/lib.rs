//! What the benchmarks read: requests of the library's own, and what the simulated gateway answers to them.

#![forbid(unsafe_code)]

use plum_gateway::core::{Config, ConnectionId, Gateway, Output, UdpPort};
use plum_wire::http::{self, Url};
use plum_wire::pcp::{self, Nonce};
use plum_wire::{Transport, natpmp, soap, ssdp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Where the gateway is.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
/// Where the client is.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));
/// The service that the gateway offers.
pub const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

const PORT: Option<NonZeroU16> = NonZeroU16::new(8000);

/// A PCP MAP request.
pub fn pcp_request() -> pcp::MapRequest {
    pcp::MapRequest {
        client: CLIENT,
        nonce: Nonce([7; 12]),
        transport: Transport::Tcp,
        internal_port: NonZeroU16::MIN.saturating_add(7999),
        suggested_port: PORT,
        suggested_address: None,
        lifetime_secs: 7200,
    }
}

/// A NAT-PMP mapping request.
pub fn natpmp_request() -> natpmp::MapRequest {
    natpmp::MapRequest {
        transport: Transport::Tcp,
        internal_port: NonZeroU16::MIN.saturating_add(7999),
        suggested_port: PORT,
        lifetime_secs: 7200,
    }
}

/// The arguments of AddPortMapping.
pub const ADD_PORT_MAPPING: [(&str, &str); 8] = [
    ("NewRemoteHost", ""),
    ("NewExternalPort", "8000"),
    ("NewProtocol", "TCP"),
    ("NewInternalPort", "8000"),
    ("NewInternalClient", "192.168.1.100"),
    ("NewEnabled", "1"),
    ("NewPortMappingDescription", "libplum"),
    ("NewLeaseDuration", "7200"),
];

/// The gateway's answer to a datagram.
///
/// # Panics
/// There is none.
pub fn datagram_answer(port: UdpPort, request: &[u8]) -> Vec<u8> {
    let mut gateway = Gateway::new(Config::at(GATEWAY), Duration::ZERO);
    gateway.handle_datagram(Duration::ZERO, port, SocketAddr::new(CLIENT, 40_000), request);
    match gateway.poll_output(Duration::ZERO) {
        Some(Output::Send { bytes, .. }) => bytes,
        other => panic!("no answer, but {other:?}"),
    }
}

/// The gateway's answer to a search.
///
/// # Panics
/// There is none.
pub fn search_answer() -> Vec<u8> {
    let target = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
    datagram_answer(UdpPort::Ssdp, &ssdp::emit_search(SocketAddr::new(GATEWAY, ssdp::PORT), target, 1))
}

/// The gateway's answer to an HTTP request, head and body.
///
/// # Panics
/// There is none.
pub fn http_answer(request: &[u8]) -> Vec<u8> {
    let (now, connection) = (Duration::ZERO, ConnectionId(1));
    let mut gateway = Gateway::new(Config::at(GATEWAY), now);
    gateway.handle_tcp_open(now, connection, SocketAddr::new(CLIENT, 40_000));
    gateway.handle_tcp_data(now, connection, request);
    let mut answer = Vec::new();
    while let Some(output) = gateway.poll_output(now) {
        if let Output::Write { bytes, .. } = output {
            answer.extend(bytes);
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    answer
}

/// A URL of the gateway's.
///
/// # Panics
/// The path is none.
pub fn url(path: &str) -> Url {
    Url::parse(&format!("http://{GATEWAY}:5000{path}")).expect("a URL")
}

/// The answer to GET of the device description.
pub fn description_answer() -> Vec<u8> {
    http_answer(&http::emit_get(&url("/rootDesc.xml")))
}

/// The request and the answer of GetExternalIPAddress, the one with something in it.
///
/// # Panics
/// The gateway offers no service.
pub fn action_answer() -> Vec<u8> {
    let description = plum_wire::igd::parse(&body(&description_answer())).expect("a description");
    let control_url = &description.services.first().expect("a service").control_url;
    let action = "GetExternalIPAddress";
    let text = soap::emit(SERVICE, action, &[]);
    http_answer(&http::emit_post(&url(control_url), &soap::soap_action(SERVICE, action), &text))
}

/// The body of an HTTP answer.
///
/// # Panics
/// It has none.
pub fn body(answer: &[u8]) -> Vec<u8> {
    let mut reader = http::ReplyReader::new(1 << 20);
    let reply = reader.push(answer).expect("an HTTP reply");
    reply.or_else(|| reader.finish().ok()).expect("a whole reply").body
}
