use super::bench::*;
use super::{no_wish, tcp, wish};
use crate::engine::driver::Notice;

/// These TCP ports are mapped to themselves by 5000 ms.
fn mapped(ports: std::ops::Range<u16>) -> Bench {
    let mut bench = Bench::with_igd(IP1);
    bench.devices[0].boot_id = Some(7);
    bench.start_up();
    for port in ports {
        bench.map(tcp(port), no_wish());
    }
    bench.run_until(5000);
    bench.requests.clear();
    bench.notices.clear();
    bench
}

fn entry(port: u16) -> (String, u16) {
    ("TCP".to_owned(), port)
}

#[test]
fn a_check_that_finds_everything_in_place_is_silent() {
    let mut bench = mapped(4000..4010);
    bench.check();
    bench.run_until(60_000);
    assert_eq!(bench.notices, []);
    assert_eq!(bench.count("GetExternalIPAddress"), 1);
    assert_eq!(bench.count("GetSpecificPortMappingEntry"), 10);
    assert_eq!(bench.requests.len(), 11);
}

#[test]
fn a_check_takes_its_time() {
    let mut bench = mapped(4000..4050);
    bench.check();
    bench.check();
    bench.run_until(60_000);
    let looks: Vec<_> = bench.requests.iter().filter(|(_, line)| line.starts_with("GetSpecific")).collect();
    assert_eq!(looks.len(), 50, "the second call finds the first under way");
    for window in looks.windows(10) {
        assert!(window[9].0 - window[0].0 >= 1000, "at most 10 exchanges a second");
    }
}

#[test]
fn a_check_with_nothing_to_look_after_asks_for_the_address_only() {
    let mut bench = mapped(0..0);
    bench.check();
    bench.run_until(60_000);
    assert_eq!(bench.lines(), ["GetExternalIPAddress"]);
}

#[test]
fn a_check_finds_an_entry_that_is_gone() {
    let mut bench = mapped(4000..4003);
    bench.igd().table.remove(&entry(4001));
    bench.check();
    bench.run_until(60_000);
    let notices: Vec<_> = bench.notices.iter().map(|&(_, notice)| notice).collect();
    assert_eq!(notices, [Notice::Gone { key: tcp(4001) }]);
    // It is made anew like a new one.
    bench.map(tcp(4001), wish(4001));
    bench.run_until(61_000);
    assert_eq!(bench.notices_of(tcp(4001)).last(), Some(&granted(tcp(4001), 4001)));
}

#[test]
fn a_check_finds_an_entry_that_leads_elsewhere() {
    for (client, port) in [("192.168.1.99", 4000), (LOCAL, 4001)] {
        let mut bench = mapped(4000..4001);
        bench.igd().table.insert(entry(4000), (client.to_owned(), port, 0));
        bench.check();
        bench.run_until(60_000);
        assert_eq!(bench.notices_of(tcp(4000)), [Notice::Gone { key: tcp(4000) }]);
    }
}

#[test]
fn a_gateway_that_does_not_tell_is_believed() {
    for code in [401, 501, 602, 606] {
        let mut bench = mapped(4000..4001);
        bench.igd().always.push(("GetSpecificPortMappingEntry", code));
        bench.check();
        bench.run_until(60_000);
        assert_eq!(bench.notices, [], "{code}");
    }
}

#[test]
fn many_entries_that_are_gone_are_found_at_the_same_pace() {
    let mut bench = mapped(4000..4100);
    bench.igd().table.clear();
    bench.check();
    bench.run_until(5000 + 100 * 120);
    assert_eq!(bench.notices.len(), 100);
    for window in bench.notices.windows(10) {
        assert!(window[9].0 - window[0].0 >= 1000, "at most 10 a second");
    }
}

#[test]
fn a_gateway_that_denies_what_it_has_just_made_is_believed_once() {
    let mut bench = mapped(4000..4003);
    bench.igd().always.push(("GetSpecificPortMappingEntry", 714));
    bench.check();
    for at in 0..100 {
        bench.run_until(6000 + 100 * at);
        let gone: Vec<_> = std::mem::take(&mut bench.notices);
        for (_, notice) in gone {
            if let Notice::Gone { key } = notice {
                bench.map(key, wish(key.internal_port.get()));
            }
        }
    }
    bench.requests.clear();
    for at in 1..10 {
        bench.check();
        bench.run_until(20_000 + at * 300_000);
    }
    assert_eq!(bench.notices, []);
    // One a recheck, whether it has come to its senses.
    assert_eq!(bench.count("GetSpecificPortMappingEntry"), 9);
    assert_eq!(bench.count("GetExternalIPAddress"), 9);
}

