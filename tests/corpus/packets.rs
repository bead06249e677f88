//! PCP and NAT-PMP: one packet a file.

use crate::index::Row;
use crate::messages;
use plum_wire::pcp::{MapRequest, Nonce};
use plum_wire::{Malformed, Transport, natpmp, pcp};
use std::net::IpAddr;
use std::num::NonZeroU16;

/// Checks a number against a fact, if there is one.
#[track_caller]
fn agrees(row: &Row, word: &str, value: impl Into<u32>) {
    if row.fact(word).is_some() {
        assert_eq!(Some(value.into()), row.number(word), "{}: {word}", row.file);
    }
}

/// The first word of a fact.
fn word<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.fact(name)?.split(' ').next()
}

/// `60 bytes; version 2; opcode 129; result 8 NO_RESOURCES; ...`: all rows begin with the length.
fn check_length(row: &Row) {
    assert!(row.says(&format!("{} bytes", row.bytes.len())), "{}: {} bytes", row.file, row.bytes.len());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `1.2.3.4:1234` or `[2001:db8::1]:1234`, maybe without the port.
fn endpoint(text: &str) -> (IpAddr, Option<u16>) {
    if let Ok(address) = text.parse() {
        return (address, None);
    }
    let (address, port) = text.rsplit_once(':').expect("address and port");
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (address.parse().expect("an address"), port.parse().ok())
}

/// The names of PCP's result codes, by number, as RFC 6887 §7.4 lists them.
fn pcp_result(code: u32) -> pcp::ResultCode {
    use pcp::ResultCode as R;
    let named = [
        R::Success,
        R::UnsuppVersion,
        R::NotAuthorized,
        R::MalformedRequest,
        R::UnsuppOpcode,
        R::UnsuppOption,
        R::MalformedOption,
        R::NetworkFailure,
        R::NoResources,
        R::UnsuppProtocol,
        R::UserExQuota,
        R::CannotProvideExternal,
        R::AddressMismatch,
        R::ExcessiveRemotePeers,
    ];
    named.get(code as usize).copied().unwrap_or(R::Other(code.try_into().unwrap()))
}

#[test]
fn pcp_messages_parse_to_their_facts() {
    for row in messages("pcp") {
        check_length(&row);
        let parsed = pcp::parse(&row.bytes);
        if row.says("request") {
            assert_eq!(parsed, Err(Malformed), "{} is a request", row.file);
            check_pcp_request(&row);
        } else if row.says("option ignored") {
            // Refused or without the option: what is before it must not be misread.
            assert!(matches!(parsed, Err(Malformed) | Ok(pcp::Reply::Map(..))), "{}: {parsed:?}", row.file);
        } else if row.says("refused") {
            assert_eq!(parsed, Err(Malformed), "{}", row.file);
        } else {
            check_pcp_reply(&row, parsed.unwrap_or_else(|_| panic!("{} is refused", row.file)));
        }
        row.assert_all_read();
    }
}

fn check_pcp_reply(row: &Row, reply: pcp::Reply) {
    let header = match reply {
        pcp::Reply::UnsuppVersion { version } => {
            assert_eq!(row.number("result"), Some(1), "{}", row.file);
            assert_eq!(u32::from(version), row.number("version").unwrap_or(2), "{}", row.file);
            return;
        }
        pcp::Reply::Announce(header) => {
            assert_eq!(row.number("opcode"), Some(128), "{}", row.file);
            agrees(row, "version", 2u32);
            header
        }
        pcp::Reply::Map(header, map) => {
            agrees(row, "version", 2u32);
            agrees(row, "opcode", 129u32);
            agrees(row, "internal", map.internal_port);
            agrees(row, "protocol", if map.transport == Transport::Tcp { 6u32 } else { 17 });
            if let Some(nonce) = word(row, "nonce") {
                assert_eq!(hex(&map.nonce.0), nonce, "{}: nonce", row.file);
            }
            if let Some(external) = word(row, "external") {
                let (address, port) = endpoint(external);
                assert_eq!((map.external_address, Some(map.external_port)), (address, port), "{}", row.file);
            }
            header
        }
    };
    let code = row.number("result").expect("a result");
    assert_eq!(header.result, pcp_result(code), "{}: result", row.file);
    agrees(row, "lifetime", header.lifetime_secs);
    agrees(row, "epoch", header.epoch_secs);
    agrees(row, "error lifetime", header.lifetime_secs);
}

/// A request of another program, written by us from its facts.
fn check_pcp_request(row: &Row) {
    let nonce = word(row, "nonce").expect("a nonce");
    let nonce: Vec<u8> =
        (0..12).map(|at| u8::from_str_radix(&nonce[2 * at..2 * at + 2], 16).unwrap()).collect();
    let client: IpAddr = word(row, "client").expect("a client").parse().unwrap();
    let internal_port = row.number("internal").and_then(|port| NonZeroU16::new(port.try_into().ok()?));
    // Where the index does not say what is suggested, the bytes do.
    let suggested = word(row, "suggested").map(endpoint);
    let suggested_address = suggested.map(|(address, _)| address).or_else(|| match client {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => Some(IpAddr::from(<[u8; 16]>::try_from(&row.bytes[44..60]).unwrap())),
    });
    let port =
        suggested.and_then(|(_, port)| port).unwrap_or(u16::from_be_bytes([row.bytes[42], row.bytes[43]]));
    let emitted = MapRequest {
        client,
        nonce: Nonce(nonce.try_into().unwrap()),
        transport: match row.number("protocol") {
            Some(6) => Transport::Tcp,
            Some(17) => Transport::Udp,
            other => panic!("{}: protocol {other:?}", row.file),
        },
        internal_port: internal_port.expect("an internal port"),
        suggested_port: NonZeroU16::new(port),
        suggested_address,
        lifetime_secs: row.number("lifetime").expect("a lifetime"),
    }
    .emit();
    assert_eq!(hex(&emitted), hex(&row.bytes), "{}", row.file);
}

#[test]
fn natpmp_messages_parse_to_their_facts() {
    for row in messages("natpmp") {
        check_length(&row);
        let parsed = natpmp::parse(&row.bytes);
        if row.says("request") {
            assert_eq!(parsed, Err(Malformed), "{} is a request", row.file);
            check_natpmp_request(&row);
        } else if row.says("refused") {
            assert_eq!(parsed, Err(Malformed), "{}", row.file);
        } else if row.says("speaks PCP") {
            assert_eq!(parsed, Ok(natpmp::Reply::SpeaksPcp), "{}", row.file);
        } else {
            check_natpmp_reply(&row, parsed.unwrap_or_else(|_| panic!("{} is refused", row.file)));
        }
        row.assert_all_read();
    }
}

fn check_natpmp_reply(row: &Row, reply: natpmp::Reply) {
    let result = match reply {
        natpmp::Reply::SpeaksPcp => panic!("{} is not of PCP", row.file),
        natpmp::Reply::CutMapError { result, epoch_secs, transport } => {
            agrees(row, "epoch", epoch_secs);
            agrees(row, "opcode", if transport == Transport::Tcp { 130u32 } else { 129 });
            result
        }
        natpmp::Reply::Address { result, epoch_secs, address } => {
            agrees(row, "epoch", epoch_secs);
            if let Some(expected) = word(row, "external").or(word(row, "address")) {
                assert_eq!(address.to_string(), expected, "{}: address", row.file);
            }
            result
        }
        natpmp::Reply::Map { result, epoch_secs, transport, internal_port, external_port, lifetime_secs } => {
            agrees(row, "epoch", epoch_secs);
            agrees(row, "opcode", if transport == Transport::Tcp { 130u32 } else { 129 });
            agrees(row, "internal", internal_port);
            agrees(row, "external", external_port);
            agrees(row, "lifetime", lifetime_secs);
            result
        }
    };
    let code = u16::try_from(row.number("result").expect("a result")).unwrap();
    assert_eq!(result, natpmp::ResultCode::from(code), "{}: result", row.file);
    assert_eq!(result == natpmp::ResultCode::Success, code == 0, "{}: an error is an error", row.file);
    assert_eq!(
        result == natpmp::ResultCode::Other(code),
        code > 5,
        "{}: an unassigned code survives",
        row.file
    );
}

fn check_natpmp_request(row: &Row) {
    let emitted = match row.number("opcode").expect("an opcode") {
        0 => natpmp::emit_address_request().to_vec(),
        opcode => natpmp::MapRequest {
            transport: if opcode == 2 { Transport::Tcp } else { Transport::Udp },
            internal_port: NonZeroU16::new(row.number("internal").unwrap().try_into().unwrap()).unwrap(),
            suggested_port: NonZeroU16::new(row.number("external").unwrap().try_into().unwrap()),
            lifetime_secs: row.number("lifetime").unwrap(),
        }
        .emit()
        .to_vec(),
    };
    assert_eq!(hex(&emitted), hex(&row.bytes), "{}", row.file);
}
