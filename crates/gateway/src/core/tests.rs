//! The core against bytes written out by hand from the standards.

mod faults;
mod firewall;
mod natpmp;
mod pcp;
mod pinholes;
mod scripts;
mod table;
mod upnp;

use super::*;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn new_gateway() -> Gateway {
    Gateway::new(Config::at(GATEWAY), Duration::ZERO)
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::new(CLIENT, port)
}

/// `"02 81 ..."` as bytes; `|` and line breaks only separate.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What the gateway sends by `now`, with nothing about from where.
fn sent(gateway: &mut Gateway, now: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(output) = gateway.poll_output(now) {
        match output {
            Output::Send { to, bytes, .. } => sent.push((to, bytes)),
            other => panic!("{other:?}"),
        }
    }
    sent
}

/// Asks at UDP 5351, and gives the answers that come at once.
fn ask(gateway: &mut Gateway, now: Duration, request: &[u8]) -> Vec<Vec<u8>> {
    gateway.handle_datagram(now, UdpPort::Pcp, client(40_000), request);
    let answers = sent(gateway, now);
    answers
        .into_iter()
        .map(|(to, bytes)| {
            assert_eq!(to, client(40_000));
            bytes
        })
        .collect()
}

/// The one answer to a request.
fn ask_one(gateway: &mut Gateway, now: Duration, request: &[u8]) -> Vec<u8> {
    let mut answers = ask(gateway, now, request);
    assert_eq!(answers.len(), 1, "{answers:02x?}");
    answers.remove(0)
}

/// PCP MAP for TCP port 8000 (1f40), suggested 8000, of the client 192.168.1.100 with this nonce octet.
fn pcp_map(nonce: u8, lifetime: u32) -> Vec<u8> {
    let mut request = hex("02 01 0000 | 00000000 | 00000000 00000000 0000ffff c0a80164 |
         00000000 00000000 00000000 | 06 000000 | 1f40 1f40 | 00000000 00000000 0000ffff 00000000");
    request[4..8].copy_from_slice(&lifetime.to_be_bytes());
    request[24..36].fill(nonce);
    request
}

/// NAT-PMP map for TCP port 8000, suggested 8000.
fn natpmp_map(lifetime: u32) -> Vec<u8> {
    let mut request = hex("00 02 0000 1f40 1f40 00000000");
    request[8..12].copy_from_slice(&lifetime.to_be_bytes());
    request
}

/// External port, internal port and end of every mapping, in seconds.
fn mapped(gateway: &Gateway) -> Vec<(u16, u16, Option<u64>)> {
    let entry = |m: &TableEntry| (m.external_port, m.internal.port(), m.expires_at.map(|at| at.as_secs()));
    gateway.table().iter().map(entry).collect()
}
