//! PCP replies and requests.

use arbitrary::{Arbitrary, Unstructured};
use plum_wire::Transport;
use plum_wire::pcp::{self, Header, Map, MapRequest, Nonce, Reply, ResultCode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

/// What the parser makes of any bytes says what stood in them; requests have their fields in place.
pub fn run(data: &[u8]) {
    match pcp::parse(data) {
        Ok(Reply::UnsuppVersion { version }) => {
            assert!(data.len() >= 4, "RFC 6887 §9: of NAT-PMP's form, 4 octets at least");
            assert_eq!((data[0], data[1] & 0x80), (version, 0x80));
            // RFC 6886 §3.5: NAT-PMP's result code has 16 bits.
            assert!(data[3] == 1 && (version != 0 || data[2] == 0));
        }
        Ok(reply @ (Reply::Announce(header) | Reply::Map(header, _))) => {
            // RFC 6887 §8.3: 24 to 1100 octets and a multiple of 4.
            assert!((pcp::HEADER_LEN..=pcp::MAX_LEN).contains(&data.len()) && data.len().is_multiple_of(4));
            let map = match reply {
                Reply::Map(_, map) => Some(map),
                _ => None,
            };
            let written = write(header, map);
            assert_eq!(pcp::parse(&written), Ok(reply), "the same again, written by the standard");
            // All that means something stands in the bytes; the rest is reserved, or options.
            let meaning = [1..2, 3..12, 24..37, 40..60];
            assert_eq!((data[0], data[1]), (written[0], written[1]));
            for octets in meaning.into_iter().filter(|octets| octets.end <= written.len()) {
                assert_eq!(data[octets.clone()], written[octets.clone()], "octets {octets:?}");
            }
        }
        Err(_) => {}
    }
    requests(&mut Unstructured::new(data));
}

fn requests(u: &mut Unstructured<'_>) {
    let Ok(request) = request(u) else { return };
    let bytes = request.emit();
    assert!(pcp::parse(&bytes).is_err(), "a request is no reply");
    // RFC 6887 §11.1: an answer copies what the request says.
    let mut answer = bytes;
    answer[1] |= 0x80;
    let any = match request.client {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let header = Header {
        result: ResultCode::Success,
        lifetime_secs: request.lifetime_secs,
        // The client's address is where the epoch and the reserved octets of the answer are.
        epoch_secs: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
    };
    let map = Map {
        nonce: request.nonce,
        transport: request.transport,
        internal_port: request.internal_port.get(),
        external_port: request.suggested_port.map_or(0, NonZeroU16::get),
        external_address: request.suggested_address.unwrap_or(any).to_canonical(),
    };
    assert_eq!(pcp::parse(&answer), Ok(Reply::Map(header, map)));
    assert!(pcp::parse(&pcp::emit_announce_request(request.client)).is_err());
}

fn request(u: &mut Unstructured<'_>) -> arbitrary::Result<MapRequest> {
    Ok(MapRequest {
        transport: if u.arbitrary()? { Transport::Tcp } else { Transport::Udp },
        internal_port: Arbitrary::arbitrary(u)?,
        suggested_port: NonZeroU16::new(u.arbitrary()?),
        lifetime_secs: u.arbitrary()?,
        nonce: Nonce(u.arbitrary()?),
        client: u.arbitrary()?,
        suggested_address: u.arbitrary()?,
    })
}

/// The octets of a reply, as RFC 6887 §7.2 and §11.1 draw them.
fn write(header: Header, map: Option<Map>) -> Vec<u8> {
    let mut bytes = vec![2, if map.is_some() { 0x81 } else { 0x80 }, 0, code(header.result)];
    bytes.extend(header.lifetime_secs.to_be_bytes());
    bytes.extend(header.epoch_secs.to_be_bytes());
    bytes.extend([0; 12]);
    if let Some(map) = map {
        bytes.extend(map.nonce.0);
        bytes.extend([if map.transport == Transport::Tcp { 6 } else { 17 }, 0, 0, 0]);
        bytes.extend(map.internal_port.to_be_bytes());
        bytes.extend(map.external_port.to_be_bytes());
        bytes.extend(match map.external_address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        });
    }
    bytes
}

/// RFC 6887 §7.4. Not the library's table: the two are compared.
fn code(result: ResultCode) -> u8 {
    match result {
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
