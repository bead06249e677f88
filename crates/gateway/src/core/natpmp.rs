//! NAT-PMP, the server's side (RFC 6886).

use super::{Gateway, Kind, Protocol, Request, Spoken, Transport, be16, be32, pcp};
use std::net::{Ipv4Addr, SocketAddr};

const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;

// RFC 6886 §3.5
const SUCCESS: u16 = 0;
const NETWORK_FAILURE: u16 = 3;
const OUT_OF_RESOURCES: u16 = 4;
const UNSUPPORTED_OPCODE: u16 = 5;

pub(super) fn handle(gateway: &mut Gateway, from: SocketAddr, request: &[u8]) {
    let &[_, opcode, ..] = request else {
        gateway.count(Kind::Other, from, None, None);
        return gateway.complain(format!("NAT-PMP: {} octets from {from}", request.len()));
    };
    // RFC 6886 §3.5: opcodes from 128 up are answers.
    if opcode >= 128 {
        gateway.count(Kind::Other, from, None, None);
        return gateway.complain(format!("NAT-PMP: an answer, not a request, from {from}"));
    }
    let maps = opcode == MAP_UDP || opcode == MAP_TCP;
    let internal_port = be16(request, 4).filter(|_| maps);
    let lifetime = be32(request, 8).filter(|_| maps);
    let kind = match opcode {
        ADDRESS => Kind::NatPmpAddress,
        MAP_UDP | MAP_TCP if lifetime == Some(0) => Kind::NatPmpDelete,
        MAP_UDP | MAP_TCP => Kind::NatPmpMap,
        _ => Kind::Other,
    };
    let request_of = Request {
        transport: maps.then_some(if opcode == MAP_TCP { Transport::Tcp } else { Transport::Udp }),
        internal_port,
        external_port: be16(request, 6).filter(|_| maps),
        lifetime,
        ..Request::of(gateway, kind, from)
    };
    let script = gateway.ask_scripts(&request_of);
    gateway.answer_datagram(from, request, script, |gateway, code| {
        gateway.count(kind, from, internal_port, lifetime);
        answer(gateway, from, &request_of, opcode, request, code)
    });
}

/// The reply to a request, of which `asked` is what was read of it.
fn answer(
    gateway: &mut Gateway,
    from: SocketAddr,
    asked: &Request,
    opcode: u8,
    request: &[u8],
    code: Option<i32>,
) -> Option<Vec<u8>> {
    if gateway.faults.silence.natpmp.strike() {
        return None;
    }
    if let Spoken::UnsuppVersion(version) = gateway.faults.natpmp {
        return Some(pcp::unsupp_version(version, opcode, gateway.epoch()));
    }
    let (kind, internal_port) = (asked.kind, asked.internal_port);
    let refusal = gateway.faults.refusal(kind, internal_port).map(|(code, _)| code);
    let refusal = code.and_then(|code| u16::try_from(code).ok()).or(refusal);
    let mut reply = match (opcode, refusal) {
        (_, Some(code)) => Err(code),
        (ADDRESS, _) if gateway.config().external_address.is_unspecified() => Err(NETWORK_FAILURE),
        (ADDRESS, _) => Ok(address_reply(gateway.epoch(), gateway.config().external_address)),
        (MAP_UDP, _) => map(gateway, from, Transport::Udp, request),
        (MAP_TCP, _) => map(gateway, from, Transport::Tcp, request),
        _ => Err(UNSUPPORTED_OPCODE),
    }
    .unwrap_or_else(|code| {
        gateway.complain(format!("NAT-PMP: result {code} to {} from {from}", kind.name()));
        let mut bytes = error(0, opcode, code, gateway.epoch());
        if asked.transport.is_some() {
            // RFC 6886 §3.3: the answer names the internal port, in failure too.
            bytes.extend_from_slice(&internal_port.unwrap_or(0).to_be_bytes());
            bytes.resize(16, 0);
        }
        bytes
    });
    if asked.transport.is_some() && gateway.faults.wrong_internal_port.strike() {
        reply[9] ^= 0xff;
    }
    Some(reply)
}

fn map(
    gateway: &mut Gateway,
    from: SocketAddr,
    transport: Transport,
    request: &[u8],
) -> Result<Vec<u8>, u16> {
    // RFC 6886 names no code for a request of the wrong length; this one is taken for it.
    let (Some(internal_port), Some(suggested_port), Some(lifetime), 12) =
        (be16(request, 4), be16(request, 6), be32(request, 8), request.len())
    else {
        return Err(UNSUPPORTED_OPCODE);
    };
    let internal = SocketAddr::new(from.ip(), internal_port);
    let (port, lifetime) = if lifetime > 0 {
        gateway
            .grant(transport, internal, suggested_port, lifetime, Protocol::NatPmp, None)
            .ok_or(OUT_OF_RESOURCES)?
    } else if internal_port > 0 {
        (0, gateway.remove_internal(transport, internal, Protocol::NatPmp))
    } else {
        // RFC 6886 §3.4: internal port 0 deletes all of the client's mappings of the transport.
        let theirs = |m: &&super::TableEntry| {
            m.transport == transport
                && m.internal.ip() == from.ip()
                && gateway.is_deleted_by(m, Protocol::NatPmp)
        };
        let ports: Vec<u16> = gateway.table().iter().filter(theirs).map(|m| m.external_port).collect();
        for port in ports {
            gateway.table_mut().remove(transport, port);
        }
        (0, 0)
    };
    let opcode = if transport == Transport::Udp { MAP_UDP } else { MAP_TCP };
    let mut bytes = error(0, opcode, SUCCESS, gateway.epoch());
    bytes.extend_from_slice(&internal_port.to_be_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&lifetime.to_be_bytes());
    Ok(bytes)
}

/// The answer to an external address request; by multicast, the announcement of a changed one.
pub(super) fn address_reply(epoch: u32, external_address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = error(0, ADDRESS, SUCCESS, epoch);
    bytes.extend_from_slice(&external_address.octets());
    bytes
}

/// The part that all answers begin with, and errors end with.
pub(super) fn error(version: u8, opcode: u8, result: u16, epoch: u32) -> Vec<u8> {
    let mut bytes = vec![version, opcode | 0x80];
    bytes.extend_from_slice(&result.to_be_bytes());
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes
}
