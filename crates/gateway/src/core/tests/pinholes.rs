//! PCP over IPv6, and what pinholes let through.

use super::*;

pub(super) const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Two addresses inside.
pub(super) const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2003, 1, 0, 0, 0, 0, 0, 5);
pub(super) const OTHER: Ipv6Addr = Ipv6Addr::new(0x2003, 1, 0, 0, 0, 0, 0, 6);

pub(super) fn new_firewall() -> Gateway {
    Gateway::new(Config::at(GATEWAY).with_ipv6(ROUTER), Duration::ZERO)
}

/// PCP MAP for TCP port 8000, suggested 9000, of this client with this nonce octet.
pub(super) fn map(client: Ipv6Addr, nonce: u8, lifetime: u32) -> Vec<u8> {
    let mut request = pcp_map(nonce, lifetime);
    request[8..24].copy_from_slice(&client.octets());
    request[42..44].copy_from_slice(&9000u16.to_be_bytes());
    request[44..60].fill(0);
    request
}

/// The one answer to a request from this address, which comes from the router's own.
pub(super) fn ask_pcp(gateway: &mut Gateway, now: Duration, from: Ipv6Addr, request: &[u8]) -> Vec<u8> {
    let client = SocketAddr::from((from, 40_000));
    gateway.handle_datagram(now, UdpPort::Pcp, client, request);
    match gateway.poll_output(now) {
        Some(Output::Send { from, to, bytes }) => {
            assert_eq!((from, to), (SocketAddr::from((ROUTER, 5351)), client));
            bytes
        }
        other => panic!("{other:?}"),
    }
}

/// Client and end of every pinhole.
fn opened(gateway: &Gateway) -> Vec<(Ipv6Addr, u64)> {
    gateway.pinholes().iter().map(|p| (p.key.client, p.expires_at.as_secs())).collect()
}

