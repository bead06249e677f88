use super::*;
use std::net::Ipv6Addr;

#[test]
fn map_is_answered_with_nonce_port_and_external_address() {
    let mut gateway = new_gateway();
    let reply = ask_one(&mut gateway, secs(5), &pcp_map(0x11, 7200));
    let expected = hex("02 81 00 00 | 00001c20 | 00000005 | 00000000 00000000 00000000 |
         11111111 11111111 11111111 | 06 000000 | 1f40 1f40 | 00000000 00000000 0000ffff cb007107");
    assert_eq!(reply, expected);
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(7205))]);
    assert_eq!((gateway.counts.pcp_map, gateway.counts.total()), (1, 1));
}

#[test]
fn announce_is_answered_with_the_epoch() {
    let mut gateway = new_gateway();
    let request = hex("02 00 0000 | 00000000 | 00000000 00000000 0000ffff c0a80164");
    let reply = ask_one(&mut gateway, secs(258), &request);
    assert_eq!(reply, hex("02 80 00 00 | 00000000 | 00000102 | 00000000 00000000 00000000"));
    assert_eq!(gateway.counts.pcp_announce, 1);
}

#[test]
fn renewal_keeps_the_port_and_moves_the_end() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    let mut renewal = pcp_map(1, 100);
    renewal[42..44].copy_from_slice(&9000u16.to_be_bytes());
    let reply = ask_one(&mut gateway, secs(60), &renewal);
    assert_eq!(reply[42..44], 8000u16.to_be_bytes());
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(160))]);
}

#[test]
fn another_nonce_is_not_authorized_to_renew_or_delete() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    for lifetime in [100, 0] {
        let reply = ask_one(&mut gateway, secs(1), &pcp_map(2, lifetime));
        assert_eq!((reply[3], reply.len()), (2, 60));
    }
    assert_eq!(mapped(&gateway).len(), 1);
}

#[test]
fn deletion_with_the_nonce_removes_and_echoes_the_suggestion() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    let mut deletion = pcp_map(1, 0);
    deletion[42..44].fill(0);
    let reply = ask_one(&mut gateway, secs(1), &deletion);
    assert_eq!((reply[3], &reply[4..8], &reply[42..44]), (0, &[0; 4][..], &[0, 0][..]));
    assert!(gateway.table().is_empty());
    assert_eq!(gateway.counts.pcp_delete, 1);
    // RFC 6887 §15: deleting what is not there succeeds.
    assert_eq!(ask_one(&mut gateway, secs(2), &deletion)[3], 0);
}

#[test]
fn client_address_other_than_the_source_is_a_mismatch() {
    let mut gateway = new_gateway();
    let mut request = pcp_map(1, 100);
    request[23] = 101;
    assert_eq!(ask_one(&mut gateway, secs(0), &request)[3], 12);
    assert!(gateway.table().is_empty());
}

#[test]
fn what_is_wrong_with_a_request_decides_the_result_code() {
    let mut gateway = new_gateway();
    let result = |gateway: &mut Gateway, change: &dyn Fn(&mut Vec<u8>)| {
        let mut request = pcp_map(1, 100);
        change(&mut request);
        let reply = ask_one(gateway, secs(0), &request);
        assert!(reply.len().is_multiple_of(4));
        (reply[0], reply[1], reply[3])
    };
    assert_eq!(result(&mut gateway, &|r| r[0] = 1), (2, 129, 1), "UNSUPP_VERSION");
    assert_eq!(result(&mut gateway, &|r| r[0] = 3), (2, 129, 1), "UNSUPP_VERSION");
    assert_eq!(result(&mut gateway, &|r| r.truncate(56)), (2, 129, 3), "MALFORMED_REQUEST");
    assert_eq!(result(&mut gateway, &|r| r.truncate(59)), (2, 129, 3), "MALFORMED_REQUEST");
    assert_eq!(result(&mut gateway, &|r| r.resize(1104, 0)), (2, 129, 3), "MALFORMED_REQUEST");
    assert_eq!(result(&mut gateway, &|r| r[1] = 99), (2, 227, 4), "UNSUPP_OPCODE");
    assert_eq!(result(&mut gateway, &|r| r[36] = 132), (2, 129, 9), "UNSUPP_PROTOCOL");
    assert_eq!(result(&mut gateway, &|r| r.extend([3, 0, 0, 0])), (2, 129, 0), "options are ignored");
}

#[test]
fn answers_and_single_octets_are_dropped() {
    let mut gateway = new_gateway();
    assert!(ask(&mut gateway, secs(0), &[2]).is_empty());
    assert!(ask(&mut gateway, secs(0), &[]).is_empty());
    assert!(
        ask(&mut gateway, secs(0), &hex("02 81 0000 00000000 00000000 00000000 00000000 00000000"))
            .is_empty()
    );
    assert_eq!((gateway.counts.other, gateway.complaints().count()), (3, 3));
}

#[test]
fn taken_port_gives_the_next_free_one() {
    let mut gateway = new_gateway();
    gateway.occupy(Transport::Tcp, 8000, SocketAddr::from(([192, 168, 1, 50], 80)));
    gateway.occupy(Transport::Tcp, 8001, SocketAddr::from(([192, 168, 1, 50], 81)));
    assert_eq!(ask_one(&mut gateway, secs(0), &pcp_map(1, 100))[42..44], 8002u16.to_be_bytes());
}

#[test]
fn full_table_has_no_resources_but_for_renewals() {
    let mut gateway = Gateway::new(Config { max_mappings: 1, ..Config::at(GATEWAY) }, secs(0));
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    assert_eq!(ask_one(&mut gateway, secs(1), &pcp_map(1, 100))[3], 0);
    let mut second = pcp_map(1, 100);
    second[40..42].copy_from_slice(&8001u16.to_be_bytes());
    assert_eq!(ask_one(&mut gateway, secs(1), &second)[3], 8);
}

#[test]
fn client_that_is_an_ipv6_address_is_itself() {
    let mut gateway = new_gateway();
    let mut request = pcp_map(1, 100);
    request[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
    let from = SocketAddr::from((Ipv6Addr::LOCALHOST, 40_000));
    gateway.handle_datagram(secs(0), UdpPort::Pcp, from, &request);
    assert_eq!(sent(&mut gateway, secs(0))[0].1[3], 0);
    assert_eq!(
        gateway.table().iter().next().unwrap().internal,
        SocketAddr::from((Ipv6Addr::LOCALHOST, 8000))
    );
}
