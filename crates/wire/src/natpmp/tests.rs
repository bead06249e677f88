//! Bytes here are written out by hand from RFC 6886, row by row, never by the code under test.

use super::*;

const ADDRESS_REPLY: [u8; 12] = [
    0, 128, 0, 0, // version, opcode, SUCCESS
    0, 0x01, 0x00, 0x02, // epoch 65538
    203, 0, 113, 7,
];

const MAP_REPLY: [u8; 16] = [
    0, 130, 0, 0, // version, TCP, SUCCESS
    0, 0x01, 0x00, 0x02, // epoch 65538
    0x12, 0x34, 0x56, 0x78, // internal port, assigned external port
    0, 0, 0x0e, 0x10, // lifetime 3600
];

#[test]
fn address_request_is_two_zero_bytes() {
    assert_eq!(emit_address_request(), [0, 0]);
}

#[test]
fn map_request_has_the_bytes_of_the_standard() {
    let request = MapRequest {
        transport: Transport::Udp,
        internal_port: NonZeroU16::new(0x1234).unwrap(),
        suggested_port: NonZeroU16::new(0x5678),
        lifetime_secs: 7200,
    };
    assert_eq!(request.emit(), [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20]);
    let deletion =
        MapRequest { transport: Transport::Tcp, suggested_port: None, lifetime_secs: 0, ..request };
    assert_eq!(deletion.emit(), [0, 2, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0]);
    assert_eq!(emit_delete_all(Transport::Udp), [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn result_codes_keep_their_numbers() {
    for code in 0..8 {
        assert_eq!(ResultCode::from(code).number(), code);
    }
}

#[test]
fn reads_address_reply() {
    assert_eq!(
        parse(&ADDRESS_REPLY),
        Ok(Reply::Address {
            result: ResultCode::Success,
            epoch_secs: 65538,
            address: Ipv4Addr::new(203, 0, 113, 7),
        })
    );
}

#[test]
fn reads_map_reply() {
    let expected = |transport| {
        Ok(Reply::Map {
            result: ResultCode::Success,
            epoch_secs: 65538,
            transport,
            internal_port: 0x1234,
            external_port: 0x5678,
            lifetime_secs: 3600,
        })
    };
    let mut bytes = MAP_REPLY;
    assert_eq!(parse(&bytes), expected(Transport::Tcp));
    bytes[1] = 129;
    assert_eq!(parse(&bytes), expected(Transport::Udp));
}

#[test]
fn every_prefix_of_a_reply_is_refused() {
    for reply in [&ADDRESS_REPLY[..], &MAP_REPLY] {
        for len in 0..reply.len() {
            assert_eq!(parse(&reply[..len]), Err(Malformed), "prefix of {len} octets");
        }
    }
}

#[test]
fn an_error_to_the_address_request_may_end_after_the_epoch() {
    let error = Reply::Address {
        result: ResultCode::NetworkFailure,
        epoch_secs: 100,
        address: Ipv4Addr::UNSPECIFIED,
    };
    let bytes = [0, 128, 0, 3, 0, 0, 0, 100, 0, 0, 0, 0];
    for len in 8..=12 {
        assert_eq!(parse(&bytes[..len]), Ok(error), "{len} octets");
    }
    assert_eq!(parse(&bytes[..7]), Err(Malformed));
}

#[test]
fn refuses_requests_other_opcodes_and_versions() {
    for (at, value) in [(1, 0), (1, 2), (1, 127), (1, 131), (1, 255), (0, 1), (0, 2), (0, 255)] {
        let mut bytes = MAP_REPLY;
        bytes[at] = value;
        assert_eq!(parse(&bytes), Err(Malformed), "octet {at} is {value}");
    }
}

#[test]
fn a_pcp_server_is_told_by_version_2_and_result_1() {
    for opcode in [128, 129, 130] {
        assert_eq!(parse(&[2, opcode, 0x5c, 1]), Ok(Reply::SpeaksPcp));
        assert_eq!(parse(&[2, opcode, 0, 0]), Err(Malformed));
        assert_eq!(parse(&[2, opcode, 0]), Err(Malformed));
    }
    assert_eq!(parse(&[2, 131, 0, 1]), Err(Malformed));
}

#[test]
fn every_result_code_survives() {
    let mut seen = std::collections::BTreeSet::new();
    for code in [0u16, 1, 2, 3, 4, 5, 6, 17, 66, 255, 256, 0xffff] {
        let mut bytes = MAP_REPLY;
        bytes[2..4].copy_from_slice(&code.to_be_bytes());
        let Ok(Reply::Map { result, .. }) = parse(&bytes) else { panic!("result {code} is not read") };
        assert!(seen.insert(format!("{result:?}")), "result {code} is taken for another");
        assert_eq!(result == ResultCode::Other(code), code > 5, "result {code}");
    }
}

#[test]
fn a_map_error_that_is_cut_short_is_read_as_far_as_it_goes() {
    let cut = [0, 129, 0, 4, 0, 0, 0, 7];
    let reply =
        Reply::CutMapError { result: ResultCode::OutOfResources, epoch_secs: 7, transport: Transport::Udp };
    assert_eq!(parse(&cut), Ok(reply));
    assert_eq!(parse(&cut[..7]), Err(Malformed));
    // A success that does not say what was mapped is none.
    assert_eq!(parse(&[0, 129, 0, 0, 0, 0, 0, 7]), Err(Malformed));
}
