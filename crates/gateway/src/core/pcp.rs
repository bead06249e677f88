//! PCP, the server's side (RFC 6887): MAP and ANNOUNCE. Options are ignored.

use super::{Gateway, Kind, PinholeKey, Protocol, Request, Spoken, Transport, be16, be32, natpmp};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;

// RFC 6887 §7.4
const SUCCESS: u8 = 0;
const UNSUPP_VERSION: u8 = 1;
const NOT_AUTHORIZED: u8 = 2;
const MALFORMED_REQUEST: u8 = 3;
const UNSUPP_OPCODE: u8 = 4;
const NO_RESOURCES: u8 = 8;
const UNSUPP_PROTOCOL: u8 = 9;
const ADDRESS_MISMATCH: u8 = 12;

/// RFC 6887 §7: no message is longer.
const MAX_REQUEST: usize = 1100;
/// RFC 6887 §7.4: long lifetime errors are expected to last, the others are soon over.
const LONG_LIFETIME: u32 = 1800;
pub(super) const SHORT_LIFETIME: u32 = 30;

pub(super) fn handle(gateway: &mut Gateway, from: SocketAddr, request: &[u8]) {
    // RFC 6887 §8.2: answers and what is shorter than 2 octets are dropped silently.
    let &[version, opcode, ..] = request else {
        gateway.count(Kind::Other, from, None, None);
        return gateway.complain(format!("PCP: {} octets from {from}", request.len()));
    };
    if opcode & 0x80 != 0 {
        gateway.count(Kind::Other, from, None, None);
        return gateway.complain(format!("PCP: an answer, not a request, from {from}"));
    }
    let lifetime = be32(request, 4);
    let internal_port = be16(request, 40).filter(|_| opcode == MAP);
    let kind = match (version, opcode) {
        (2, ANNOUNCE) => Kind::PcpAnnounce,
        (2, MAP) if lifetime == Some(0) => Kind::PcpDelete,
        (2, MAP) => Kind::PcpMap,
        _ => Kind::Other,
    };
    let asked = Request {
        transport: match request.get(36) {
            Some(6) if opcode == MAP => Some(Transport::Tcp),
            Some(17) if opcode == MAP => Some(Transport::Udp),
            _ => None,
        },
        internal_port,
        external_port: be16(request, 42).filter(|_| opcode == MAP),
        lifetime,
        ..Request::of(gateway, kind, from)
    };
    let script = gateway.ask_scripts(&asked);
    gateway.answer_datagram(from, request, script, |gateway, code| {
        gateway.count(kind, from, internal_port, lifetime);
        answer(gateway, from, kind, request, code)
    });
}

/// The reply to a request.
fn answer(
    gateway: &mut Gateway,
    from: SocketAddr,
    kind: Kind,
    request: &[u8],
    code: Option<i32>,
) -> Option<Vec<u8>> {
    let (version, opcode) = (request[0], request[1]);
    if gateway.faults.silence.pcp.strike() {
        return None;
    }
    if let Spoken::UnsuppVersion(version) = gateway.faults.pcp {
        return Some(unsupp_version(version, opcode, gateway.epoch()));
    }
    if version != 2 {
        return Some(unsupp_version(2, opcode, gateway.epoch()));
    }
    let internal_port = be16(request, 40).filter(|_| opcode == MAP);
    let refusal = gateway.faults.refusal(kind, internal_port);
    let refusal =
        code.and_then(|code| u16::try_from(code).ok()).map(|code| (code, SHORT_LIFETIME)).or(refusal);
    let (result, lifetime, body) = match refusal {
        Some((code, lifetime)) => (code as u8, lifetime, None),
        None => carry_out(gateway, from, opcode, request),
    };
    if result != SUCCESS {
        let text = format!("PCP: result {result} to {} from {from}", kind.name());
        gateway.complain(text);
    }
    let mut reply = header(opcode, result, lifetime, gateway.epoch());
    match body {
        Some(body) => reply.extend_from_slice(&body),
        // RFC 6887 §8.2: an error copies the request; its length stays a multiple of four.
        None => {
            let end = request.len().min(MAX_REQUEST);
            reply.extend_from_slice(request.get(24..end).unwrap_or(&[]));
            reply.resize(reply.len().next_multiple_of(4), 0);
        }
    }
    if opcode == MAP
        && gateway.faults.wrong_nonce.strike()
        && let Some(octet) = reply.get_mut(24)
    {
        *octet ^= 0xff;
    }
    if opcode == MAP
        && gateway.faults.wrong_internal_port.strike()
        && let Some(octet) = reply.get_mut(41)
    {
        *octet ^= 0xff;
    }
    Some(reply)
}

/// Result code, lifetime and opcode-specific part of the answer.
fn carry_out(
    gateway: &mut Gateway,
    from: SocketAddr,
    opcode: u8,
    request: &[u8],
) -> (u8, u32, Option<Vec<u8>>) {
    if request.len() < 24 || request.len() > MAX_REQUEST || !request.len().is_multiple_of(4) {
        return (MALFORMED_REQUEST, LONG_LIFETIME, None);
    }
    if opcode != ANNOUNCE && opcode != MAP {
        return (UNSUPP_OPCODE, LONG_LIFETIME, None);
    }
    // RFC 6887 §8.2: a client address that is not the packet's source means a NAT in between.
    if client_address(&request[8..24]) != Some(from.ip()) {
        return (ADDRESS_MISMATCH, LONG_LIFETIME, None);
    }
    match opcode {
        ANNOUNCE => (SUCCESS, 0, Some(Vec::new())),
        _ => map(gateway, from, request),
    }
}

