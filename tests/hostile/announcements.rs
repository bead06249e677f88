//! Forged multicast announcements: PCP's and NAT-PMP's to 224.0.0.1:5350, UPnP's to 239.255.255.250:1900.

use crate::harness::{GATEWAY_HTTP, Harness, IGD, ROGUE, addr, harness, millis, secs, set_up, upnp_harness};
use crate::memory::peak_of;
use crate::world::GATEWAY;
use plum_engine::io::{Event, Socket};
use plum_wire::Transport::Tcp;
use std::net::SocketAddr;

fn pcp(epoch: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0x80, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.resize(24, 0);
    bytes
}

fn natpmp(epoch: u32) -> Vec<u8> {
    let mut bytes = vec![0, 128, 0, 0];
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&[198, 51, 100, 66]);
    bytes
}

fn notify(kind: &str, location: &str, boot_id: u32) -> Vec<u8> {
    format!(
        "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNTS: ssdp:{kind}\r\nNT: {IGD}\r\nUSN: uuid:x::{IGD}\r\n\
         LOCATION: {location}\r\nBOOTID.UPNP.ORG: {boot_id}\r\n\r\n"
    )
    .into_bytes()
}

fn packets(harness: &mut Harness) -> usize {
    harness.wire(|wired| wired.sent.len())
}

#[test]
fn announcements_of_others_are_not_heard() {
    let mut harness = set_up(|setup| setup.gateways[0].first_epoch = 1000);
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    let before = packets(&mut harness);
    for from in ["192.168.1.66:5351", "192.168.1.2:5351", "127.0.0.1:5351", "8.8.8.8:5351", "[fe80::1]:5351"]
    {
        for epoch in [0, 1000, u32::MAX] {
            harness.inject(Socket::Announcements, addr(from), &pcp(epoch));
            harness.inject(Socket::Announcements, addr(from), &natpmp(epoch));
        }
    }
    harness.run_for(secs(100));
    assert_eq!(packets(&mut harness), before);
    assert_eq!(harness.events(id).len(), 1);
}

