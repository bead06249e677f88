//! NAT-PMP, RFC 6886: the requests a client sends and the replies to them.

use super::{Malformed, Transport};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

/// Length of an external address request.
pub const ADDRESS_REQUEST_LEN: usize = 2;

/// Length of a mapping request.
pub const MAP_REQUEST_LEN: usize = 12;

const VERSION: u8 = 0;

/// Set in the opcode of replies (RFC 6886 §3.5: "128 + x").
const REPLY: u8 = 128;

/// Opcodes of requests (RFC 6886 §3.2, §3.3).
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;

/// PCP's version (RFC 6887 §7.1), with which a PCP-only server replies.
const PCP_VERSION: u8 = 2;

/// A result code (RFC 6886 §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultCode {
    /// 0.
    Success,
    /// 1.
    UnsupportedVersion,
    /// 2: mapping is switched off, or not allowed to this host.
    NotAuthorized,
    /// 3: the gateway has no external address.
    NetworkFailure,
    /// 4: the gateway's table is full.
    OutOfResources,
    /// 5.
    UnsupportedOpcode,
    /// A code that RFC 6886 does not assign.
    Other(u16),
}

impl ResultCode {
    /// The code on the wire.
    pub const fn number(self) -> u16 {
        match self {
            ResultCode::Success => 0,
            ResultCode::UnsupportedVersion => 1,
            ResultCode::NotAuthorized => 2,
            ResultCode::NetworkFailure => 3,
            ResultCode::OutOfResources => 4,
            ResultCode::UnsupportedOpcode => 5,
            ResultCode::Other(code) => code,
        }
    }
}

impl From<u16> for ResultCode {
    fn from(code: u16) -> ResultCode {
        match code {
            0 => ResultCode::Success,
            1 => ResultCode::UnsupportedVersion,
            2 => ResultCode::NotAuthorized,
            3 => ResultCode::NetworkFailure,
            4 => ResultCode::OutOfResources,
            5 => ResultCode::UnsupportedOpcode,
            other => ResultCode::Other(other),
        }
    }
}

/// The bytes of an external address request (RFC 6886 §3.2).
pub const fn emit_address_request() -> [u8; ADDRESS_REQUEST_LEN] {
    [VERSION, ADDRESS]
}

/// The bytes of a request that deletes all of the client's mappings of a transport (RFC 6886 §3.4).
pub const fn emit_delete_all(transport: Transport) -> [u8; MAP_REQUEST_LEN] {
    [VERSION, map_opcode(transport), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A mapping request (RFC 6886 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// TCP or UDP.
    pub transport: Transport,
    /// The internal port.
    pub internal_port: NonZeroU16,
    /// Suggested external port; `None` (no suggestion) in deletions.
    pub suggested_port: Option<NonZeroU16>,
    /// Requested lifetime; 0 deletes.
    pub lifetime_secs: u32,
}

impl MapRequest {
    /// The bytes of the request.
    pub fn emit(&self) -> [u8; MAP_REQUEST_LEN] {
        let [i0, i1] = self.internal_port.get().to_be_bytes();
        let [e0, e1] = self.suggested_port.map_or(0, NonZeroU16::get).to_be_bytes();
        let [l0, l1, l2, l3] = self.lifetime_secs.to_be_bytes();
        // Bytes 2 and 3 are reserved.
        [VERSION, map_opcode(self.transport), 0, 0, i0, i1, e0, e1, l0, l1, l2, l3]
    }
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To an external address request, or a multicast announcement of a changed address.
    Address {
        /// The result code.
        result: ResultCode,
        /// Seconds since the start of the epoch.
        epoch_secs: u32,
        /// The external address; 0.0.0.0 in an error without one.
        address: Ipv4Addr,
    },
    /// To a mapping request.
    Map {
        /// The result code.
        result: ResultCode,
        /// Seconds since the start of the epoch.
        epoch_secs: u32,
        /// TCP or UDP.
        transport: Transport,
        /// The internal port.
        internal_port: u16,
        /// Assigned external port; 0 in a deletion.
        external_port: u16,
        /// Granted lifetime; 0: deleted.
        lifetime_secs: u32,
    },
    /// An error to a mapping request, cut off after the epoch, as some gateways do: it does not name the mapping.
    CutMapError {
        /// The result code, which is not `Success`.
        result: ResultCode,
        /// Seconds since the start of the epoch.
        epoch_secs: u32,
        /// TCP or UDP.
        transport: Transport,
    },
    /// A PCP server's reply to an unsupported version.
    SpeaksPcp,
}

/// Parses a datagram from a server. Requests and other versions or opcodes are `Malformed`, except PCP's version with
/// result 1. Bytes after the message are ignored.
pub fn parse(bytes: &[u8]) -> Result<Reply, Malformed> {
    let start: &[u8; 4] = bytes.first_chunk().ok_or(Malformed)?;
    let opcode = start[1].checked_sub(REPLY).ok_or(Malformed)?;
    let transport = match opcode {
        ADDRESS => None,
        MAP_UDP => Some(Transport::Udp),
        MAP_TCP => Some(Transport::Tcp),
        _ => return Err(Malformed),
    };
    match start[0] {
        VERSION => {}
        // RFC 6887 §7.2: in a PCP response the third octet is reserved and the fourth is the result code.
        PCP_VERSION if start[3] == 1 => return Ok(Reply::SpeaksPcp),
        _ => return Err(Malformed),
    }
    let result = ResultCode::from(u16::from_be_bytes([start[2], start[3]]));
    let whole_len = if transport.is_none() { 12 } else { 16 };
    if matches!(result, ResultCode::Other(_)) && bytes.len() != whole_len {
        // An unassigned code in a message of an unknown length is not NAT-PMP.
        return Err(Malformed);
    }
    let head: &[u8; 8] = bytes.first_chunk().ok_or(Malformed)?;
    let epoch_secs = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match transport {
        None => {
            let address = match bytes.get(8..12).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
                Some(octets) => Ipv4Addr::from(octets),
                // Some gateways cut off an error after the epoch.
                None if result != ResultCode::Success => Ipv4Addr::UNSPECIFIED,
                None => return Err(Malformed),
            };
            Ok(Reply::Address { result, epoch_secs, address })
        }
        Some(transport) => {
            let Some(all) = bytes.first_chunk::<16>() else {
                let is_error = result != ResultCode::Success;
                return if is_error {
                    Ok(Reply::CutMapError { result, epoch_secs, transport })
                } else {
                    Err(Malformed)
                };
            };
            Ok(Reply::Map {
                result,
                epoch_secs,
                transport,
                internal_port: u16::from_be_bytes([all[8], all[9]]),
                external_port: u16::from_be_bytes([all[10], all[11]]),
                lifetime_secs: u32::from_be_bytes([all[12], all[13], all[14], all[15]]),
            })
        }
    }
}

const fn map_opcode(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => MAP_UDP,
        Transport::Tcp => MAP_TCP,
    }
}

#[cfg(test)]
mod tests;
