//! Bytes here are written out by hand from RFC 6887, row by row, never by the code under test.

use super::*;

const NONCE: Nonce = Nonce([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab]);

fn request() -> MapRequest {
    MapRequest {
        client: IpAddr::from([192, 168, 1, 20]),
        nonce: NONCE,
        transport: Transport::Udp,
        internal_port: NonZeroU16::new(0x1234).unwrap(),
        suggested_port: NonZeroU16::new(0x5678),
        suggested_address: Some(IpAddr::from([203, 0, 113, 7])),
        lifetime_secs: 7200,
    }
}

#[rustfmt::skip]
fn map_reply() -> Vec<u8> {
    vec![
        2, 0x81, 0x5c, 0,                                // version, R + MAP, reserved (poisoned), SUCCESS
        0, 0, 0x0e, 0x10,                                // lifetime 3600
        0, 0x01, 0x00, 0x02,                             // epoch 65538
        0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c,  // reserved (poisoned)
        0x5c, 0x5c, 0x5c, 0x5c,
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,  // nonce
        0xa8, 0xa9, 0xaa, 0xab,
        6, 0x5c, 0x5c, 0x5c,                             // TCP, reserved (poisoned)
        0x12, 0x34, 0x56, 0x78,                          // internal port, assigned external port
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,        // assigned external address
        198, 51, 100, 23,
    ]
}

#[test]
#[rustfmt::skip]
fn map_request_has_the_bytes_of_the_standard() {
    assert_eq!(request().emit(), [
        2, 1, 0, 0,                                      // version, MAP, reserved
        0, 0, 0x1c, 0x20,                                // lifetime 7200
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,        // client ::ffff:192.168.1.20
        192, 168, 1, 20,
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,  // nonce
        0xa8, 0xa9, 0xaa, 0xab,
        17, 0, 0, 0,                                     // UDP, reserved
        0x12, 0x34, 0x56, 0x78,                          // internal port, suggested external port
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff,        // suggested external ::ffff:203.0.113.7
        203, 0, 113, 7,
    ]);
}

#[test]
fn deletion_suggests_port_zero_and_any_address_of_the_family() {
    let deletion =
        MapRequest { suggested_port: None, suggested_address: None, lifetime_secs: 0, ..request() };
    let bytes = deletion.emit();
    assert_eq!(bytes[4..8], [0; 4]);
    assert_eq!(bytes[42..44], [0; 2]);
    assert_eq!(bytes[44..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);

    let client = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let bytes = MapRequest { client, ..deletion }.emit();
    assert_eq!(bytes[8..24], [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[44..], [0; 16]);
}

#[test]
#[rustfmt::skip]
fn announce_request_is_the_header_alone() {
    assert_eq!(emit_announce_request(IpAddr::from([10, 0, 0, 2])), [
        2, 0, 0, 0,
        0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2,
    ]);
}

#[test]
fn reads_map_reply_and_passes_over_reserved_bytes() {
    let header = Header { result: ResultCode::Success, lifetime_secs: 3600, epoch_secs: 65538 };
    let map = Map {
        nonce: NONCE,
        transport: Transport::Tcp,
        internal_port: 0x1234,
        external_port: 0x5678,
        external_address: IpAddr::from([198, 51, 100, 23]),
    };
    assert_eq!(parse(&map_reply()), Ok(Reply::Map(header, map)));
}

#[test]
fn reads_external_ipv6_address() {
    let mut bytes = map_reply();
    bytes[44..60].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let Ok(Reply::Map(_, map)) = parse(&bytes) else { panic!("not a MAP reply") };
    assert_eq!(map.external_address, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)));
}

#[test]
fn every_prefix_of_a_map_reply_is_refused() {
    let bytes = map_reply();
    for len in 0..bytes.len() {
        assert_eq!(parse(&bytes[..len]), Err(Malformed), "prefix of {len} octets");
    }
}

#[test]
fn every_prefix_of_an_announce_reply_is_refused_and_the_whole_read() {
    let mut bytes = map_reply();
    bytes[1] = 0x80;
    for len in 0..24 {
        assert_eq!(parse(&bytes[..len]), Err(Malformed), "prefix of {len} octets");
    }
    let header = Header { result: ResultCode::Success, lifetime_secs: 3600, epoch_secs: 65538 };
    assert_eq!(parse(&bytes[..24]), Ok(Reply::Announce(header)));
}

#[test]
fn options_are_passed_over_up_to_1100_octets() {
    let mut bytes = map_reply();
    let whole = parse(&bytes);
    bytes.extend([200, 0, 0xff, 0xff]); // an option that claims more than there is
    assert_eq!(parse(&bytes), whole);
    bytes.resize(1100, 0x5c);
    assert_eq!(parse(&bytes), whole);
    bytes.resize(1104, 0x5c);
    assert_eq!(parse(&bytes), Err(Malformed));
}

#[test]
fn refuses_lengths_that_are_no_multiple_of_four() {
    let mut bytes = map_reply();
    for _ in 0..3 {
        bytes.push(0);
        assert_eq!(parse(&bytes), Err(Malformed));
    }
}

#[test]
fn refuses_requests_other_opcodes_versions_and_transports() {
    for (at, value) in
        [(1, 0x01), (1, 0x82), (1, 0xff), (0, 0), (0, 1), (0, 3), (0, 0xff), (36, 0), (36, 132)]
    {
        let mut bytes = map_reply();
        bytes[at] = value;
        assert_eq!(parse(&bytes), Err(Malformed), "octet {at} is {value}");
    }
}

#[test]
fn unsupp_version_is_read_in_all_its_forms_and_no_other() {
    let map = |version| Ok(Reply::UnsuppVersion { version });
    assert_eq!(parse(&[0, 0x81, 0, 1]), map(0));
    assert_eq!(parse(&[0, 0x81, 0, 1, 0, 0, 0xc0, 0xde]), map(0));
    assert_eq!(parse(&[0, 0x81, 0, 1, 7]), map(0), "NAT-PMP knows no multiple of four");
    assert_eq!(parse(&[1, 0x81, 0x5c, 1]), map(1));
    assert_eq!(parse(&[0, 0x80, 0, 1]), map(0));
    assert_eq!(parse(&[2, 0x81, 0, 1, 0, 0, 0, 9]), map(2), "in NAT-PMP's form with PCP's version");
    assert_eq!(parse(&[0, 0x82, 0, 1]), map(0), "whatever the opcode");

    let mut header = map_reply();
    header.truncate(24);
    header[3] = 1;
    assert_eq!(parse(&header), map(2));

    for bytes in [&[0, 0x81, 0][..], &[0, 0x81, 0, 0], &[0, 0x81, 1, 1], &[0, 1, 0, 1]] {
        assert_eq!(parse(bytes), Err(Malformed), "{bytes:?}");
    }
    header[3] = 2;
    assert_eq!(parse(&header), Err(Malformed), "no other error goes without its nonce");
    header[3] = 1;
    header.extend([0; 4]);
    assert_eq!(parse(&header), map(2), "however long it is");
}

#[test]
fn every_result_code_survives() {
    let mut seen = std::collections::BTreeSet::new();
    for code in (0..=255).filter(|&code| code != 1) {
        let mut bytes = map_reply();
        bytes[3] = code;
        let Ok(Reply::Map(header, _)) = parse(&bytes) else { panic!("result {code} is not read") };
        assert!(seen.insert(format!("{:?}", header.result)), "result {code} is taken for another");
        assert_eq!(header.result == ResultCode::Other(code), code > 13, "result {code}");
        assert_eq!(header.result.number(), code);
    }
}