fn map(gateway: &mut Gateway, from: SocketAddr, request: &[u8]) -> (u8, u32, Option<Vec<u8>>) {
    let Some((nonce, suggested_address)) = request.get(24..36).zip(request.get(44..60)) else {
        return (MALFORMED_REQUEST, LONG_LIFETIME, None);
    };
    let nonce: [u8; 12] = nonce.try_into().expect("12 octets");
    let (Some(lifetime), Some(internal_port), Some(suggested_port)) =
        (be32(request, 4), be16(request, 40), be16(request, 42))
    else {
        return (MALFORMED_REQUEST, LONG_LIFETIME, None);
    };
    let transport = match request[36] {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return (UNSUPP_PROTOCOL, LONG_LIFETIME, None),
    };
    if internal_port == 0 {
        return (MALFORMED_REQUEST, LONG_LIFETIME, None);
    }
    let internal = SocketAddr::new(from.ip(), internal_port);
    if let Some(key) = gateway.pinhole_key(transport, internal) {
        return pinhole(gateway, key, nonce, lifetime, request);
    }
    // RFC 6887 §11.3: a mapping is renewed and deleted by the nonce it was made with, only.
    let foreign = |m: &super::TableEntry| m.nonce.is_some_and(|theirs| theirs != nonce);
    let is_lenient = gateway.faults.deletes_as_miniupnpd;
    if is_lenient && lifetime == 0 {
        let ports: Vec<u16> = gateway
            .table()
            .of_internal(transport, internal)
            .filter(|m| !foreign(m))
            .map(|m| m.external_port)
            .collect();
        if ports.is_empty() {
            let is_there = gateway.table().of_internal(transport, internal).next().is_some();
            return (if is_there { NOT_AUTHORIZED } else { NO_RESOURCES }, SHORT_LIFETIME, None);
        }
        for port in ports {
            gateway.table_mut().remove(transport, port);
        }
        return (SUCCESS, 0, Some(body(request, suggested_port, suggested_address)));
    }
    if gateway.table().of_internal(transport, internal).any(foreign) && !is_lenient {
        return (NOT_AUTHORIZED, LONG_LIFETIME, None);
    }
    if lifetime == 0 {
        let left = gateway.remove_internal(transport, internal, Protocol::Pcp);
        return (SUCCESS, left, Some(body(request, suggested_port, suggested_address)));
    }
    match gateway.grant(transport, internal, suggested_port, lifetime, Protocol::Pcp, Some(nonce)) {
        None => (NO_RESOURCES, SHORT_LIFETIME, None),
        Some((port, lifetime)) => {
            let address = gateway.config().external_address.to_ipv6_mapped().octets();
            (SUCCESS, lifetime, Some(body(request, port, &address)))
        }
    }
}

/// MAP of an IPv6 client: the firewall lets through what comes to its own address and port.
fn pinhole(
    gateway: &mut Gateway,
    key: PinholeKey,
    nonce: [u8; 12],
    lifetime: u32,
    request: &[u8],
) -> (u8, u32, Option<Vec<u8>>) {
    let (client, port) = (key.client, key.port);
    let theirs = gateway.pinholes().get(&key).and_then(|pinhole| pinhole.nonce);
    let is_let_pass = lifetime > 0 && gateway.faults.nonce_guards_deletion_only;
    if theirs.is_some_and(|theirs| theirs != nonce) && !is_let_pass {
        return (NOT_AUTHORIZED, LONG_LIFETIME, None);
    }
    if lifetime == 0 {
        gateway.pinholes_mut().remove(&key);
        return (SUCCESS, 0, Some(request[24..60].to_vec()));
    }
    match gateway.grant_pinhole(key, lifetime, nonce) {
        None => (NO_RESOURCES, SHORT_LIFETIME, None),
        Some(lifetime) => (SUCCESS, lifetime, Some(body(request, port, &client.octets()))),
    }
}

/// The answer's part of MAP: the request's, with the external port and address.
fn body(request: &[u8], port: u16, address: &[u8]) -> Vec<u8> {
    let mut body = request[24..42].to_vec();
    body.extend_from_slice(&port.to_be_bytes());
    body.extend_from_slice(address);
    body
}

/// An unsolicited ANNOUNCE answer (RFC 6887 §14.1.3).
pub(super) fn announcement(epoch: u32) -> Vec<u8> {
    header(ANNOUNCE, SUCCESS, 0, epoch)
}

/// The answer of a server that does not speak the request's version, in the form of `version`.
pub(super) fn unsupp_version(version: u8, opcode: u8, epoch: u32) -> Vec<u8> {
    if version < 2 {
        return natpmp::error(version, opcode, u16::from(UNSUPP_VERSION), epoch);
    }
    header(opcode, UNSUPP_VERSION, LONG_LIFETIME, epoch)
}

fn header(opcode: u8, result: u8, lifetime: u32, epoch: u32) -> Vec<u8> {
    let mut bytes = vec![2, opcode | 0x80, 0, result];
    bytes.extend_from_slice(&lifetime.to_be_bytes());
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.resize(24, 0);
    bytes
}

fn client_address(octets: &[u8]) -> Option<IpAddr> {
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
    Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}