#[test]
fn a_gateway_that_has_no_answer_to_a_look_is_not_lost_and_not_asked_for_ever() {
    for cut in [true, false] {
        let mut bench = mapped(4000..4005);
        bench.check();
        // The address is answered, the looks are not.
        bench.run_until(5011);
        if cut {
            bench.server().cuts = usize::MAX;
        } else {
            bench.server().ignores = usize::MAX;
        }
        bench.run_until(100_000);
        let looks = bench.count("GetSpecificPortMappingEntry");
        assert!(looks <= 10, "{looks} looks, cut {cut}");
        let lost = bench.when(|notice| *notice == Notice::Lost).is_some();
        assert!(!(cut && lost), "cut {cut}");
        bench.server().cuts = 0;
        bench.server().ignores = 0;
        assert_eq!(bench.driver.poll_timeout(), None);
    }
}

#[test]
fn a_check_finds_a_changed_address() {
    let mut bench = mapped(4000..4002);
    bench.igd().external = "9.9.9.9".to_owned();
    bench.check();
    bench.run_until(60_000);
    let notices: Vec<_> = bench.notices.iter().map(|&(_, notice)| notice).collect();
    assert_eq!(notices, [Notice::AddressChanged { address: ip("9.9.9.9") }]);
    bench.check();
    bench.run_until(120_000);
    assert_eq!(bench.notices.len(), 1);
}

#[test]
fn a_renewal_finds_a_changed_address() {
    let mut bench = mapped(4000..4001);
    bench.igd().external = "9.9.9.9".to_owned();
    bench.run_until(3_600_000);
    bench.map(tcp(4000), wish(4000));
    bench.run_until(3_700_000);
    assert!(bench.notices.iter().any(|(_, notice)| {
        matches!(notice, Notice::Granted { address, .. } if *address == ip("9.9.9.9"))
    }));
}

#[test]
fn a_check_makes_way_for_a_renewal_and_a_deletion() {
    let mut bench = mapped(4000..4002);
    bench.check();
    bench.run_until(5005);
    bench.map(tcp(4000), wish(4000));
    bench.delete(tcp(4001));
    bench.run_until(60_000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
    assert_eq!(bench.notices_of(tcp(4001)), [Notice::Deleted { key: tcp(4001), answered: true }]);
    assert_eq!(bench.count("GetSpecificPortMappingEntry tcp 4001"), 0);
}

#[test]
fn a_check_of_a_dead_control_url_finds_it_lost() {
    let mut bench = mapped(4000..4001);
    bench.server().mood = Mood::Refuses;
    bench.check();
    bench.run_until(60_000);
    assert_eq!(bench.when(|notice| *notice == Notice::Lost), Some(5252));
}

const USN: &str = "uuid:192.168.1.1";
const HOME: &str = "http://192.168.1.1:5000/root.xml";
const MOVED: &str = "http://192.168.1.1:5001/root.xml";

#[test]
fn a_gateway_that_says_goodbye_is_looked_at() {
    let mut bench = mapped(4000..4001);
    bench.notification("192.168.1.1:34567", &notify("byebye", USN, "", None));
    assert_eq!(bench.notices, [(5000, Notice::Recheck)]);
}

#[test]
fn a_gateway_that_moved_or_booted_is_looked_at_once() {
    for alive in [notify("alive", USN, MOVED, Some(7)), notify("alive", USN, HOME, Some(8))] {
        let mut bench = mapped(4000..4001);
        bench.notification("192.168.1.1:1900", &notify("alive", USN, HOME, Some(7)));
        assert_eq!(bench.notices, [], "nothing new in it");
        for _ in 0..20 {
            bench.notification("192.168.1.1:1900", &alive);
        }
        bench.run_until(60_000);
        bench.notification("192.168.1.1:1900", &alive);
        assert_eq!(bench.notices, [(5000, Notice::Recheck)]);
    }
}

#[test]
fn looks_are_five_seconds_apart() {
    let mut bench = mapped(4000..4001);
    bench.notification("192.168.1.1:1900", &notify("byebye", USN, "", None));
    for boot_id in 8..30 {
        bench.run_until(5000 + 100 * u64::from(boot_id));
        bench.notification("192.168.1.1:1900", &notify("alive", USN, HOME, Some(boot_id)));
    }
    bench.run_until(60_000);
    assert_eq!(bench.notices, [(5000, Notice::Recheck), (10_000, Notice::Recheck)]);
}

#[test]
fn notifications_of_others_are_ignored() {
    let mut bench = mapped(4000..4001);
    bench.notification("192.168.1.66:1900", &notify("byebye", USN, "", None));
    bench.notification("192.168.1.1:1900", &notify("byebye", "uuid:another", "", None));
    bench.notification("192.168.1.1:1900", &notify("alive", "uuid:another", MOVED, Some(9)));
    bench.notification("192.168.1.1:1900", "M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n");
    bench.run_until(60_000);
    assert_eq!(bench.notices, []);
}
