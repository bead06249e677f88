//! Messages made by hand as the headers of each system lay them out, in this machine's byte order.

use super::*;
use proptest::prelude::*;

const PID: u32 = 4711;
const SEQUENCE: u32 = 0x8000_0001;

const SYSTEMS: [(&str, Layout); 6] = [
    ("macOS", APPLE),
    ("FreeBSD, 64 bits", freebsd(8)),
    ("FreeBSD, 32 bits", freebsd(4)),
    ("OpenBSD, 64 bits", openbsd(8)),
    ("OpenBSD, 32 bits", openbsd(4)),
    ("NetBSD", NETBSD),
];

/// `struct rt_msghdr`, written down for each system by itself, without its metrics.
#[rustfmt::skip]
fn header(system: &str, kind: u8, flags: u32, addresses: u32, error: i32) -> Vec<u8> {
    let version = if system == "NetBSD" { 4 } else { 5 };
    let mut bytes = vec![0, 0, version, kind];
    let (index, none) = (7u16.to_ne_bytes(), 0u16.to_ne_bytes());
    let (flags, addresses, error) = (flags.to_ne_bytes(), addresses.to_ne_bytes(), error.to_ne_bytes());
    let (pid, sequence, fmask) = (PID.to_ne_bytes(), SEQUENCE.to_ne_bytes(), [0; 4]);
    if system.starts_with("OpenBSD") {
        // hdrlen, index, tableid, priority and mpls, addrs, flags, fmask, pid, seq, errno, inits; metrics of 56 bytes
        bytes.extend([96u16.to_ne_bytes(), index, none, none].concat());
        bytes.extend([addresses, flags, fmask, pid, sequence, error, [0; 4]].concat());
        bytes.extend([0; 56]);
    } else {
        // index, padding, flags, addrs, pid, seq, errno, use
        bytes.extend([index, none].concat());
        bytes.extend([flags, addresses, pid, sequence, error, [0; 4]].concat());
        // inits and metrics
        bytes.extend(match system {
            "macOS" => vec![0; 4 + 14 * 4],
            "FreeBSD, 64 bits" => vec![0; 8 + 14 * 8],
            "FreeBSD, 32 bits" => vec![0; 4 + 14 * 4],
            "NetBSD" => vec![0; 8 + 10 * 8],
            _ => unreachable!("{system}"),
        });
    }
    bytes
}

/// A socket address with what it is rounded up with.
fn rounded(system: &str, mut sockaddr: Vec<u8>) -> Vec<u8> {
    let to = if system == "macOS" || system.ends_with("32 bits") { 4 } else { 8 };
    sockaddr.resize(sockaddr.len().max(1).next_multiple_of(to), 0);
    sockaddr
}

fn sockaddr_in(octets: [u8; 4]) -> Vec<u8> {
    [&[16, 2, 0, 0][..], &octets, &[0; 8]].concat()
}

fn sockaddr_in6(system: &str, address: &str) -> Vec<u8> {
    let family = match system {
        "macOS" => 30,
        _ if system.starts_with("FreeBSD") => 28,
        _ => 24,
    };
    let address: Ipv6Addr = address.parse().unwrap();
    [&[28, family, 0, 0, 0, 0, 0, 0][..], &address.octets(), &[0; 4]].concat()
}

/// Interface 7, named "en0".
fn sockaddr_dl() -> Vec<u8> {
    let index = 7u16.to_ne_bytes();
    [&[20, 18][..], &index, &[6, 3, 6, 0], b"en0\x02\x00\x00\x00\x00\x01\x00\x00\x00"].concat()
}

