use super::*;

#[test]
fn delay_is_the_time_of_every_answer() {
    let mut gateway = new_gateway();
    gateway.faults.delay = ms(20);
    assert!(ask(&mut gateway, ms(5), &[0, 0]).is_empty());
    assert_eq!(gateway.poll_timeout(), Some(ms(25)));
    assert_eq!(sent(&mut gateway, ms(24)).len(), 0);
    assert_eq!(sent(&mut gateway, ms(25)).len(), 1);
}

#[test]
fn losses_are_what_the_seed_says_in_each_direction() {
    let run = |seed, loss| {
        let mut gateway = Gateway::new(Config { seed, ..Config::at(GATEWAY) }, secs(0));
        gateway.faults.loss = loss;
        let answered: Vec<bool> = (0..200).map(|_| !ask(&mut gateway, secs(0), &[0, 0]).is_empty()).collect();
        (answered, gateway.counts.natpmp_address, gateway.counts.lost_requests, gateway.counts.lost_replies)
    };
    let both = run(3, Chance::both(0.5));
    assert_eq!(both, run(3, Chance::both(0.5)));
    assert_ne!(both.0, run(4, Chance::both(0.5)).0);
    let (answered, came, requests, replies) = both;
    assert_eq!(came + requests, 200);
    assert_eq!(came - replies, answered.iter().filter(|&&answered| answered).count() as u64);
    assert!((60..140).contains(&requests) && (20..80).contains(&replies), "{requests} {replies}");
    let (answered, came, ..) = run(3, Chance { requests: 0.0, replies: 1.0 });
    assert_eq!((answered.contains(&true), came), (false, 200));
}

#[test]
fn duplicates_come_in_each_direction() {
    let mut gateway = new_gateway();
    gateway.faults.duplicate = Chance { requests: 1.0, replies: 0.0 };
    assert_eq!((ask(&mut gateway, secs(0), &[0, 0]).len(), gateway.counts.natpmp_address), (2, 2));
    gateway.faults.duplicate = Chance { requests: 0.0, replies: 1.0 };
    assert_eq!((ask(&mut gateway, secs(0), &[0, 0]).len(), gateway.counts.natpmp_address), (2, 3));
}

#[test]
fn held_back_answers_are_overtaken() {
    let mut gateway = new_gateway();
    gateway.faults.reorder = 1.0;
    gateway.faults.reorder_by = ms(10);
    assert!(ask(&mut gateway, secs(0), &natpmp_map(100)).is_empty());
    gateway.faults.reorder = 0.0;
    assert_eq!(ask_one(&mut gateway, secs(0), &[0, 0])[1], 128);
    assert_eq!(sent(&mut gateway, ms(10))[0].1[1], 130);
}

#[test]
fn silence_counts_but_does_nothing_and_may_end_by_itself() {
    let mut gateway = new_gateway();
    gateway.faults.silence.pcp = Times::Next(2);
    for expected in [0, 0, 1] {
        assert_eq!(ask(&mut gateway, secs(0), &pcp_map(1, 100)).len(), expected);
        assert_eq!(gateway.table().len(), expected);
    }
    gateway.faults.silence.natpmp = Times::Always;
    assert!(ask(&mut gateway, secs(0), &[0, 0]).is_empty());
    assert_eq!((gateway.counts.pcp_map, gateway.counts.natpmp_address), (3, 1));
}

#[test]
fn natpmp_only_says_so_to_pcp_in_either_form() {
    let mut gateway = new_gateway();
    gateway.faults.pcp = Spoken::UnsuppVersion(0);
    assert_eq!(ask_one(&mut gateway, secs(9), &pcp_map(1, 100)), hex("00 81 0001 00000009"));
    gateway.faults.pcp = Spoken::UnsuppVersion(1);
    assert_eq!(ask_one(&mut gateway, secs(9), &pcp_map(1, 100)), hex("01 81 0001 00000009"));
    gateway.faults.pcp = Spoken::UnsuppVersion(2);
    let reply = ask_one(&mut gateway, secs(9), &pcp_map(1, 100));
    assert_eq!(reply, hex("02 81 0001 00000708 00000009 00000000 00000000 00000000"));
    assert_eq!(ask_one(&mut gateway, secs(9), &natpmp_map(100))[2..4], [0, 0]);
}

#[test]
fn pcp_only_says_so_to_natpmp() {
    let mut gateway = new_gateway();
    gateway.faults.natpmp = Spoken::UnsuppVersion(2);
    let reply = ask_one(&mut gateway, secs(9), &[0, 0]);
    assert_eq!(reply, hex("02 80 0001 00000708 00000009 00000000 00000000 00000000"));
}

#[test]
fn closed_ports_refuse_by_the_protocol_of_the_request() {
    let mut gateway = new_gateway();
    assert!(!gateway.refuses(UdpPort::Pcp, &[0, 0]) && !gateway.refuses_tcp());
    gateway.faults.closed = Closed { pcp: true, natpmp: false, ssdp: true, http: true };
    assert!(gateway.refuses(UdpPort::Pcp, &pcp_map(1, 1)) && !gateway.refuses(UdpPort::Pcp, &[0, 0]));
    assert!(gateway.refuses(UdpPort::Ssdp, b"M-SEARCH") && gateway.refuses_tcp());
}

