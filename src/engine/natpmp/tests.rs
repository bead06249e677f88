use super::*;
use crate::engine::requests::timetable::{EXTERNAL, Timetable, tcp, udp};

type Table = Timetable<NatPmp>;

fn address(bytes: &mut [u8], address: [u8; 4]) {
    bytes[8..12].copy_from_slice(&address);
}

#[test]
fn the_public_address_request_is_the_probe() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.probe(cx));
    t.at(19).answer(None, 77).map(udp(4000)).at(38).answer(Some(udp(4000)), 77).at(60_000);
    t.says(&["0 > address?", "19 = StatusChanged", "19 > map UDP 4000", "38 = granted UDP 4000 :4000 7200s"]);
    assert!(t.driver.is_known());
}

#[test]
fn the_probe_is_repeated_by_the_schedule_of_discovery_until_told_to_rest() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.probe(cx));
    t.at(20_000).says(&["0 > address?", "250 > address?", "750 > address?", "1750 > address?"]);
    t.call(|driver, cx| driver.probe(cx));
    t.at(20_300);
    t.call(|driver, cx| driver.rest(cx));
    t.at(40_000).says(&["20000 > address?", "20250 > address?"]);
    // An answer still counts.
    t.answer(None, 5).says(&["40000 = StatusChanged"]);
    assert_eq!(t.driver.status(), Status::Up);
}

#[test]
fn a_request_on_another_protocols_word_goes_out_at_once() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.probe(cx));
    t.at(10).map(udp(4000)).at(15).answer(Some(udp(4000)), 77);
    t.says(&["0 > address?", "10 > map UDP 4000", "15 = StatusChanged"]);
    // The address is what is missing.
    t.at(20).answer(None, 77).says(&["20 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn the_address_is_asked_for_if_nobody_did() {
    let mut t = Table::new();
    t.map(udp(4000)).says(&["0 > address?", "0 > map UDP 4000"]);
}

#[test]
fn an_error_to_the_public_address_request_puts_natpmp_out_in_discovery() {
    for result in [1, 2, 3, 4, 5, 66] {
        let mut t = Table::new();
        t.call(|driver, cx| driver.probe(cx));
        t.refuse(None, 77, result).at(30_000).says(&["0 > address?", "0 = StatusChanged"]);
        assert_eq!(t.driver.status(), Status::Out, "result {result}");
    }
}

#[test]
fn an_address_that_nobody_asked_for_is_no_answer() {
    let mut t = Table::new();
    t.receive(&[0, 128, 0, 0, 0, 0, 0, 77, 203, 0, 113, 7]);
    t.receive(&[0, 128, 0, 3, 0, 0, 0, 77, 0, 0, 0, 0]).says(&[]);
    assert_eq!(t.driver.status(), Status::Unknown);
}

#[test]
fn a_gateway_that_speaks_pcp_only_puts_natpmp_out_and_says_so() {
    let mut t = Table::new();
    t.receive(&[2, 128, 0, 1]).says(&[]);
    t.call(|driver, cx| driver.probe(cx));
    t.receive(&[2, 128, 0, 1, 0, 0, 0, 0]).at(30_000);
    t.says(&["0 > address?", "0 = StatusChanged", "0 = SpeaksPcp"]);
    assert_eq!(t.driver.status(), Status::Out);
}

#[test]
fn a_closed_port_puts_natpmp_out_in_discovery_and_is_only_silence_after() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.probe(cx));
    t.call(|driver, cx| driver.handle_refused(cx));
    t.at(10_000).says(&["0 > address?", "0 = StatusChanged"]);
    let mut t = Table::known();
    t.map(udp(4000));
    t.call(|driver, cx| driver.handle_refused(cx));
    t.at(250).says(&["0 > map UDP 4000", "250 > map UDP 4000"]);
}

