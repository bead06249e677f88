use super::bench::*;
use super::{no_wish, tcp, wish};
use crate::engine::driver::Notice;

fn deleted(answered: bool) -> Notice {
    Notice::Deleted { key: tcp(4000), answered }
}

/// TCP 4000 is mapped to 5000 at 500 ms.
fn mapped() -> Bench {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), wish(5000));
    bench.run_until(500);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)]);
    bench.requests.clear();
    bench.notices.clear();
    bench
}

#[test]
fn deletes_the_external_port() {
    let mut bench = mapped();
    bench.delete(tcp(4000));
    bench.run_until(10_000);
    assert_eq!(bench.lines(), ["DeletePortMapping tcp 5000"]);
    assert_eq!(bench.notices, [(511, deleted(true))]);
    assert!(bench.igd().table.is_empty());
    assert_eq!(bench.driver.removals(), 0);
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn an_entry_that_is_gone_counts_as_deleted() {
    for code in [714, 606, 501] {
        let mut bench = mapped();
        bench.igd().script.push_back(("DeletePortMapping", code));
        bench.delete(tcp(4000));
        bench.run_until(10_000);
        assert_eq!(bench.notices, [(511, deleted(true))], "{code}");
        assert_eq!(bench.requests.len(), 1);
    }
}

#[test]
fn what_was_never_made_needs_no_packet() {
    let mut bench = mapped();
    bench.delete(tcp(1));
    assert_eq!(bench.notices, [(500, Notice::Deleted { key: tcp(1), answered: true })]);
    assert!(bench.lines().is_empty());
}

#[test]
fn a_deletion_during_the_add_follows_its_answer() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().reply_ms = 300;
    bench.map(tcp(4000), no_wish());
    bench.run_until(250);
    bench.delete(tcp(4000));
    bench.run_until(10_000);
    let timetable: Vec<_> = bench.requests.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(
        timetable,
        [(201, "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"), (502, "DeletePortMapping tcp 4000"),]
    );
    assert_eq!(bench.notices, [(802, deleted(true))]);
}

#[test]
fn a_deletion_during_the_look_adds_nothing() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), wish(5000));
    bench.run_until(205);
    bench.delete(tcp(4000));
    bench.run_until(10_000);
    assert_eq!(bench.lines(), ["GetSpecificPortMappingEntry tcp 5000 -> 714"]);
    assert_eq!(bench.notices, [(211, deleted(true))]);
}

#[test]
fn a_deletion_of_an_unsent_request_sends_nothing() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    for port in 4001..4005 {
        bench.map(tcp(port), no_wish());
    }
    bench.map(tcp(4000), no_wish());
    bench.delete(tcp(4000));
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(true)]);
    bench.run_until(10_000);
    assert_eq!(bench.requests.len(), 4);
    // Nor does one whose connection is only coming to be.
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), no_wish());
    bench.map(tcp(4001), no_wish());
    bench.delete(tcp(4000));
    bench.abandon(tcp(4001));
    assert_eq!(bench.notices, [(200, deleted(true))]);
    bench.run_until(10_000);
    assert_eq!(bench.connects.len(), 4);
    assert!(bench.requests.is_empty());
    // Neither does one that waits for a gateway.
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.delete(tcp(4000));
    bench.run_until(10_000);
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(true)]);
    assert_eq!(bench.count("Add"), 0);
}

#[test]
fn an_unanswered_deletion_is_told_after_800_ms_and_goes_on() {
    let mut bench = mapped();
    bench.server().reply_ms = 2000;
    bench.delete(tcp(4000));
    bench.run_until(1299);
    assert_eq!(bench.notices, []);
    bench.run_until(1300);
    assert_eq!(bench.notices, [(1300, deleted(false))]);
    assert_eq!(bench.driver.removals(), 1);
    bench.run_until(3000);
    assert_eq!(bench.driver.removals(), 0);
    assert_eq!(bench.notices.len(), 1, "told once");
    assert!(bench.igd().table.is_empty());
}

#[test]
fn a_deletion_that_is_never_answered_ends() {
    let mut bench = mapped();
    bench.server().mood = Mood::Silent;
    bench.delete(tcp(4000));
    bench.run_until(60_000);
    assert_eq!(bench.notices, [(1300, deleted(false))]);
    assert_eq!(bench.driver.removals(), 0);
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn a_deletion_that_is_refused_is_told_at_once() {
    let mut bench = mapped();
    bench.server().mood = Mood::Refuses;
    bench.delete(tcp(4000));
    bench.run_until(60_000);
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(false)]);
    assert_eq!(bench.when(|notice| *notice == deleted(false)), Some(752), "250 ms between two tries");
    assert!(bench.when(|notice| *notice == Notice::Lost).is_some());
    assert_eq!(bench.driver.removals(), 0);
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn a_slow_gateway_gets_all_deletions_and_the_time_it_needs() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    for port in 4000..4100 {
        bench.map(tcp(port), no_wish());
    }
    bench.run_until(5000);
    assert_eq!(bench.igd().table.len(), 100);
    bench.notices.clear();
    bench.server().reply_ms = 100;
    for port in 4000..4100 {
        bench.delete(tcp(port));
    }
    assert_eq!(bench.driver.removals(), 100);
    bench.run_until(20_000);
    // 25 turns of 101 ms: each of them longer ago than 0.8 s, but never the gateway's last answer.
    assert_eq!(bench.notices.len(), 100);
    assert!(bench.notices.iter().all(|(_, notice)| matches!(notice, Notice::Deleted { answered: true, .. })));
    assert_eq!(bench.notices.last().map(|&(at, _)| at), Some(5000 + 25 * 101));
    assert!(bench.igd().table.is_empty());
    assert_eq!(bench.max_open, 4);
}