/// A whole message.
fn message(system: &str, kind: u8, flags: u32, error: i32, sockaddrs: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let addresses = sockaddrs.iter().fold(0, |bits, (bit, _)| bits | bit);
    let mut bytes = header(system, kind, flags, addresses, error);
    for (_, sockaddr) in sockaddrs {
        bytes.extend(rounded(system, sockaddr.clone()));
    }
    let len = u16::try_from(bytes.len()).unwrap();
    bytes[..2].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// The default route, by 192.0.2.1: RTF_UP, RTF_GATEWAY, RTF_DONE, RTF_STATIC.
fn answer(system: &str) -> Vec<u8> {
    let sockaddrs = [
        (RTA_DST, sockaddr_in([0; 4])),
        (RTA_GATEWAY, sockaddr_in([192, 0, 2, 1])),
        (RTA_NETMASK, vec![]),
        (RTA_IFP, sockaddr_dl()),
    ];
    message(system, RTM_GET, 0x843, 0, &sockaddrs)
}

fn read(layout: &Layout, bytes: &[u8]) -> Option<io::Result<Hop>> {
    layout.read_answer(bytes, PID, SEQUENCE)
}

fn hop(gateway: &str) -> Hop {
    Hop { gateway: Some(gateway.parse().unwrap()), interface: 7 }
}

#[test]
fn asks_for_a_route_as_each_system_wants_it() {
    for (system, layout) in SYSTEMS {
        let asks_for_interface = !system.starts_with("OpenBSD");
        let question = layout.question([192, 0, 2, 1].into(), SEQUENCE, 0);
        let mut sockaddrs = vec![(RTA_DST, sockaddr_in([192, 0, 2, 1]))];
        if asks_for_interface {
            sockaddrs.push((RTA_IFP, [&[20, 18][..], &[0; 18]].concat()));
        }
        let mut expected = message(system, RTM_GET, RTF_UP, 0, &sockaddrs);
        // The kernel fills these in.
        expected[layout.index_at..][..2].fill(0);
        expected[layout.pid_at..][..4].fill(0);
        assert_eq!(question, expected, "{system}");

        let question = layout.question("2001:db8::1".parse().unwrap(), SEQUENCE, 0);
        sockaddrs[0].1 = sockaddr_in6(system, "2001:db8::1");
        let expected = message(system, RTM_GET, RTF_UP, 0, &sockaddrs);
        assert_eq!(question[layout.header_len..], expected[layout.header_len..], "{system}");
        assert_eq!(question[..4], expected[..4], "{system}");
    }
}

#[test]
fn asks_in_the_table_of_the_process_where_questions_name_one() {
    let ask = |layout: &Layout, table| layout.question([192, 0, 2, 1].into(), SEQUENCE, table);
    for (system, layout) in SYSTEMS {
        if system.starts_with("OpenBSD") {
            let mut expected = ask(&layout, 0);
            expected[8..10].copy_from_slice(&258u16.to_ne_bytes());
            assert_eq!(ask(&layout, 258), expected, "{system}");
        } else {
            assert_eq!(ask(&layout, 258), ask(&layout, 0), "{system}");
        }
    }
}

#[test]
fn reads_the_next_hop_and_the_interface() {
    for (system, layout) in SYSTEMS {
        assert_eq!(read(&layout, &answer(system)).unwrap().unwrap(), hop("192.0.2.1"), "{system}");
    }
}

#[test]
fn reads_an_ipv6_next_hop_without_the_scope_inside_it() {
    for (system, layout) in SYSTEMS {
        let sockaddrs = [
            (RTA_DST, sockaddr_in6(system, "::")),
            (RTA_GATEWAY, sockaddr_in6(system, "fe80:7::1")),
            (RTA_NETMASK, vec![]),
        ];
        let bytes = message(system, RTM_GET, 0x843, 0, &sockaddrs);
        assert_eq!(read(&layout, &bytes).unwrap().unwrap(), hop("fe80::1"), "{system}");
    }
}

#[test]
fn takes_a_route_to_the_link_for_one_without_next_hop() {
    for (system, layout) in SYSTEMS {
        let mut sockaddrs = [
            (RTA_DST, sockaddr_in([192, 0, 2, 0])),
            (RTA_GATEWAY, sockaddr_dl()),
            (RTA_NETMASK, vec![7, 255, 255, 255, 255, 255, 255]),
        ];
        let on_link = Hop { gateway: None, interface: 7 };
        let bytes = message(system, RTM_GET, 0x41, 0, &sockaddrs);
        assert_eq!(read(&layout, &bytes).unwrap().unwrap(), on_link, "{system}");
        // FreeBSD names the interface's own address there.
        sockaddrs[1].1 = sockaddr_in([192, 0, 2, 9]);
        let bytes = message(system, RTM_GET, 0x41, 0, &sockaddrs);
        assert_eq!(read(&layout, &bytes).unwrap().unwrap(), on_link, "{system}");
    }
}

/// FreeBSD routes IPv4 by IPv6 next hops, too (RFC 5549).
#[test]
fn takes_a_next_hop_of_the_other_family_for_none() {
    for (system, layout) in SYSTEMS {
        let sockaddrs = [
            (RTA_DST, sockaddr_in([0; 4])),
            (RTA_GATEWAY, sockaddr_in6(system, "fe80:7::1")),
            (RTA_NETMASK, vec![]),
        ];
        let bytes = message(system, RTM_GET, 0x843, 0, &sockaddrs);
        let unnamed = Hop { gateway: None, interface: 7 };
        assert_eq!(read(&layout, &bytes).unwrap().unwrap(), unnamed, "{system}");
        assert_eq!(layout.find_default(&bytes, false), None, "{system}");
    }
}

#[test]
fn takes_routes_that_drop_packets_and_errors_for_no_route() {
    for (system, layout) in SYSTEMS {
        for flag in [RTF_REJECT, RTF_BLACKHOLE] {
            let mut bytes = answer(system);
            let flags = (0x843 | flag).to_ne_bytes();
            bytes[layout.flags_at..][..4].copy_from_slice(&flags);
            assert!(read(&layout, &bytes).unwrap().is_err(), "{system}");
        }
        let refused = message(system, RTM_GET, 0, 3, &[(RTA_DST, sockaddr_in([192, 0, 2, 1]))]);
        let error = read(&layout, &refused).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(3), "{system}");
    }
}