#[test]
fn a_flood_of_forged_announcements_costs_one_round_of_requests_in_ten_seconds() {
    for natpmp_only in [false, true] {
        let mut harness = harness();
        harness.gateway().faults.closed.pcp = natpmp_only;
        let ids: Vec<_> = (8000..8050).map(|port| harness.create(Tcp, port)).collect();
        harness.run_until(Harness::all_success);
        harness.run_for(secs(5));
        let before = packets(&mut harness);
        let start = harness.now();
        let (peak, ()) = peak_of(|| {
            for round in 0..10_000u32 {
                // From the gateway's address, from whatever port: whoever can forge the address can forge that.
                let from = SocketAddr::new(GATEWAY, if round % 2 == 0 { 5351 } else { 40_000 });
                harness.inject(Socket::Announcements, from, &pcp(round.wrapping_mul(0x9e37_79b9)));
                harness.inject(Socket::Announcements, from, &natpmp(round));
                harness.run_for(millis(4));
            }
        });
        let span = harness.now().since(start);
        let caused = packets(&mut harness) - before;
        // Rounds begin at 0, 10, 20 and 30 s. With NAT-PMP, whose address is asked for anew, each request may be two, and
        // the first answer shows that the clock that was announced is not the gateway's: one more round.
        let most = 50 * if natpmp_only { 2 * 5 } else { 4 };
        assert!((150..=most).contains(&caused), "{caused} packets in {span:?}");
        assert!(peak < 256 << 10, "{peak} bytes");
        // Whoever can forge the gateway's address can announce that it has lost everything. All is as before within 5 s.
        harness.run_for(secs(16));
        for id in ids {
            let events = harness.events(id);
            let (first, others) = events.split_first().expect("it was made");
            let is_made_again = |pair: &[Event]| pair[0] == Event::Pending && pair[1] == *first;
            assert!(others.chunks(2).all(is_made_again) && others.len() <= 2 * 4, "{events:?}");
        }
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn announcements_that_are_none_are_dropped() {
    let mut harness = harness();
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    let before = packets(&mut harness);
    let from = SocketAddr::new(GATEWAY, 5351);
    let mut map = pcp(0);
    (map[1], map[3]) = (0x81, 0);
    map.resize(60, 0);
    let mut error = pcp(0);
    error[3] = 3;
    for bytes in [
        &[][..],
        &[0; 3],
        &[2, 0, 0, 0],
        &[0xff; 1400],
        &map,
        &error,
        &natpmp(0)[..11],
        &[0, 128, 0, 3, 0, 0, 0, 0],
    ] {
        harness.inject(Socket::Announcements, from, bytes);
    }
    harness.run_for(secs(100));
    assert_eq!(packets(&mut harness), before);
    assert_eq!(harness.events(id).len(), 1);
}

#[test]
fn forged_notifications_cost_one_recheck_in_five_seconds_and_lead_nowhere() {
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    // Beyond the one look at the lease.
    harness.run_for(secs(25));
    // From others: nothing at all.
    let before = harness.connected_to().len();
    for kind in ["alive", "byebye", "update"] {
        harness.inject(
            Socket::Notifications,
            SocketAddr::new(ROGUE, 1900),
            &notify(kind, "http://192.168.1.66/x", 7),
        );
    }
    harness.run_for(secs(20));
    assert_eq!(harness.connected_to().len(), before);
    // With the gateway's address forged, each naming another place.
    let usn = plum_gateway::core::Igd::default().uuid;
    let (peak, ()) = peak_of(|| {
        for round in 0..5000u32 {
            let location = format!("http://192.168.1.66:80/{round}");
            let bytes = notify("alive", &location, round);
            let bytes = String::from_utf8(bytes).expect("text").replace("uuid:x", &format!("uuid:{usn}"));
            harness.inject(Socket::Notifications, SocketAddr::new(GATEWAY, 1900), bytes.as_bytes());
            harness.run_for(millis(4));
        }
    });
    let connects = harness.connected_to();
    let caused = connects.len() - before;
    // Each recheck: the external address and one entry, at 0, 5, 10, 15, 20 s.
    assert!((2..=12).contains(&caused), "{caused} connections");
    assert!(connects.iter().all(|&to| to == GATEWAY_HTTP), "{connects:?}");
    assert!(peak < 256 << 10, "{peak} bytes");
    assert_eq!(harness.events(id).len(), 1);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn notifications_of_others_are_ignored() {
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    harness.run_for(secs(25));
    let (connects, sent) = (harness.connected_to().len(), packets(&mut harness));
    let usn = format!("uuid:{}", plum_gateway::core::Igd::default().uuid);
    for (from, name, location) in [
        // A stranger with the gateway's name, which it tells everyone.
        (ROGUE, &*usn, "http://192.168.1.66:80/x"),
        (ROGUE, &*usn, "http://192.168.1.1:5000/rootDesc.xml"),
        (ROGUE, "uuid:x", "http://192.168.1.66:80/x"),
        // Another device of the gateway's.
        (GATEWAY, "uuid:x", "http://192.168.1.1:80/x"),
    ] {
        for (kind, boot_id) in [("alive", 7), ("update", 8), ("byebye", 9), ("alive", 10)] {
            let bytes = notify(kind, location, boot_id);
            let text = String::from_utf8(bytes).expect("text").replace("uuid:x", name);
            harness.inject(Socket::Notifications, SocketAddr::new(from, 1900), text.as_bytes());
        }
        harness.inject(
            Socket::Notifications,
            SocketAddr::new(from, 1900),
            b"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n",
        );
    }
    harness.run_for(secs(60));
    assert_eq!((harness.connected_to().len(), packets(&mut harness)), (connects, sent));
    assert_eq!(harness.events(id).len(), 1);
}
