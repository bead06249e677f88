use super::bench::*;
use super::{no_wish, tcp, wish};
use crate::engine::driver::{Notice, Refusal, Status};
use std::time::Duration;

fn refused(of: crate::engine::driver::Key) -> Notice {
    Notice::Refused { key: of, refusal: Refusal::Failed { retry_after: Duration::ZERO } }
}

/// A gateway whose control URL is on a server of its own.
fn with_two_servers() -> Bench {
    let mut bench = Bench::empty();
    bench.add(
        SsdpDevice::new("192.168.1.1:1900", "http://192.168.1.1:5000/root.xml"),
        "192.168.1.1:5000",
        Server::new().page("/root.xml", 200, &description(&[(IP1, "http://192.168.1.1:6000/ctl")])),
    );
    bench.servers.insert(addr("192.168.1.1:6000"), Server::new().control("/ctl", Igd::new(IP1)));
    bench
}

fn set_mood(bench: &mut Bench, at: &str, mood: Mood) {
    bench.servers.get_mut(&addr(at)).expect("a server").mood = mood;
}

#[test]
fn a_control_url_that_refuses_twice_is_lost_and_found_again() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.connects.clear();
    bench.server().mood = Mood::Refuses;
    bench.map(tcp(4000), no_wish());
    bench.run_until(2000);
    let control = addr("192.168.1.1:5000");
    assert_eq!(bench.connects, [(200, control), (451, control)]);
    assert_eq!(bench.notices, [(452, Notice::Lost), (452, Notice::StatusChanged)]);
    assert_eq!(bench.driver.status(), Status::Unknown);

    bench.server().mood = Mood::Well;
    bench.search();
    bench.map(tcp(4000), no_wish());
    bench.run_until(3000);
    assert_eq!(bench.driver.status(), Status::Up);
    assert_eq!(
        bench.lines(),
        [
            "GET /root.xml",
            // It has to show that it is back.
            "GetStatusInfo",
            "GetExternalIPAddress",
            "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200",
        ]
    );
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn a_service_that_does_not_know_add_port_mapping_is_lost_once_and_then_believed() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.igd().always.push(("AddPortMapping", 401));
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.notices.last(), Some(&(bench.notices[0].0, Notice::StatusChanged)));
    assert_eq!(bench.notices[0].1, Notice::Lost);
    for attempt in 0..2 {
        bench.notices.clear();
        bench.search();
        bench.map(tcp(4000), no_wish());
        bench.run_until(3000 + attempt * 1000);
        assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
        assert!(bench.notices.iter().all(|(_, notice)| *notice != Notice::Lost), "{:?}", bench.notices);
    }
}

#[test]
fn a_control_url_that_refuses_once_is_asked_again() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().mood = Mood::Refuses;
    for port in 4000..4010 {
        bench.map(tcp(port), no_wish());
    }
    bench.run_until(300);
    bench.server().mood = Mood::Well;
    bench.run_until(3000);
    assert_eq!(bench.when(|notice| *notice == Notice::Lost), None, "a burst counts once");
    for port in 4000..4010 {
        assert_eq!(bench.notices_of(tcp(port)), [granted(tcp(port), port)]);
    }
}

#[test]
fn a_description_whose_control_url_stays_dead_is_no_endless_loop() {
    let mut bench = with_two_servers();
    set_mood(&mut bench, "192.168.1.1:6000", Mood::Refuses);
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert!(bench.when(|notice| *notice == Notice::Lost).is_some());
    assert_eq!(bench.notices_of(tcp(4000)), []);
    bench.search();
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000 + 3750);
    assert_eq!(bench.driver.status(), Status::Out);
    assert_eq!(bench.notices_of(tcp(4000)), [Notice::TimedOut { key: tcp(4000) }]);
    assert_eq!(bench.notices.iter().filter(|(_, notice)| *notice == Notice::Lost).count(), 1);
    let attempts = bench.connects.iter().filter(|(_, to)| *to == addr("192.168.1.1:6000")).count();
    assert_eq!(attempts, 2 + 2 + 2, "address and mapping twice, then two probes");
    // It comes to life.
    set_mood(&mut bench, "192.168.1.1:6000", Mood::Well);
    bench.search();
    bench.map(tcp(4000), no_wish());
    bench.run_until(6000);
    assert_eq!(bench.notices_of(tcp(4000)).last(), Some(&granted(tcp(4000), 4000)));
}