#[test]
fn ignores_answers_to_other_questions_and_other_processes() {
    for (system, layout) in SYSTEMS {
        let bytes = answer(system);
        assert!(layout.read_answer(&bytes, PID, SEQUENCE + 1).is_none(), "{system}");
        assert!(layout.read_answer(&bytes, PID + 1, SEQUENCE).is_none(), "{system}");
        let mut added = bytes.clone();
        added[TYPE_AT] = RTM_ADD;
        assert!(read(&layout, &added).is_none(), "{system}");
        let mut of_another_version = bytes;
        of_another_version[VERSION_AT] += 1;
        assert!(read(&layout, &of_another_version).is_none(), "{system}");
    }
}

#[test]
fn reads_a_header_that_has_grown_where_messages_name_its_length() {
    let mut bytes = answer("OpenBSD, 64 bits");
    bytes.splice(96..96, [0xff; 8]);
    let (len, header_len) = ((bytes.len() as u16).to_ne_bytes(), 104u16.to_ne_bytes());
    bytes[..2].copy_from_slice(&len);
    bytes[4..6].copy_from_slice(&header_len);
    assert_eq!(read(&openbsd(8), &bytes).unwrap().unwrap(), hop("192.0.2.1"));
}

#[test]
fn tells_changes_from_what_a_lookup_makes_the_kernel_say() {
    for (system, layout) in SYSTEMS {
        let notice = |kind, flags| message(system, kind, flags, 0, &[]);
        for kind in [RTM_ADD, RTM_DELETE, RTM_CHANGE] {
            assert!(layout.tells_of_change(&notice(kind, 0x843)), "{system}: {kind}");
            assert!(!layout.tells_of_change(&notice(kind, 0x405)), "{system}: {kind}, a neighbour");
        }
        assert!(!layout.tells_of_change(&answer(system)), "{system}");
        // RTM_MISS, RTM_RESOLVE.
        assert!(
            !layout.tells_of_change(&notice(7, 0)) && !layout.tells_of_change(&notice(0xb, 0)),
            "{system}"
        );
    }
    let notice = |system, kind, flags| message(system, kind, flags, 0, &[]);
    // Cloned routes: RTF_WASCLONED, RTF_CLONED.
    assert!(!APPLE.tells_of_change(&notice("macOS", RTM_ADD, 0x2_0007)));
    assert!(!openbsd(8).tells_of_change(&notice("OpenBSD, 64 bits", RTM_ADD, 0x1_0007)));
    // The same bits say other things elsewhere.
    assert!(freebsd(8).tells_of_change(&notice("FreeBSD, 64 bits", RTM_ADD, 0x3_0003)));
    assert!(NETBSD.tells_of_change(&notice("NetBSD", RTM_ADD, 0x3_0003)));
    // 0xf, 0x10: multicast groups; OpenBSD: an interface has come, notices were lost; NetBSD: interfaces.
    for kind in [0xf, 0x10] {
        assert!(!APPLE.tells_of_change(&notice("macOS", kind, 0)));
        assert!(!freebsd(8).tells_of_change(&notice("FreeBSD, 64 bits", kind, 0)));
        assert!(openbsd(8).tells_of_change(&notice("OpenBSD, 64 bits", kind, 0)));
        assert!(NETBSD.tells_of_change(&notice("NetBSD", kind, 0)));
    }
}

