//! PCP and NAT-PMP parsers: any bytes survive, and replies say what was written into them.
//!
//! More cases: `PROPTEST_CASES=100000 cargo test --test pcp_properties`.

use plum_wire::pcp::{MapRequest, Nonce, ResultCode, emit_announce_request};
use plum_wire::{Malformed, Transport, natpmp, pcp};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).to_canonical()),
    ]
}

/// Sixteen octets, as RFC 6887 §5 writes an address.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => [&[0; 10][..], &[0xff; 2], &v4.octets()].concat(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// As many as take a second without optimisation, or as PROPTEST_CASES says.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1000), ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_survive(bytes in vec(any::<u8>(), 0..1200)) {
        let _ = (pcp::parse(&bytes), natpmp::parse(&bytes));
    }

    #[test]
    fn any_bytes_behind_a_likely_start_survive(
        version in 0u8..4,
        opcode in prop_oneof![0u8..4, 128u8..132],
        result in 0u8..16,
        rest in vec(any::<u8>(), 0..1200),
    ) {
        let bytes = [&[version, opcode, 0, result][..], &rest].concat();
        if let Ok(pcp::Reply::Map(..)) = pcp::parse(&bytes) {
            prop_assert!(bytes.len() >= 60 && bytes.len() <= 1100 && bytes.len() % 4 == 0);
            prop_assert!(version == 2 && opcode == 129);
        }
        if let Ok(natpmp::Reply::Map { .. } | natpmp::Reply::Address { .. }) = natpmp::parse(&bytes) {
            prop_assert!(version == 0 && bytes.len() >= 8);
        }
    }

    #[test]
    fn pcp_map_requests_have_each_field_in_its_place(
        client in address(),
        nonce in any::<[u8; 12]>(),
        transport in transport(),
        internal_port in any::<NonZeroU16>(),
        suggested_port in any::<Option<NonZeroU16>>(),
        suggested_address in address(),
        lifetime_secs in any::<u32>(),
    ) {
        let bytes = MapRequest {
            client,
            nonce: Nonce(nonce),
            transport,
            internal_port,
            suggested_port,
            suggested_address: Some(suggested_address),
            lifetime_secs,
        }
        .emit();
        let expected = [
            &[2, 1, 0, 0][..],
            &lifetime_secs.to_be_bytes(),
            &octets(client),
            &nonce,
            &[if transport == Transport::Tcp { 6 } else { 17 }, 0, 0, 0],
            &internal_port.get().to_be_bytes(),
            &suggested_port.map_or(0, NonZeroU16::get).to_be_bytes(),
            &octets(suggested_address),
        ]
        .concat();
        prop_assert_eq!(&bytes[..], &expected[..]);
        // A request is no reply, whoever sends it back.
        prop_assert_eq!(pcp::parse(&bytes), Err(Malformed));
        prop_assert_eq!(pcp::parse(&emit_announce_request(client)), Err(Malformed));
    }

    #[test]
    fn pcp_map_replies_say_what_was_written(
        (result, lifetime_secs, epoch_secs) in any::<(u8, u32, u32)>(),
        reserved in any::<[u8; 12]>(),
        nonce in any::<[u8; 12]>(),
        transport in transport(),
        (internal_port, external_port) in any::<(u16, u16)>(),
        external_address in address(),
        options in vec(any::<[u8; 4]>(), 0..260),
    ) {
        let bytes = [
            &[2, 0x81, reserved[0], result][..],
            &lifetime_secs.to_be_bytes(),
            &epoch_secs.to_be_bytes(),
            &reserved,
            &nonce,
            &[if transport == Transport::Tcp { 6 } else { 17 }, reserved[1], reserved[2], reserved[3]],
            &internal_port.to_be_bytes(),
            &external_port.to_be_bytes(),
            &octets(external_address),
            options.as_flattened(),
        ]
        .concat();
        let header = pcp::Header { result: result.into(), lifetime_secs, epoch_secs };
        let map =
            pcp::Map { nonce: Nonce(nonce), transport, internal_port, external_port, external_address };
        // UNSUPP_VERSION is that whatever follows it: daemons fill the rest as they like.
        let expected = match header.result {
            ResultCode::UnsuppVersion => pcp::Reply::UnsuppVersion { version: 2 },
            _ => pcp::Reply::Map(header, map),
        };
        prop_assert_eq!(pcp::parse(&bytes), Ok(expected));
    }

    #[test]
    fn natpmp_requests_have_each_field_in_its_place(
        transport in transport(),
        internal_port in any::<NonZeroU16>(),
        suggested_port in any::<Option<NonZeroU16>>(),
        lifetime_secs in any::<u32>(),
    ) {
        let bytes = natpmp::MapRequest { transport, internal_port, suggested_port, lifetime_secs }.emit();
        let expected = [
            &[0, if transport == Transport::Tcp { 2 } else { 1 }, 0, 0][..],
            &internal_port.get().to_be_bytes(),
            &suggested_port.map_or(0, NonZeroU16::get).to_be_bytes(),
            &lifetime_secs.to_be_bytes(),
        ]
        .concat();
        prop_assert_eq!(&bytes[..], &expected[..]);
        prop_assert_eq!(natpmp::parse(&bytes), Err(Malformed));
    }

    #[test]
    fn natpmp_replies_say_what_was_written(
        (result, epoch_secs, lifetime_secs) in any::<(u16, u32, u32)>(),
        transport in transport(),
        (internal_port, external_port) in any::<(u16, u16)>(),
        address in any::<[u8; 4]>(),
        trailing in vec(any::<u8>(), 0..20),
    ) {
        let [r0, r1] = result.to_be_bytes();
        let result = result.into();
        // A code that no RFC has, in a message longer than any, is something else.
        let is_junk = matches!(result, natpmp::ResultCode::Other(_)) && !trailing.is_empty();
        let expected = |reply| if is_junk { Err(Malformed) } else { Ok(reply) };
        let map = [
            &[0, if transport == Transport::Tcp { 130 } else { 129 }, r0, r1][..],
            &epoch_secs.to_be_bytes(),
            &internal_port.to_be_bytes(),
            &external_port.to_be_bytes(),
            &lifetime_secs.to_be_bytes(),
            &trailing,
        ]
        .concat();
        prop_assert_eq!(natpmp::parse(&map), expected(natpmp::Reply::Map {
            result, epoch_secs, transport, internal_port, external_port, lifetime_secs,
        }));
        let public = [&[0, 128, r0, r1][..], &epoch_secs.to_be_bytes(), &address, &trailing].concat();
        prop_assert_eq!(natpmp::parse(&public), expected(natpmp::Reply::Address {
            result, epoch_secs, address: Ipv4Addr::from(address),
        }));
    }
}