#[test]
fn result_codes_say_what_follows() {
    for result in 1..=255 {
        let mut t = Table::known();
        t.map(udp(4000)).refuse(Some(udp(4000)), 1000, result);
        let refused = match result {
            1 | 2 | 5 => "0 = refused UDP 4000 for good, 0s",
            _ => "0 = refused UDP 4000, 0s",
        };
        assert_eq!(t.at(30_000).take(), ["0 > map UDP 4000", refused], "result code {result}");
    }
}

#[test]
fn ignores_reply_with_wrong_opcode_port_or_version() {
    let mut t = Table::known();
    t.map(udp(51413)).take();
    // Among them the low 8 bits of the port only, which some gateways answer with.
    for (at, value) in [(8, 0), (9, 0), (1, 130), (1, 2), (0, 1), (0, 2)] {
        t.answer_with(Some(udp(51413)), 1000, |bytes| bytes[at] = value);
        assert_eq!(t.take(), [""; 0], "octet {at} is {value}");
    }
    t.answer(Some(udp(51413)), 1000).says(&["0 = granted UDP 51413 :51413 7200s"]);
}

#[test]
fn a_duplicate_of_an_answer_is_dropped() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).take();
    t.answer(Some(udp(4000)), 1000).refuse(Some(udp(4000)), 1000, 4).answer(None, 1000).says(&[]);
}

#[test]
fn success_without_a_lifetime_is_the_mappings_error() {
    let mut t = Table::known();
    t.map(udp(4000)).answer_with(Some(udp(4000)), 1000, |bytes| bytes[12..].fill(0));
    t.says(&["0 > map UDP 4000", "0 = refused UDP 4000, 0s"]);
}

#[test]
fn check_sees_a_changed_address() {
    let mut t = Table::known();
    t.call(|driver, cx| driver.check(cx));
    t.answer(None, 1000).says(&["0 > address?"]);
    t.at(300_000);
    t.call(|driver, cx| driver.check(cx));
    t.answer_with(None, 1300, |bytes| address(bytes, [198, 51, 100, 9]));
    t.says(&["300000 > address?", "300000 = AddressChanged { address: 198.51.100.9 }"]);
    t.map(udp(4000)).answer(Some(udp(4000)), 1300);
    t.says(&["300000 > map UDP 4000", "300000 = granted UDP 4000 198.51.100.9:4000 7200s"]);
}

#[test]
fn an_error_to_check_is_not_the_end_of_natpmp() {
    let mut t = Table::known();
    t.call(|driver, cx| driver.check(cx));
    t.refuse(None, 1000, 3).says(&["0 > address?"]);
    assert_eq!(t.driver.status(), Status::Up);
}

#[test]
fn after_a_restart_grants_wait_for_the_address() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(60_000).map(udp(4000)).map(tcp(4000)).take();
    t.answer(Some(udp(4000)), 3).answer(Some(tcp(4000)), 3);
    t.says(&["60000 > address?", "60000 = restarted, shown by UDP 4000"]);
    t.at(60_010).answer_with(None, 3, |bytes| address(bytes, [198, 51, 100, 9])).says(&[
        "60010 = granted TCP 4000 198.51.100.9:4000 7200s",
        "60010 = granted UDP 4000 198.51.100.9:4000 7200s",
    ]);
}

#[test]
fn a_restart_shown_by_the_address_reply_spares_no_mapping() {
    let mut t = Table::known();
    t.at(60_000);
    t.call(|driver, cx| driver.check(cx));
    t.answer(None, 2).says(&["60000 > address?", "60000 = restarted"]);
}

#[test]
fn a_grant_whose_address_cannot_be_had_is_a_failure() {
    let mut t = Table::new();
    t.map(udp(4000)).answer(Some(udp(4000)), 9).take();
    t.refuse(None, 9, 3).says(&["0 = refused UDP 4000, 0s"]);
    let mut t = Table::new();
    t.map(udp(4000)).answer(Some(udp(4000)), 9).at(60_000);
    assert_eq!(t.take().last().map(String::as_str), Some("10000 = timed out UDP 4000"));
}