#[test]
fn takes_addresses_and_links_for_changes_from_their_first_bytes() {
    for (system, layout) in SYSTEMS {
        let (address, link) = if system == "NetBSD" { (0x16, 0x14) } else { (0xc, 0xe) };
        for kind in [address, address + 1, link] {
            let start = [16, 0, layout.version, kind];
            assert!(layout.tells_of_change(&start), "{system}: {kind}");
            assert!(!layout.tells_of_change(&start[..3]), "{system}: {kind}");
        }
        assert!(!layout.tells_of_change(&[16, 0, layout.version + 1, link]), "{system}");
    }
}

#[test]
fn takes_news_of_name_servers_neighbours_and_logged_packets_for_no_change() {
    let tells = |layout: &Layout, kind| layout.tells_of_change(&[16, 0, layout.version, kind]);
    // RTM_IPFWLOG, RTM_PROPOSAL, RTM_LLINFO_UPD.
    assert!(!tells(&freebsd(8), 0x13) && !tells(&openbsd(8), 0x13) && !tells(&NETBSD, 0x13));
    // RTM_IFANNOUNCE, RTM_IEEE80211; RTM_CHGADDRATTR, RTM_80211INFO, RTM_SOURCE; RTM_CHGADDR.
    assert!(tells(&freebsd(8), 0x11) && tells(&freebsd(8), 0x12));
    assert!(tells(&openbsd(8), 0x14) && tells(&openbsd(8), 0x15) && tells(&openbsd(8), 0x16));
    assert!(tells(&NETBSD, 0x18));
}

/// What sysctl gives: one route after the other.
fn dump(system: &str) -> Vec<u8> {
    let route = |flags, destination, mask, gateway| {
        let sockaddrs = [
            (RTA_DST, sockaddr_in(destination)),
            (RTA_GATEWAY, sockaddr_in([192, 0, 2, gateway])),
            (RTA_NETMASK, mask),
        ];
        message(system, RTM_GET, flags, 0, &sockaddrs)
    };
    [
        // Half of the internet by a tunnel (0.0.0.0/1), a scoped default route, one that is down; then the one.
        route(0x843, [0; 4], vec![5, 0, 0, 0, 128], 2),
        route(0x100_0843, [0; 4], vec![], 3),
        route(0x842, [0; 4], vec![], 4),
        route(0x843, [0; 4], vec![], 1),
        route(0x843, [198, 51, 100, 0], vec![7, 0, 0, 0, 255, 255, 255], 5),
    ]
    .concat()
}

#[test]
fn finds_the_default_route_in_the_table() {
    let dump = dump("macOS");
    assert_eq!(APPLE.find_default(&dump, false), Some(hop("192.0.2.1")));
    assert_eq!(APPLE.find_default(&dump, true), None);
    assert_eq!(APPLE.find_default(&[], false), None);
}

