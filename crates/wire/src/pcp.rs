//! PCP, RFC 6887: the requests a client sends (MAP, ANNOUNCE) and the replies to them.
//!
//! Options are neither sent nor read: all that a server may add to the replies to our requests is optional information
//! (RFC 6887 §7.3), so bytes after the fixed part are ignored.

use super::{Malformed, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

/// UDP port on which servers take requests (RFC 6887 §19.1).
pub const SERVER_PORT: u16 = 5351;

/// UDP port on which clients receive the multicast announcements of servers (RFC 6887 §14.1.3, §19.1).
pub const CLIENT_PORT: u16 = 5350;

/// Length of an ANNOUNCE request or reply: the header alone.
pub const HEADER_LEN: usize = 24;

/// Length of a MAP request or reply without options.
pub const MAP_LEN: usize = 60;

/// No message is longer (RFC 6887 §7: 1100 octets).
pub const MAX_LEN: usize = 1100;

const VERSION: u8 = 2;

/// The R bit: set in replies (RFC 6887 §7.2).
const REPLY: u8 = 0x80;

/// Mapping nonce (RFC 6887 §11.1): proves that a reply, a renewal or a deletion belongs to a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 12]);

/// An opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// 0: asks for the epoch.
    Announce,
    /// 1: makes, renews or deletes a mapping.
    Map,
}

impl Opcode {
    const fn number(self) -> u8 {
        match self {
            Opcode::Announce => 0,
            Opcode::Map => 1,
        }
    }

    fn of_reply(octet: u8) -> Result<Opcode, Malformed> {
        [Opcode::Announce, Opcode::Map]
            .into_iter()
            .find(|opcode| octet == REPLY | opcode.number())
            .ok_or(Malformed)
    }
}

/// A result code (RFC 6887 §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum ResultCode {
    Success,
    UnsuppVersion,
    NotAuthorized,
    MalformedRequest,
    UnsuppOpcode,
    UnsuppOption,
    MalformedOption,
    NetworkFailure,
    NoResources,
    UnsuppProtocol,
    UserExQuota,
    CannotProvideExternal,
    AddressMismatch,
    ExcessiveRemotePeers,
    /// A code that RFC 6887 does not assign.
    Other(u8),
}

impl ResultCode {
    /// The code on the wire.
    pub const fn number(self) -> u8 {
        match self {
            ResultCode::Success => 0,
            ResultCode::UnsuppVersion => 1,
            ResultCode::NotAuthorized => 2,
            ResultCode::MalformedRequest => 3,
            ResultCode::UnsuppOpcode => 4,
            ResultCode::UnsuppOption => 5,
            ResultCode::MalformedOption => 6,
            ResultCode::NetworkFailure => 7,
            ResultCode::NoResources => 8,
            ResultCode::UnsuppProtocol => 9,
            ResultCode::UserExQuota => 10,
            ResultCode::CannotProvideExternal => 11,
            ResultCode::AddressMismatch => 12,
            ResultCode::ExcessiveRemotePeers => 13,
            ResultCode::Other(code) => code,
        }
    }
}

impl From<u8> for ResultCode {
    fn from(code: u8) -> ResultCode {
        match code {
            0 => ResultCode::Success,
            1 => ResultCode::UnsuppVersion,
            2 => ResultCode::NotAuthorized,
            3 => ResultCode::MalformedRequest,
            4 => ResultCode::UnsuppOpcode,
            5 => ResultCode::UnsuppOption,
            6 => ResultCode::MalformedOption,
            7 => ResultCode::NetworkFailure,
            8 => ResultCode::NoResources,
            9 => ResultCode::UnsuppProtocol,
            10 => ResultCode::UserExQuota,
            11 => ResultCode::CannotProvideExternal,
            12 => ResultCode::AddressMismatch,
            13 => ResultCode::ExcessiveRemotePeers,
            other => ResultCode::Other(other),
        }
    }
}

/// A MAP request (RFC 6887 §11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// The local address of the socket.
    pub client: IpAddr,
    /// The mapping's nonce.
    pub nonce: Nonce,
    /// TCP or UDP.
    pub transport: Transport,
    /// The internal port.
    pub internal_port: NonZeroU16,
    /// Suggested external port; `None`: no suggestion.
    pub suggested_port: Option<NonZeroU16>,
    /// Suggested external address; `None`: any of the client's address family.
    pub suggested_address: Option<IpAddr>,
    /// Requested lifetime; 0 deletes.
    pub lifetime_secs: u32,
}