#[test]
fn a_grant_that_still_waits_for_its_address_is_deleted_when_abandoned() {
    let mut t = Table::new();
    t.map(udp(4000)).map(udp(4001)).answer(Some(udp(4000)), 9).answer(Some(udp(4001)), 9).take();
    t.abandon(udp(4000)).delete(udp(4001)).says(&["0 > delete UDP 4000", "0 > delete UDP 4001"]);
    t.answer(None, 9).says(&[]);
}

#[test]
fn a_late_grant_of_an_abandoned_request_makes_natpmp_known() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.probe(cx));
    t.map(udp(4000)).at(20).abandon(udp(4000)).take();
    t.at(30).grant(udp(4000), 9).says(&["30 = StatusChanged"]);
    t.answer(None, 9).at(280).answer(Some(udp(4000)), 9);
    t.says(&["270 > map UDP 4000", "280 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn an_address_that_was_announced_is_asked_for_with_the_next_renewal() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).take();
    // The one that is known is no news.
    t.driver.doubt_address(EXTERNAL.into());
    t.map(udp(4000)).answer(Some(udp(4000)), 1000);
    t.says(&["0 > map UDP 4000", "0 = granted UDP 4000 :4000 7200s"]);
    t.driver.doubt_address(Ipv4Addr::new(198, 51, 100, 9));
    // Whoever announced it: the address is the gateway's own answer's.
    t.map(udp(4000)).answer_with(None, 1000, |bytes| address(bytes, [198, 51, 100, 7]));
    t.says(&["0 > address?", "0 > map UDP 4000", "0 = AddressChanged { address: 198.51.100.7 }"]);
    t.answer(Some(udp(4000)), 1000).says(&["0 = granted UDP 4000 198.51.100.7:4000 7200s"]);
    t.map(udp(4000)).answer(Some(udp(4000)), 1000);
    t.says(&["0 > map UDP 4000", "0 = granted UDP 4000 198.51.100.7:4000 7200s"]);
}

/// What shows a restart while a grant waits for the external address, and what the driver says to it.
fn grant_before_a_restart(restart: impl FnOnce(&mut Table)) -> Table {
    let mut t = Table::new();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).map(tcp(4000)).take();
    restart(&mut t);
    t
}

#[test]
fn a_grant_from_before_a_restart_is_not_told_but_asked_for_again() {
    let mut t = grant_before_a_restart(|t| {
        t.answer(None, 3).says(&["0 > map UDP 4000", "0 = restarted"]);
    });
    t.answer(Some(udp(4000)), 3).says(&["0 = granted UDP 4000 :4000 7200s"]);

    let mut t = grant_before_a_restart(|t| {
        t.answer(Some(tcp(4000)), 3).says(&["0 > map UDP 4000", "0 = restarted, shown by TCP 4000"]);
    });
    t.answer(None, 3).says(&["0 = granted TCP 4000 :4000 7200s"]);
    t.answer(Some(udp(4000)), 3).says(&["0 = granted UDP 4000 :4000 7200s"]);

    for is_announced in [true, false] {
        let mut t = grant_before_a_restart(|t| {
            t.call(|driver, cx| match is_announced {
                true => assert_eq!(driver.judge_announcement(cx, 0, false), Announced::Restarted),
                false => driver.forget_epoch(cx),
            });
            t.says(&["0 > map UDP 4000"]);
        });
        t.at(100).answer(None, 0).answer(Some(udp(4000)), 0).says(&["100 = granted UDP 4000 :4000 7200s"]);
    }
}

#[test]
fn an_error_that_is_cut_short_answers_the_only_request_of_its_transport() {
    let cut = |bytes: &mut Vec<u8>| {
        bytes[3] = 4;
        bytes.truncate(8);
    };
    let mut t = Table::known();
    t.map(udp(4000)).map(tcp(4000)).take();
    t.answer_with(Some(udp(4000)), 1000, cut);
    t.says(&["0 = refused UDP 4000, 0s"]);
    // Of two it might be either.
    t.map(tcp(5000)).take();
    t.answer_with(Some(tcp(5000)), 1000, cut).says(&[]);
}
