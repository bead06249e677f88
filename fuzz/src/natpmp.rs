//! NAT-PMP replies and requests.

use arbitrary::Unstructured;
use plum_wire::Transport;
use plum_wire::natpmp::{self, MapRequest, Reply, ResultCode};
use std::num::NonZeroU16;

/// What the parser makes of any bytes says what stood in them; requests have their fields in place.
pub fn run(data: &[u8]) {
    if let Ok(reply) = natpmp::parse(data) {
        let written = write(reply);
        assert_eq!(natpmp::parse(&written), Ok(reply), "the same again, written by the standard");
        // Of an error the address may be missing; where it is there, it counts.
        let said = written.len().min(data.len());
        assert!(said >= if reply == Reply::SpeaksPcp { 4 } else { 8 });
        let is_reserved = |octet: usize| reply == Reply::SpeaksPcp && octet == 2;
        for octet in (0..said).filter(|&octet| !is_reserved(octet)) {
            let is_cut_address = data.len() < 12 && octet >= 8;
            assert!(is_cut_address || data[octet] == written[octet] || octet == 1, "octet {octet}");
        }
    }
    if let Ok(request) = request(&mut Unstructured::new(data)) {
        let bytes = request.emit();
        assert!(natpmp::parse(&bytes).is_err(), "a request is no reply");
        // RFC 6886 §3.3: opcode and ports stand at the same distance from each other in the answer.
        let answer = [&[0, bytes[1] + 128, 0, 0, 0, 0, 0, 9][..], &bytes[4..]].concat();
        let expected = Reply::Map {
            result: ResultCode::Success,
            epoch_secs: 9,
            transport: request.transport,
            internal_port: request.internal_port.get(),
            external_port: request.suggested_port.map_or(0, NonZeroU16::get),
            lifetime_secs: request.lifetime_secs,
        };
        assert_eq!(natpmp::parse(&answer), Ok(expected));
    }
}

fn request(u: &mut Unstructured<'_>) -> arbitrary::Result<MapRequest> {
    Ok(MapRequest {
        transport: if u.arbitrary()? { Transport::Tcp } else { Transport::Udp },
        internal_port: u.arbitrary()?,
        suggested_port: NonZeroU16::new(u.arbitrary()?),
        lifetime_secs: u.arbitrary()?,
    })
}

/// The octets of a reply, as RFC 6886 §3.2 and §3.3 draw them.
fn write(reply: Reply) -> Vec<u8> {
    let head = |opcode: u8, result: ResultCode, epoch_secs: u32| {
        [&[0, opcode][..], &code(result).to_be_bytes(), &epoch_secs.to_be_bytes()].concat()
    };
    match reply {
        Reply::SpeaksPcp => vec![2, 0x80, 0, 1],
        Reply::Address { result, epoch_secs, address } => {
            [head(128, result, epoch_secs), address.octets().into()].concat()
        }
        Reply::Map { result, epoch_secs, transport, internal_port, external_port, lifetime_secs } => {
            let opcode = if transport == Transport::Tcp { 130 } else { 129 };
            let mut bytes = head(opcode, result, epoch_secs);
            bytes.extend(internal_port.to_be_bytes());
            bytes.extend(external_port.to_be_bytes());
            bytes.extend(lifetime_secs.to_be_bytes());
            bytes
        }
        Reply::CutMapError { result, epoch_secs, transport } => {
            let opcode = if transport == Transport::Tcp { 130 } else { 129 };
            head(opcode, result, epoch_secs)
        }
    }
}

/// RFC 6886 §3.5. Not the library's table: the two are compared.
fn code(result: ResultCode) -> u16 {
    match result {
        ResultCode::Success => 0,
        ResultCode::UnsupportedVersion => 1,
        ResultCode::NotAuthorized => 2,
        ResultCode::NetworkFailure => 3,
        ResultCode::OutOfResources => 4,
        ResultCode::UnsupportedOpcode => 5,
        ResultCode::Other(code) => code,
    }
}