#[test]
fn refusals_are_for_a_kind_a_port_and_so_many_times() {
    let mut gateway = new_gateway();
    gateway.faults.refuse_next(Kind::PcpMap, 8, 1);
    let reply = ask_one(&mut gateway, secs(0), &pcp_map(1, 100));
    assert_eq!((reply[3], &reply[4..8], reply.len()), (8, &[0, 0, 0, 30][..], 60));
    assert_eq!(ask_one(&mut gateway, secs(0), &pcp_map(1, 100))[3], 0);
    gateway.faults.refuse_port(Kind::NatPmpMap, 4, 8000);
    assert_eq!(
        ask_one(&mut gateway, secs(0), &natpmp_map(100)),
        hex("00 82 0004 00000000 1f40 0000 00000000")
    );
    let other = hex("00 02 0000 1f41 1f41 00000064");
    assert_eq!(ask_one(&mut gateway, secs(0), &other)[3], 0);
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(0))[3], 0, "a deletion is another kind");
}

#[test]
fn lifetimes_are_cut_replaced_or_nothing() {
    let mut gateway = new_gateway();
    gateway.faults.max_lifetime = Some(60);
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(7200))[12..], 60u32.to_be_bytes());
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(30))[12..], 30u32.to_be_bytes());
    gateway.faults.lifetime = Some(0);
    let reply = ask_one(&mut gateway, secs(0), &natpmp_map(7200));
    assert_eq!((reply[3], &reply[12..]), (0, &[0; 4][..]));
    assert!(gateway.table().is_empty());
}

#[test]
fn another_port_is_assigned_to_new_mappings_only() {
    let mut gateway = new_gateway();
    gateway.faults.assigned_port = AssignedPort::Offset(10);
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[10..12], 8010u16.to_be_bytes());
    gateway.faults.assigned_port = AssignedPort::Exactly(500);
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[10..12], 8010u16.to_be_bytes());
    gateway.faults.assigned_port = AssignedPort::Exactly(0);
    let reply = ask_one(&mut gateway, secs(0), &hex("00 02 0000 1f41 1f41 00000064"));
    assert_eq!((&reply[10..12], gateway.table().len()), (&[0, 0][..], 1));
}

#[test]
fn nonce_and_internal_port_of_answers_may_be_wrong() {
    let mut gateway = new_gateway();
    gateway.faults.wrong_nonce = Times::Next(1);
    assert_ne!(ask_one(&mut gateway, secs(0), &pcp_map(0x11, 100))[24..36], [0x11; 12]);
    assert_eq!(ask_one(&mut gateway, secs(0), &pcp_map(0x11, 100))[24..36], [0x11; 12]);
    gateway.faults.wrong_internal_port = Times::Next(2);
    assert_ne!(ask_one(&mut gateway, secs(0), &pcp_map(0x11, 100))[40..42], 8000u16.to_be_bytes());
    assert_ne!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[8..10], 8000u16.to_be_bytes());
}

#[test]
fn answers_may_come_from_a_wrong_source() {
    let mut gateway = new_gateway();
    let mut source = |wrong| {
        gateway.faults.wrong_source = wrong;
        gateway.handle_datagram(secs(0), UdpPort::Pcp, client(1), &[0, 0]);
        match gateway.poll_output(secs(0)) {
            Some(Output::Send { from, .. }) => from,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(source(None), SocketAddr::new(GATEWAY, 5351));
    assert_eq!(source(Some(WrongSource::Port)), SocketAddr::new(GATEWAY, 0));
    assert_eq!(source(Some(WrongSource::Address(CLIENT))), SocketAddr::new(CLIENT, 5351));
}

#[test]
fn junk_comes_before_after_or_instead() {
    let mut gateway = new_gateway();
    let answer = hex("00 80 0000 00000000 cb007107");
    let mut answers = |junk| {
        gateway.faults.junk = junk;
        ask(&mut gateway, secs(0), &[0, 0])
    };
    for _ in 0..50 {
        assert_eq!(answers(Junk::Before)[1], answer);
        assert_eq!(answers(Junk::After)[0], answer);
        let instead = answers(Junk::Instead);
        assert_eq!(instead.len(), 1);
        assert_ne!(instead[0], answer);
    }
}

#[test]
fn silent_or_closed_protocols_announce_nothing() {
    let mut gateway = new_gateway();
    gateway.faults.silence.pcp = Times::Always;
    gateway.faults.silence.ssdp = Times::Always;
    gateway.faults.closed.natpmp = true;
    gateway.restart(false);
    while let Some(at) = gateway.poll_timeout() {
        assert_eq!(sent(&mut gateway, at), []);
    }
}

#[test]
fn the_fullest_second_is_remembered() {
    let mut gateway = new_gateway();
    for at in [0, 100, 200, 900, 1050, 1060, 3000] {
        ask_one(&mut gateway, ms(at), &[0, 0]);
    }
    // 100 to 1060
    assert_eq!(gateway.counts.max_packets_per_second, 5);
    gateway.counts.reset();
    assert_eq!(gateway.counts.total(), 0);
}

#[test]
fn any_bytes_are_survived() {
    let mut gateway = new_gateway();
    let mut random = Random::new(5);
    for round in 0..20_000u64 {
        let length = random.below(80) as usize;
        let mut bytes = random.bytes(length);
        if let Some(first) = bytes.first_mut() {
            *first %= 4;
        }
        let port = if round % 5 == 0 { UdpPort::Ssdp } else { UdpPort::Pcp };
        gateway.handle_datagram(ms(round), port, client(1), &bytes);
        sent(&mut gateway, ms(round));
    }
    assert!(gateway.complaints().count() <= 100);
}
