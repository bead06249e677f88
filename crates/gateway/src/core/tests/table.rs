use super::*;

#[test]
fn mappings_end_with_their_lifetime() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    assert_eq!(gateway.poll_timeout(), Some(secs(100)));
    gateway.handle_timeout(secs(100) - Duration::from_micros(1));
    assert_eq!(gateway.table().len(), 1);
    gateway.handle_timeout(secs(100));
    assert!(gateway.table().is_empty());
    assert_eq!(gateway.poll_timeout(), None);
}

#[test]
fn a_renewed_mapping_does_not_end_at_its_old_time() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &natpmp_map(100));
    ask_one(&mut gateway, secs(50), &natpmp_map(100));
    gateway.handle_timeout(secs(149));
    assert_eq!(gateway.table().len(), 1);
    assert_eq!(gateway.poll_timeout(), Some(secs(150)));
}

#[test]
fn protocols_share_one_table_so_that_one_deletes_what_another_made() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &natpmp_map(100));
    let reply = ask_one(&mut gateway, secs(1), &pcp_map(1, 100));
    assert_eq!((reply[3], gateway.table().len()), (0, 1));
    ask_one(&mut gateway, secs(2), &pcp_map(1, 0));
    assert!(gateway.table().is_empty());
}

#[test]
fn free_ports_are_searched_upward_and_go_on_at_1024() {
    let mut table = Table::default();
    let mut take = |port| {
        let internal = client(port);
        table.insert(TableEntry {
            transport: Transport::Udp,
            external_port: port,
            internal,
            made_by: Protocol::Script,
            nonce: None,
            description: String::new(),
            granted_at: Duration::ZERO,
            expires_at: None,
        });
    };
    take(65_535);
    take(1024);
    assert_eq!(table.free_port(Transport::Udp, 65_535), Some(1025));
    assert_eq!(table.free_port(Transport::Tcp, 65_535), Some(65_535));
    assert_eq!(table.free_port(Transport::Udp, 0), Some(1));
}

#[test]
fn changes_are_counted_for_those_who_mirror_the_table() {
    let mut gateway = new_gateway();
    let before = gateway.table().changes();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    let made = gateway.table().changes();
    assert!(made > before);
    gateway.handle_timeout(secs(100));
    assert!(gateway.table().changes() > made);
}

#[test]
fn restart_without_memory_empties_it_and_starts_the_epoch_anew() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(10), &pcp_map(1, 100));
    gateway.restart(true);
    assert_eq!((gateway.table().len(), gateway.epoch()), (1, 0));
    gateway.faults.epoch_survives_restart = true;
    gateway.handle_timeout(secs(17));
    gateway.restart(false);
    assert_eq!((gateway.table().len(), gateway.epoch()), (0, 7));
    gateway.set_epoch(1000);
    gateway.handle_timeout(secs(18));
    assert_eq!(gateway.epoch(), 1001);
}

#[test]
fn tables_apart_know_nothing_of_each_other_but_their_ports() {
    let mut gateway = new_gateway();
    gateway.faults.tables_apart = true;
    ask_one(&mut gateway, secs(0), &natpmp_map(100));
    ask_one(&mut gateway, secs(0), &natpmp_map(0));
    assert!(gateway.table().is_empty());
    let client = SocketAddr::new(CLIENT, 8000);
    gateway.table_mut().insert(TableEntry {
        transport: Transport::Tcp,
        external_port: 8000,
        internal: client,
        made_by: Protocol::Upnp,
        nonce: None,
        description: String::new(),
        granted_at: secs(0),
        expires_at: None,
    });
    ask_one(&mut gateway, secs(1), &natpmp_map(100));
    assert_eq!(gateway.table().of_internal(Transport::Tcp, client).count(), 2);
    ask_one(&mut gateway, secs(2), &natpmp_map(0));
    let left: Vec<_> = gateway.table().iter().map(|m| m.made_by).collect();
    assert_eq!(left, [Protocol::Upnp], "a deletion by NAT-PMP leaves UPnP's alone");
}

#[test]
fn deletions_as_of_miniupnpd_reach_what_their_protocol_has_made() {
    let mut gateway = new_gateway();
    gateway.faults.deletes_as_miniupnpd = true;
    let result_of = |reply: Vec<u8>| reply[3];
    assert_eq!(result_of(ask_one(&mut gateway, secs(0), &pcp_map(1, 0))), 8, "nothing is there");
    ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    let all = hex("00 02 0000 | 0000 0000 | 00000000");
    for deletion in [natpmp_map(0), all] {
        let reply = ask_one(&mut gateway, secs(1), &deletion);
        assert_eq!((result_of(reply), gateway.table().len()), (0, 1));
    }
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &pcp_map(2, 0))), 2);
    let mut beside = pcp_map(3, 100);
    beside[42..44].copy_from_slice(&9000u16.to_be_bytes());
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &beside)), 0);
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(100)), (9000, 8000, Some(101))]);
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &pcp_map(3, 0))), 0);
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &pcp_map(2, 100))), 0, "it is taken over");
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &pcp_map(1, 0))), 2);
    assert_eq!(result_of(ask_one(&mut gateway, secs(1), &pcp_map(2, 0))), 0);
    assert!(gateway.table().is_empty());
    ask_one(&mut gateway, secs(2), &natpmp_map(100));
    ask_one(&mut gateway, secs(2), &natpmp_map(0));
    assert!(gateway.table().is_empty());
}

#[test]
fn the_list_of_version_2_has_a_range_of_ports_in_pages() {
    const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";
    let mut gateway = Gateway::new(Config { igd: Some(Igd::v2()), ..Config::at(GATEWAY) }, secs(0));
    for port in [80, 81, 443] {
        gateway.occupy(Transport::Tcp, port, client(port));
    }
    let mut list = |transport: &str, start: &str, end: &str, number: &str| {
        let arguments = [
            ("NewStartPort", start),
            ("NewEndPort", end),
            ("NewProtocol", transport),
            ("NewManage", "1"),
            ("NewNumberOfPorts", number),
        ];
        let request = super::upnp::post(SERVICE, "GetListOfPortMappings", &arguments);
        let (bytes, _) = super::upnp::exchange(&mut gateway, secs(0), &request);
        let text = String::from_utf8(bytes).unwrap();
        let ports = text.split("&lt;p:NewExternalPort&gt;").skip(1);
        let ports: Vec<String> = ports.map(|rest| rest.split('&').next().unwrap().to_owned()).collect();
        let error = text.split_once("<errorCode>").map(|(_, rest)| rest[..3].to_owned());
        (ports.join(" "), error.unwrap_or_default())
    };
    assert_eq!(list("TCP", "0", "65535", "0"), ("80 81 443".into(), String::new()));
    assert_eq!(list("TCP", "81", "442", "0"), ("81".into(), String::new()));
    assert_eq!(list("TCP", "0", "65535", "2"), ("80 81".into(), String::new()));
    assert_eq!(list("UDP", "0", "65535", "0"), (String::new(), "730".into()));
    assert_eq!(list("TCP", "2", "1", "0"), (String::new(), "733".into()));
}