#[test]
fn a_control_url_that_is_silent_twice_is_lost() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().mood = Mood::Silent;
    bench.map(tcp(4000), no_wish());
    bench.map(tcp(4001), no_wish());
    bench.run_until(10_199);
    assert_eq!(bench.notices, []);
    bench.run_until(10_200);
    assert_eq!(
        bench.notices,
        [(10_200, Notice::TimedOut { key: tcp(4000) }), (10_200, Notice::TimedOut { key: tcp(4001) })]
    );
    bench.run_until(11_000);
    bench.map(tcp(4000), no_wish());
    bench.run_until(30_000);
    assert_eq!(
        bench.notices[2..],
        [
            (21_000, Notice::TimedOut { key: tcp(4000) }),
            (21_000, Notice::Lost),
            (21_000, Notice::StatusChanged),
        ]
    );
}

#[test]
fn nobody_at_the_address_is_like_silence() {
    let mut bench = with_two_servers();
    bench.servers.remove(&addr("192.168.1.1:6000"));
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(61_000);
    assert!(bench.when(|notice| *notice == Notice::Lost).is_some());
    assert_eq!(bench.notices_of(tcp(4000)), [Notice::TimedOut { key: tcp(4000) }]);
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn what_a_refused_attempt_may_have_left_behind_is_removed() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    // The first request is done and its answer lost, the second is refused.
    bench.server().cuts = 1;
    bench.igd().table.insert(("TCP".to_owned(), 4000), (LOCAL.to_owned(), 4000, 7200));
    bench.igd().always.push(("AddPortMapping", 728));
    bench.map(tcp(4000), no_wish());
    bench.run_until(10_000);
    assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
    assert_eq!(bench.lines()[2..], ["GetSpecificPortMappingEntry tcp 4000", "DeletePortMapping tcp 4000"]);
    assert!(bench.igd().table.is_empty());
}

#[test]
fn one_request_that_hangs_delays_no_other() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().ignores = 1;
    for port in 4000..4050 {
        bench.map(tcp(port), no_wish());
    }
    bench.run_until(1000);
    assert_eq!(bench.notices.len(), 49);
    assert_eq!(bench.notices_of(tcp(4000)), []);
    bench.run_until(20_000);
    assert_eq!(bench.notices_of(tcp(4000)), [Notice::TimedOut { key: tcp(4000) }]);
    assert_eq!(bench.when(|notice| *notice == Notice::Lost), None);
}

#[test]
fn a_mapping_has_its_time_over_all_its_requests() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().reply_ms = 6000;
    bench.map(tcp(4000), wish(5000));
    bench.run_until(30_000);
    assert_eq!(bench.notices, [(10_200, Notice::TimedOut { key: tcp(4000) })]);
}

#[test]
fn a_cut_connection_is_tried_once_more() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().cuts = 1;
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);

    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().mood = Mood::HangsUp;
    bench.map(tcp(4000), no_wish());
    bench.run_until(60_000);
    assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
    assert_eq!(bench.lines(), ["cut"; 4], "and its removal the same");
    assert_eq!(bench.driver.status(), Status::Up, "it is there, if of no use");
}

#[test]
fn any_port_is_not_asked_for_twice_when_the_answer_was_lost() {
    let mut bench = Bench::with_igd(IP2);
    bench.start_up();
    bench.server().cuts = 1;
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.lines(), ["cut", "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"]);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn a_reply_without_end_is_cut_off() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.server().mood = Mood::Babbles;
    bench.map(tcp(4000), no_wish());
    bench.run_until(400);
    assert_eq!(bench.notices_of(tcp(4000)), [refused(tcp(4000))]);
}

#[test]
fn an_external_address_that_does_not_come_fails_the_mapping_in_time() {
    let mut bench = Bench::with_igd(IP1);
    bench.server().ignores = 0;
    bench.start();
    bench.run_until(61);
    bench.map(tcp(4000), no_wish());
    // The first request after the description is that for the address.
    bench.server().ignores = 1;
    bench.run_until(60_000);
    assert_eq!(
        bench.notices_of(tcp(4000)),
        [Notice::Granted {
            key: tcp(4000),
            address: ip("0.0.0.0"),
            port: 4000,
            lifetime: Some(Duration::from_secs(7200))
        }]
    );
    assert_eq!(bench.when(|notice| matches!(notice, Notice::Granted { .. })), Some(10_061));
}

#[test]
fn entries_made_before_the_loss_are_renewed_after_it() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), wish(5000));
    bench.run_until(300);
    bench.server().mood = Mood::Refuses;
    bench.check();
    bench.run_until(1000);
    assert!(bench.when(|notice| *notice == Notice::Lost).is_some());
    bench.server().mood = Mood::Well;
    bench.requests.clear();
    bench.search();
    bench.map(tcp(4000), wish(5000));
    bench.run_until(2000);
    assert_eq!(
        bench.lines(),
        [
            "GET /root.xml",
            "GetStatusInfo",
            "GetExternalIPAddress",
            "AddPortMapping tcp 5000 to 192.168.1.20:4000 for 7200",
        ]
    );
}