/// A default route of IPv6, with flags.
fn ipv6_default(system: &str, kind: u8, flags: u32) -> Vec<u8> {
    let sockaddrs = [
        (RTA_DST, sockaddr_in6(system, "::")),
        (RTA_GATEWAY, sockaddr_in6(system, "fe80:7::1")),
        (RTA_NETMASK, vec![]),
    ];
    message(system, kind, flags, 0, &sockaddrs)
}

#[test]
fn finds_the_routers_of_an_interface_in_the_table() {
    for (system, layout) in SYSTEMS {
        // With the flag of those that count for their interface alone.
        let mut dump = [ipv6_default(system, RTM_GET, 0x843 | layout.scoped), dump(system)].concat();
        assert_eq!(layout.find_routers(&dump, 7), ["fe80::1".parse::<Ipv6Addr>().unwrap()], "{system}");
        assert_eq!(layout.find_routers(&dump, 8), [] as [Ipv6Addr; 0], "{system}");
        dump.truncate(layout.header_len);
        assert_eq!(layout.find_routers(&dump, 7), [] as [Ipv6Addr; 0], "{system}");
    }
}

#[test]
fn asks_for_a_route_on_an_interface_where_there_are_such_routes() {
    for (system, layout) in SYSTEMS {
        let question = layout.question("2001:db8::1".parse().unwrap(), SEQUENCE, 0);
        let mut scoped = question.clone();
        layout.scope(&mut scoped, 7);
        let mut expected = question;
        if system == "macOS" {
            expected[4..6].copy_from_slice(&7u16.to_ne_bytes());
            // RTF_UP, RTF_IFSCOPE.
            expected[8..12].copy_from_slice(&0x100_0001u32.to_ne_bytes());
        }
        assert_eq!(scoped, expected, "{system}");
    }
}

#[test]
fn tells_routes_of_ipv6_from_other_changes() {
    for (system, layout) in SYSTEMS {
        let ipv4 = message(system, RTM_ADD, 0x843, 0, &[(RTA_DST, sockaddr_in([0; 4]))]);
        assert!(layout.is_of_ipv6_route(&ipv6_default(system, RTM_ADD, 0x843)), "{system}");
        assert!(!layout.is_of_ipv6_route(&ipv4), "{system}");
        assert!(!layout.is_of_ipv6_route(&ipv6_default(system, 0xe, 0x843)), "{system}: another kind");
        assert!(!layout.is_of_ipv6_route(&ipv6_default(system, RTM_ADD, 0x843)[..90]), "{system}: cut off");
    }
}

#[test]
fn survives_every_prefix_of_an_answer_and_of_a_table() {
    for (system, layout) in SYSTEMS {
        let bytes = answer(system);
        for end in 0..bytes.len() {
            assert!(read(&layout, &bytes[..end]).is_none(), "{system}");
            // With a length that fits the cut.
            let mut cut = bytes[..end].to_vec();
            if end >= 2 {
                cut[..2].copy_from_slice(&(end as u16).to_ne_bytes());
            }
            if let Some(Ok(found)) = read(&layout, &cut) {
                assert!(end >= layout.header_len, "{system}");
                assert!(found.gateway.is_none() || found == hop("192.0.2.1"), "{system}");
            }
        }
    }
    let table = dump("macOS");
    for end in 0..table.len() {
        let found = APPLE.find_default(&table[..end], false);
        assert!(found.is_none() || found == Some(hop("192.0.2.1")));
    }
}

proptest! {
    #[test]
    fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), system in 0..SYSTEMS.len()) {
        let layout = SYSTEMS[system].1;
        let _ = read(&layout, &bytes);
        let _ = layout.tells_of_change(&bytes);
        let _ = (layout.find_default(&bytes, false), layout.find_routers(&bytes, 7));
        let _ = layout.is_of_ipv6_route(&bytes);
    }

    #[test]
    fn survives_damage(position in 0usize..300, value: u8, system in 0..SYSTEMS.len()) {
        let (name, layout) = SYSTEMS[system];
        let mut bytes = answer(name);
        if let Some(byte) = bytes.get_mut(position) {
            *byte = value;
        }
        let _ = read(&layout, &bytes);
        let _ = layout.find_default(&[bytes, answer(name)].concat(), false);
    }
}
