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