impl MapRequest {
    /// The bytes of the request.
    pub fn emit(&self) -> [u8; MAP_LEN] {
        let mut bytes = [0; MAP_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&emit_header(Opcode::Map, self.lifetime_secs, self.client));
        bytes[field::NONCE].copy_from_slice(&self.nonce.0);
        bytes[field::PROTOCOL] = protocol_number(self.transport);
        bytes[field::INTERNAL_PORT].copy_from_slice(&self.internal_port.get().to_be_bytes());
        let port = self.suggested_port.map_or(0, NonZeroU16::get);
        bytes[field::EXTERNAL_PORT].copy_from_slice(&port.to_be_bytes());
        // RFC 6887 §11.1: "any" is the all-zeroes address of the wanted family, for IPv4 ::ffff:0.0.0.0.
        let any = match self.client {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = self.suggested_address.unwrap_or(any);
        bytes[field::EXTERNAL_ADDRESS].copy_from_slice(&emit_address(address));
        bytes
    }
}

/// The bytes of an ANNOUNCE request (RFC 6887 §14.1), which asks for the epoch.
pub fn emit_announce_request(client: IpAddr) -> [u8; HEADER_LEN] {
    emit_header(Opcode::Announce, 0, client)
}

/// The common header of replies (RFC 6887 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The result code.
    pub result: ResultCode,
    /// Lifetime of the mapping, or of the error.
    pub lifetime_secs: u32,
    /// The server's epoch time.
    pub epoch_secs: u32,
}

/// The MAP part of a reply (RFC 6887 §11.1). In an error it is copied from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// The nonce of the request.
    pub nonce: Nonce,
    /// TCP or UDP.
    pub transport: Transport,
    /// The internal port.
    pub internal_port: u16,
    /// Assigned external port; the suggested one in an error.
    pub external_port: u16,
    /// Assigned external address; the suggested one in an error.
    pub external_address: IpAddr,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To ANNOUNCE, or a multicast announcement.
    Announce(Header),
    /// To MAP.
    Map(Header, Map),
    /// UNSUPP_VERSION, with any version and length: servers that do not know PCP reply in NAT-PMP's form, some with
    /// PCP's version.
    UnsuppVersion {
        /// The version in the reply.
        version: u8,
    },
}

/// Parses a datagram from a server. Requests, replies of other versions or opcodes (except UNSUPP_VERSION), and lengths
/// that RFC 6887 §8.3 forbids are `Malformed`.
pub fn parse(bytes: &[u8]) -> Result<Reply, Malformed> {
    let &[version, opcode, high, low] = bytes.first_chunk().ok_or(Malformed)?;
    // RFC 6886 §3.5: the result code of NAT-PMP is 16 bits wide, and UNSUPP_VERSION is 1 in both protocols.
    if opcode & REPLY != 0 && low == 1 && (version != 0 || high == 0) {
        return Ok(Reply::UnsuppVersion { version });
    }
    let opcode = Opcode::of_reply(opcode)?;
    if version != VERSION || bytes.len() > MAX_LEN || !bytes.len().is_multiple_of(4) {
        return Err(Malformed);
    }
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed)?;
    let header = Header {
        result: ResultCode::from(head[3]),
        lifetime_secs: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        epoch_secs: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
    };
    match opcode {
        Opcode::Announce => Ok(Reply::Announce(header)),
        Opcode::Map => Ok(Reply::Map(header, parse_map(bytes.first_chunk().ok_or(Malformed)?)?)),
    }
}

/// Offsets, in the order of the message (RFC 6887 §7.1, §11.1).
mod field {
    use std::ops::Range;

    pub(super) const VERSION: usize = 0;
    pub(super) const OPCODE: usize = 1;
    pub(super) const LIFETIME: Range<usize> = 4..8;
    pub(super) const CLIENT_ADDRESS: Range<usize> = 8..24;
    pub(super) const NONCE: Range<usize> = 24..36;
    pub(super) const PROTOCOL: usize = 36;
    pub(super) const INTERNAL_PORT: Range<usize> = 40..42;
    pub(super) const EXTERNAL_PORT: Range<usize> = 42..44;
    pub(super) const EXTERNAL_ADDRESS: Range<usize> = 44..60;
}

fn emit_header(opcode: Opcode, lifetime_secs: u32, client: IpAddr) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[field::VERSION] = VERSION;
    bytes[field::OPCODE] = opcode.number();
    bytes[field::LIFETIME].copy_from_slice(&lifetime_secs.to_be_bytes());
    bytes[field::CLIENT_ADDRESS].copy_from_slice(&emit_address(client));
    bytes
}

fn parse_map(bytes: &[u8; MAP_LEN]) -> Result<Map, Malformed> {
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&bytes[field::NONCE]);
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[field::EXTERNAL_ADDRESS]);
    let transport = [Transport::Tcp, Transport::Udp]
        .into_iter()
        .find(|&transport| protocol_number(transport) == bytes[field::PROTOCOL])
        .ok_or(Malformed)?;
    Ok(Map {
        nonce: Nonce(nonce),
        transport,
        internal_port: u16::from_be_bytes([bytes[40], bytes[41]]),
        external_port: u16::from_be_bytes([bytes[42], bytes[43]]),
        external_address: Ipv6Addr::from(address).to_canonical(),
    })
}

/// IANA's number of a transport.
const fn protocol_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// RFC 6887 §5: all addresses are 128 bits wide, IPv4 ones IPv4-mapped.
fn emit_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests;
