use super::*;

#[test]
fn address_request_is_answered_with_epoch_and_address() {
    let mut gateway = new_gateway();
    assert_eq!(ask_one(&mut gateway, secs(258), &[0, 0]), hex("00 80 0000 00000102 cb007107"));
    assert_eq!(gateway.counts.natpmp_address, 1);
}

#[test]
fn no_external_address_is_a_network_failure() {
    let mut gateway = new_gateway();
    gateway.set_external_address(Ipv4Addr::UNSPECIFIED, false);
    assert_eq!(ask_one(&mut gateway, secs(1), &[0, 0]), hex("00 80 0003 00000001"));
}

#[test]
fn map_is_answered_with_ports_and_lifetime() {
    let mut gateway = new_gateway();
    let reply = ask_one(&mut gateway, secs(5), &natpmp_map(7200));
    assert_eq!(reply, hex("00 82 0000 00000005 1f40 1f40 00001c20"));
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(7205))]);
    let udp = ask_one(&mut gateway, secs(5), &hex("00 01 0000 1f40 0000 00001c20"));
    assert_eq!(udp, hex("00 81 0000 00000005 1f40 1f40 00001c20"));
    assert_eq!(gateway.table().len(), 2);
    assert_eq!(gateway.counts.natpmp_map, 2);
}

#[test]
fn deletion_removes_one_or_all_of_a_transport() {
    let mut gateway = new_gateway();
    for request in
        ["00 02 0000 1f40 1f40 00001c20", "00 02 0000 1f41 1f41 00001c20", "00 01 0000 1f40 1f40 00001c20"]
    {
        ask_one(&mut gateway, secs(0), &hex(request));
    }
    let reply = ask_one(&mut gateway, secs(1), &hex("00 02 0000 1f41 0000 00000000"));
    assert_eq!(reply, hex("00 82 0000 00000001 1f41 0000 00000000"));
    assert_eq!(gateway.table().len(), 2);
    ask_one(&mut gateway, secs(1), &hex("00 02 0000 0000 0000 00000000"));
    let left: Vec<Transport> = gateway.table().iter().map(|m| m.transport).collect();
    assert_eq!(left, [Transport::Udp]);
    assert_eq!(gateway.counts.natpmp_delete, 2);
}

#[test]
fn unknown_opcodes_and_wrong_lengths_are_unsupported() {
    let mut gateway = new_gateway();
    assert_eq!(ask_one(&mut gateway, secs(1), &[0, 77]), hex("00 cd 0005 00000001"));
    let short = hex("00 01 0000 1f40 1f40");
    assert_eq!(ask_one(&mut gateway, secs(1), &short), hex("00 81 0005 00000001 1f40 0000 00000000"));
    assert!(ask(&mut gateway, secs(1), &hex("00 80 0000 00000102 cb007107")).is_empty());
    assert!(ask(&mut gateway, secs(1), &[0]).is_empty());
}

#[test]
fn changed_address_is_announced_ten_times_at_doubling_intervals() {
    let mut gateway = new_gateway();
    gateway.handle_timeout(secs(100));
    gateway.set_external_address(Ipv4Addr::new(198, 51, 100, 9), true);
    let mut times = Vec::new();
    while let Some(at) = gateway.poll_timeout() {
        for (to, bytes) in sent(&mut gateway, at) {
            assert_eq!(to, ANNOUNCEMENTS);
            if bytes[0] == 0 {
                let epoch = u32::try_from(at.as_secs()).unwrap();
                assert_eq!(
                    (bytes[4..8].to_vec(), bytes[8..].to_vec()),
                    (epoch.to_be_bytes().to_vec(), vec![198, 51, 100, 9])
                );
                times.push((at - secs(100)).as_millis());
            }
        }
    }
    assert_eq!(times, [0, 250, 750, 1750, 3750, 7750, 15_750, 31_750, 63_750, 127_750]);
}