#[test]
fn map_opens_a_pinhole_to_the_clients_own_address_and_port() {
    let mut gateway = new_firewall();
    let reply = ask_pcp(&mut gateway, secs(5), CLIENT, &map(CLIENT, 0x11, 7200));
    let expected = hex("02 81 00 00 | 00001c20 | 00000005 | 00000000 00000000 00000000 |
         11111111 11111111 11111111 | 06 000000 | 1f40 1f40 | 20030001 00000000 00000000 00000005");
    assert_eq!(reply, expected);
    assert_eq!((opened(&gateway), gateway.table().len()), (vec![(CLIENT, 7205)], 0));
}

#[test]
fn mappings_of_ipv4_clients_are_as_without_ipv6() {
    let (mut gateway, mut plain) = (new_firewall(), new_gateway());
    for request in [&pcp_map(1, 100)[..], &natpmp_map(100), &[0, 0]] {
        assert_eq!(ask(&mut gateway, secs(1), request), ask(&mut plain, secs(1), request));
    }
    assert_eq!((mapped(&gateway), gateway.pinholes().len()), (mapped(&plain), 0));
}

#[test]
fn another_nonce_is_not_authorized_while_the_pinhole_lives() {
    let mut gateway = new_firewall();
    assert_eq!(ask_pcp(&mut gateway, secs(0), CLIENT, &map(CLIENT, 1, 100))[3], 0);
    for lifetime in [100, 0] {
        assert_eq!(ask_pcp(&mut gateway, secs(99), CLIENT, &map(CLIENT, 2, lifetime))[3], 2);
    }
    assert_eq!(opened(&gateway), [(CLIENT, 100)]);
    assert_eq!(ask_pcp(&mut gateway, secs(100), CLIENT, &map(CLIENT, 2, 100))[3], 0);
    assert_eq!(opened(&gateway), [(CLIENT, 200)]);
}

#[test]
fn pinhole_survives_a_restart_with_memory_and_its_nonce_renews_it() {
    let mut gateway = new_firewall();
    ask_pcp(&mut gateway, secs(0), CLIENT, &map(CLIENT, 1, 100));
    gateway.faults.never_announces = true;
    gateway.restart(true);
    assert_eq!(ask_pcp(&mut gateway, secs(50), CLIENT, &map(CLIENT, 2, 100))[3], 2);
    assert_eq!(ask_pcp(&mut gateway, secs(50), CLIENT, &map(CLIENT, 1, 100))[3], 0);
    assert_eq!(opened(&gateway), [(CLIENT, 150)]);
    gateway.restart(false);
    assert_eq!(opened(&gateway), []);
}

#[test]
fn another_nonce_may_renew_where_it_guards_deletion_only() {
    let mut gateway = new_firewall();
    gateway.faults.nonce_guards_deletion_only = true;
    for (nonce, lifetime, result) in [(1, 100, 0), (2, 200, 0), (2, 0, 2), (1, 0, 0)] {
        assert_eq!(ask_pcp(&mut gateway, secs(0), CLIENT, &map(CLIENT, nonce, lifetime))[3], result);
    }
    assert_eq!(opened(&gateway), []);
}

#[test]
fn deletion_echoes_the_suggestion_and_closes() {
    let mut gateway = new_firewall();
    ask_pcp(&mut gateway, secs(0), CLIENT, &map(CLIENT, 1, 100));
    let deletion = map(CLIENT, 1, 0);
    for _ in 0..2 {
        let reply = ask_pcp(&mut gateway, secs(1), CLIENT, &deletion);
        assert_eq!((reply[3], &reply[4..8], &reply[24..60]), (0, &[0; 4][..], &deletion[24..60]));
        assert_eq!(opened(&gateway), []);
    }
}

#[test]
fn lifetimes_are_limited_and_room_is_too() {
    let config = Config { max_mappings: 1, ..Config::at(GATEWAY) }.with_ipv6(ROUTER);
    let mut gateway = Gateway::new(config, secs(0));
    gateway.faults.max_lifetime = Some(60);
    let mut ask = |client| ask_pcp(&mut gateway, secs(0), client, &map(client, 1, 100));
    assert_eq!(ask(CLIENT)[4..8], 60u32.to_be_bytes());
    assert_eq!(ask(OTHER)[3], 8);
    assert_eq!(ask(CLIENT)[3], 0);
    assert_eq!(opened(&gateway), [(CLIENT, 60)]);
}

#[test]
fn two_addresses_of_a_client_have_the_same_port_each() {
    let mut gateway = new_firewall();
    for (client, nonce) in [(CLIENT, 1), (OTHER, 2)] {
        assert_eq!(ask_pcp(&mut gateway, secs(0), client, &map(client, nonce, 100))[3], 0);
    }
    assert_eq!(opened(&gateway), [(CLIENT, 100), (OTHER, 100)]);
    assert_eq!(ask_pcp(&mut gateway, secs(0), CLIENT, &map(OTHER, 2, 0))[3], 12, "ADDRESS_MISMATCH");
    assert_eq!(ask_pcp(&mut gateway, secs(0), OTHER, &map(OTHER, 2, 0))[3], 0);
    assert_eq!(opened(&gateway), [(CLIENT, 100)]);
}

#[test]
fn natpmp_by_ipv6_gets_no_answer() {
    let mut gateway = new_firewall();
    gateway.handle_datagram(secs(0), UdpPort::Pcp, SocketAddr::from((CLIENT, 40_000)), &[0, 0]);
    assert_eq!(sent(&mut gateway, secs(0)), []);
    assert_eq!((gateway.counts.natpmp(), gateway.counts.other), (0, 1));
}

#[test]
fn restart_is_announced_to_both_families() {
    let groups = |config: Config| {
        let mut gateway = Gateway::new(Config { announcements: 1, ..config }, secs(0));
        gateway.restart(false);
        let mut groups: Vec<(SocketAddr, IpAddr)> = Vec::new();
        while let Some(Output::Send { from, to, bytes }) = gateway.poll_output(secs(0)) {
            let is_natpmp = bytes[0] == 0;
            assert!(!(is_natpmp && to.is_ipv6()));
            groups.push((to, from.ip()));
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    let (v4, v6) = (GATEWAY, IpAddr::V6(ROUTER));
    let both = [(ANNOUNCEMENTS, v4), (SSDP_GROUP, v4), (ANNOUNCEMENTS_V6, v6), (SSDP_GROUP_V6, v6)];
    assert_eq!(groups(Config::at(GATEWAY).with_ipv6(ROUTER)), both);
    assert_eq!(groups(Config::at(v6).with_ipv6(ROUTER)), both[2..]);
    assert_eq!(groups(Config::at(GATEWAY)), both[..2]);
}

#[test]
fn pinhole_lets_in_what_it_is_for() {
    let mut pinholes = Pinholes::default();
    let mut open = |port, remote_host: &str, remote_port| {
        let key = PinholeKey::for_all(Transport::Udp, CLIENT, port);
        let key = PinholeKey { remote_host: remote_host.into(), remote_port, ..key };
        pinholes.open(key, Protocol::Script, None, secs(0), secs(9));
    };
    open(1, "", 0);
    open(2, "2003:1::6", 0);
    open(3, "", 53);
    open(4, "::/0", 0);
    let mut is_let_in = |from: Ipv6Addr, from_port, port| {
        let to = SocketAddr::from((CLIENT, port));
        pinholes.let_in(Transport::Udp, SocketAddr::from((from, from_port)), to)
    };
    let passed = |port| [(OTHER, 53), (OTHER, 54), (ROUTER, 53)].map(|(from, at)| is_let_in(from, at, port));
    let expected = [[true; 3], [true, true, false], [true, false, true], [false; 3], [false; 3]];
    assert_eq!([1, 2, 3, 4, 5].map(passed), expected);
    let to = |client| SocketAddr::from((client, 1));
    assert!(!pinholes.let_in(Transport::Tcp, to(OTHER), to(CLIENT)));
    assert!(!pinholes.let_in(Transport::Udp, to(OTHER), to(OTHER)));
}