#[test]
fn deletions_go_before_new_mappings() {
    let mut bench = mapped();
    for port in 6000..6020 {
        bench.map(tcp(port), no_wish());
    }
    bench.delete(tcp(4000));
    bench.run_until(10_000);
    let at = bench.lines().iter().position(|line| line.starts_with("Delete")).expect("it was deleted");
    assert_eq!(at, 4, "after those that were under way");
}

#[test]
fn a_mapping_made_anew_takes_over_an_unsent_deletion() {
    let mut bench = mapped();
    for port in 6000..6004 {
        bench.map(tcp(port), no_wish());
    }
    bench.delete(tcp(4000));
    bench.map(tcp(4000), no_wish());
    bench.run_until(10_000);
    assert_eq!(bench.count("Delete"), 0);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)]);
}

#[test]
fn a_mapping_made_anew_follows_a_sent_deletion() {
    let mut bench = mapped();
    bench.delete(tcp(4000));
    bench.run_until(505);
    bench.map(tcp(4000), no_wish());
    bench.run_until(10_000);
    assert_eq!(
        bench.lines(),
        [
            "DeletePortMapping tcp 5000",
            "GetSpecificPortMappingEntry tcp 5000 -> 714",
            "AddPortMapping tcp 5000 to 192.168.1.20:4000 for 7200",
        ]
    );
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 5000)], "no deletion is told");
}

#[test]
fn a_mapping_made_anew_takes_over_a_deletion_that_waits_for_the_add() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), no_wish());
    bench.run_until(205);
    bench.delete(tcp(4000));
    bench.map(tcp(4000), no_wish());
    bench.run_until(10_000);
    assert_eq!(bench.requests.len(), 1);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn an_external_port_is_not_asked_for_before_its_deletion_is_answered() {
    let mut bench = mapped();
    bench.server().reply_ms = 300;
    bench.delete(tcp(4000));
    bench.map(tcp(4001), wish(5000));
    bench.run_until(10_000);
    let timetable: Vec<_> = bench.requests.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(
        timetable,
        [
            (501, "DeletePortMapping tcp 5000"),
            (802, "GetSpecificPortMappingEntry tcp 5000 -> 714"),
            (1103, "AddPortMapping tcp 5000 to 192.168.1.20:4001 for 7200"),
        ]
    );
    assert_eq!(bench.notices_of(tcp(4001)), [granted(tcp(4001), 5000)]);
}

#[test]
fn an_abandoned_request_that_was_not_sent_is_forgotten() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(30);
    bench.abandon(tcp(4000));
    bench.run_until(10_000);
    assert_eq!(bench.count("Add"), 0);
    assert_eq!(bench.notices_of(tcp(4000)), []);
}

#[test]
fn an_abandoned_request_that_was_sent_is_deleted_after_its_answer() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), no_wish());
    bench.run_until(205);
    bench.abandon(tcp(4000));
    bench.run_until(10_000);
    assert_eq!(
        bench.lines(),
        ["AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200", "DeletePortMapping tcp 4000"]
    );
    assert_eq!(bench.notices_of(tcp(4000)), []);
    assert!(bench.igd().table.is_empty());
}

#[test]
fn abandoning_what_is_granted_leaves_it() {
    let mut bench = mapped();
    bench.abandon(tcp(4000));
    bench.run_until(10_000);
    assert!(bench.lines().is_empty());
    bench.delete(tcp(4000));
    bench.run_until(11_000);
    assert_eq!(bench.lines(), ["DeletePortMapping tcp 5000"]);
}

#[test]
fn forgetting_sends_nothing() {
    let mut bench = mapped();
    bench.forget(tcp(4000));
    bench.delete(tcp(4000));
    bench.map(tcp(4001), no_wish());
    bench.run_until(505);
    bench.forget(tcp(4001));
    bench.run_until(10_000);
    assert_eq!(bench.lines(), ["AddPortMapping tcp 4001 to 192.168.1.20:4001 for 7200"]);
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(true)]);
    assert_eq!(bench.notices_of(tcp(4001)), []);
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn what_may_be_anothers_is_looked_at_before_it_is_deleted() {
    for is_ours in [true, false] {
        let mut bench = Bench::with_igd(IP1);
        bench.start_up();
        bench.server().ignores = 1;
        bench.map(tcp(4000), no_wish());
        bench.run_until(15_000);
        assert_eq!(bench.notices_of(tcp(4000)), [Notice::TimedOut { key: tcp(4000) }]);
        let client = if is_ours { LOCAL } else { "192.168.1.99" };
        bench.igd().table.insert(("TCP".to_owned(), 4000), (client.to_owned(), 4000, 7200));
        bench.requests.clear();
        bench.notices.clear();
        bench.delete(tcp(4000));
        bench.run_until(20_000);
        assert_eq!(bench.lines()[0], "GetSpecificPortMappingEntry tcp 4000");
        assert_eq!(bench.count("Delete"), usize::from(is_ours));
        assert_eq!(bench.igd().table.is_empty(), is_ours);
        assert_eq!(bench.notices_of(tcp(4000)), [deleted(true)]);
    }
}

#[test]
fn a_deletion_is_done_at_the_control_url_that_is_found_next() {
    let mut bench = mapped();
    bench.server().mood = Mood::Refuses;
    bench.delete(tcp(4000));
    bench.run_until(1000);
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(false)]);
    bench.server().mood = Mood::Well;
    bench.run_until(100_000);
    bench.search();
    bench.run_until(101_000);
    assert!(bench.igd().table.is_empty());
    assert_eq!(bench.notices_of(tcp(4000)), [deleted(false)], "told once");
    assert_eq!(bench.driver.removals(), 0);
}
