use super::*;
use crate::engine::requests::timetable::{Timetable, tcp, udp};

type Table = Timetable<Pcp>;

impl Table {
    /// The gateway announces itself; what comes of it is what the driver says.
    fn announce(&mut self, epoch_secs: u32, is_repetition: bool) -> Announced {
        self.call(|driver, cx| driver.judge_announcement(cx.now, epoch_secs, is_repetition))
    }
}

const RESULT: usize = 3;

fn lifetime(bytes: &mut [u8], secs: u32) {
    bytes[4..8].copy_from_slice(&secs.to_be_bytes());
}

#[test]
fn the_first_request_is_the_probe_and_its_answer_makes_pcp_known() {
    let mut t = Table::new();
    assert_eq!(t.driver.status(), Status::Unknown);
    t.map(udp(4000)).at(14).answer(Some(udp(4000)), 77).at(60_000);
    t.says(&["0 > map UDP 4000", "14 = StatusChanged", "14 = granted UDP 4000 :4000 7200s"]);
    assert_eq!(t.driver.status(), Status::Up);
    assert!(t.driver.is_known());
}

#[test]
fn in_discovery_only_the_first_request_is_sent_again() {
    let mut t = Table::new();
    t.map(udp(4000)).map(tcp(4000)).at(100).map(udp(4001)).at(20_000);
    t.says(&[
        "0 > map UDP 4000",
        "0 > map TCP 4000",
        "100 > map UDP 4001",
        "250 > map UDP 4000",
        "750 > map UDP 4000",
        "1750 > map UDP 4000",
    ]);
}

#[test]
fn nothing_is_sent_before_the_socket_is_open() {
    let mut t = Table::new();
    t.driver.start(SocketAddr::from(([192, 168, 1, 1], 5351)));
    t.map(udp(4000)).at(1000).says(&[]);
    t.open();
    t.says(&["1000 > map UDP 4000"]);
}

#[test]
fn a_socket_that_cannot_be_opened_puts_pcp_out() {
    let mut t = Table::new();
    t.call(|driver, cx| driver.handle_opened(cx, None));
    t.says(&["0 = StatusChanged"]);
    t.map(udp(4000)).at(10_000).says(&["0 = timed out UDP 4000"]);
    assert_eq!(t.driver.status(), Status::Out);
}

#[test]
fn answers_that_come_after_discovery_still_count() {
    let mut t = Table::new();
    t.map(udp(4000)).map(udp(4001)).at(9000).take();
    t.answer(Some(udp(4001)), 5);
    t.says(&["9000 = StatusChanged", "9000 = granted UDP 4001 :4001 7200s"]);
    // The other one is now asked of a gateway that is known.
    t.at(9300).says(&["9250 > map UDP 4000"]);
}

#[test]
fn a_new_race_sends_the_open_requests_again() {
    let mut t = Table::new();
    t.map(udp(4000)).map(udp(4001));
    // A race that has just begun is not begun again.
    t.call(|driver, cx| driver.probe(cx));
    t.at(30_000).take();
    t.call(|driver, cx| driver.probe(cx));
    t.at(60_000).says(&[
        "30000 > map UDP 4000",
        "30000 > map UDP 4001",
        "30250 > map UDP 4000",
        "30750 > map UDP 4000",
        "31750 > map UDP 4000",
    ]);
}

#[test]
fn at_a_known_gateway_each_request_is_tried_until_the_mapping_timeout() {
    let mut t = Table::known();
    t.at(1000).map(udp(4000)).at(60_000);
    t.says(&[
        "1000 > map UDP 4000",
        "1250 > map UDP 4000",
        "1500 > map UDP 4000",
        "2000 > map UDP 4000",
        "2500 > map UDP 4000",
        "3500 > map UDP 4000",
        "4500 > map UDP 4000",
        "6500 > map UDP 4000",
        "8500 > map UDP 4000",
        "10500 > map UDP 4000",
        "11000 = timed out UDP 4000",
    ]);
}

#[test]
fn an_answer_after_the_timeout_is_a_grant_all_the_same() {
    let mut t = Table::known();
    t.map(udp(4000)).at(15_000).take();
    t.answer(Some(udp(4000)), 1015).says(&["15000 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn a_second_call_replaces_the_suggestion_and_nothing_else() {
    let mut t = Table::known();
    t.map(udp(4000)).map_as(udp(4000), 5000).at(250);
    t.says(&["0 > map UDP 4000", "250 > map UDP 4000 as 5000"]);
}

#[test]
fn the_nonce_is_kept_for_renewal_and_deletion_and_is_another_for_each_key() {
    let mut t = Table::known();
    t.map(udp(4000)).map(tcp(4000));
    let nonce = t.request(udp(4000))[24..36].to_vec();
    assert_ne!(nonce, t.request(tcp(4000))[24..36]);
    t.answer(Some(udp(4000)), 1000).at(1000).map(udp(4000));
    assert_eq!(nonce, t.request(udp(4000))[24..36]);
    t.answer(Some(udp(4000)), 1001).delete(udp(4000));
    assert_eq!(nonce, t.request(udp(4000))[24..36]);
}

#[test]
fn ignores_reply_with_wrong_nonce_opcode_port_transport_or_version() {
    let mut t = Table::known();
    t.map(udp(4000)).take();
    for (at, what) in
        [(24, "nonce"), (35, "nonce"), (1, "opcode"), (41, "port"), (36, "transport"), (0, "version")]
    {
        t.answer_with(Some(udp(4000)), 1000, |bytes| bytes[at] ^= 0x13);
        assert_eq!(t.take(), [""; 0], "wrong {what}");
    }
    t.answer_with(Some(udp(4000)), 1000, |bytes| bytes[1] &= 0x7f);
    t.says(&[]);
    t.answer(Some(udp(4000)), 1000).says(&["0 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn a_duplicate_of_an_answer_is_harmless() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).take();
    // RFC 6887 §14.2 lets a server repeat it; the news is the same.
    t.answer(Some(udp(4000)), 1000).says(&["0 = granted UDP 4000 :4000 7200s"]);
    t.answer_with(Some(udp(4000)), 1000, |bytes| bytes[RESULT] = 8).says(&[]);
    t.delete(udp(4000)).answer(Some(udp(4000)), 1000).take();
    t.answer(Some(udp(4000)), 1000).at(30_000).says(&[]);
}

#[test]
fn a_closed_port_puts_pcp_out_in_discovery() {
    let mut t = Table::new();
    t.map(udp(4000)).map(udp(4001)).at(1);
    t.call(|driver, cx| driver.handle_refused(cx));
    t.at(30_000).says(&["0 > map UDP 4000", "0 > map UDP 4001", "1 = StatusChanged"]);
    assert_eq!(t.driver.status(), Status::Out);
    // The next race tries again, with what is asked then.
    t.map(udp(4000)).says(&["30000 = timed out UDP 4000"]);
    t.call(|driver, cx| driver.probe(cx));
    t.map(udp(4000)).says(&["30000 > map UDP 4000"]);
    assert_eq!(t.driver.status(), Status::Unknown);
}

#[test]
fn a_closed_port_is_only_silence_once_the_gateway_is_known() {
    let mut t = Table::known();
    t.map(udp(4000));
    t.call(|driver, cx| driver.handle_refused(cx));
    t.at(250).says(&["0 > map UDP 4000", "250 > map UDP 4000"]);
    assert_eq!(t.driver.status(), Status::Up);
}

#[test]
fn a_gateway_that_speaks_natpmp_only_puts_pcp_out_and_says_so() {
    for reply in [&[0, 0x81, 0, 1][..], &[0, 0x81, 0, 1, 0, 0, 0, 9], &[1, 0x81, 0, 1]] {
        let mut t = Table::new();
        t.map(udp(4000)).at(10).receive(reply).at(30_000);
        t.says(&["0 > map UDP 4000", "10 = StatusChanged", "10 = SpeaksNatPmp"]);
        assert_eq!(t.driver.status(), Status::Out);
        assert!(!t.driver.is_known());
    }
}

#[test]
fn a_gateway_that_speaks_a_later_version_only_puts_pcp_out() {
    let header = |len: usize| {
        let mut bytes = vec![0; len];
        bytes[..4].copy_from_slice(&[2, 0x81, 0, 1]);
        bytes
    };
    let mut t = Table::new();
    t.map(udp(4000)).receive(&header(60)).says(&["0 > map UDP 4000"]);
    t.receive(&header(24)).says(&["0 = StatusChanged"]);
    assert_eq!(t.driver.status(), Status::Out);
    // The whole form must have the nonce.
    let mut t = Table::new();
    t.map(udp(4000)).answer_with(Some(udp(4000)), 0, |bytes| bytes[RESULT] = 1);
    t.says(&["0 > map UDP 4000", "0 = StatusChanged"]);
}

#[test]
fn versions_are_not_believed_when_nothing_is_asked() {
    let mut t = Table::new();
    t.receive(&[0, 0x81, 0, 1]).says(&[]);
    let mut t = Table::known();
    t.receive(&[0, 0x81, 0, 1]).receive(&[0, 0x80, 0, 1]).says(&[]);
    // An ANNOUNCE request is no MAP request.
    t.call(|driver, cx| driver.check(cx));
    t.receive(&[0, 0x81, 0, 1]).says(&["0 > announce"]);
    t.receive(&[0, 0x80, 0, 1]).says(&["0 = StatusChanged", "0 = SpeaksNatPmp"]);
}

#[test]
fn result_codes_say_what_follows() {
    let for_good = [2, 3, 4, 6, 9];
    for code in 2..=255 {
        let mut t = Table::new();
        t.map(udp(4000)).answer_with(Some(udp(4000)), 9, |bytes| {
            bytes[RESULT] = code;
            lifetime(bytes, 1800);
        });
        let refused = match code {
            12 => vec!["0 > map UDP 4000", "0 = AddressMismatch"],
            _ if for_good.contains(&code) => {
                vec!["0 > map UDP 4000", "0 = StatusChanged", "0 = refused UDP 4000 for good, 1800s"]
            }
            _ => vec!["0 > map UDP 4000", "0 = StatusChanged", "0 = refused UDP 4000, 1800s"],
        };
        assert_eq!(t.at(30_000).take(), refused, "result code {code}");
        assert_eq!(t.driver.is_known(), code != 12, "result code {code}");
    }
}

#[test]
fn one_mappings_error_is_nobody_elses() {
    let mut t = Table::new();
    t.map(udp(4000)).map(udp(4001)).take();
    t.answer_with(Some(udp(4000)), 9, |bytes| bytes[RESULT] = 8).answer(Some(udp(4001)), 9);
    t.says(&["0 = StatusChanged", "0 = refused UDP 4000, 7200s", "0 = granted UDP 4001 :4001 7200s"]);
}

#[test]
fn address_mismatch_is_told_once_a_socket_and_the_second_time_puts_pcp_out() {
    let mut t = Table::new();
    let mismatch = |bytes: &mut Vec<u8>| bytes[RESULT] = 12;
    t.map(udp(4000)).map(udp(4001)).take();
    t.answer_with(Some(udp(4000)), 9, mismatch).answer_with(Some(udp(4001)), 9, mismatch);
    t.at(5000).says(&["0 = AddressMismatch"]);
    t.driver.start(SocketAddr::from(([192, 168, 1, 1], 5351)));
    t.open();
    t.map(udp(4000)).take();
    t.answer_with(Some(udp(4000)), 9, mismatch).says(&["5000 = StatusChanged", "5000 = AddressMismatch"]);
    assert_eq!(t.driver.status(), Status::Out);
}

#[test]
fn a_new_socket_can_heal_an_address_mismatch() {
    let mut t = Table::new();
    let mismatch = |bytes: &mut Vec<u8>| bytes[RESULT] = 12;
    for _ in 0..2 {
        t.map(udp(4000)).take();
        t.answer_with(Some(udp(4000)), 9, mismatch).says(&["0 = AddressMismatch"]);
        t.driver.start(SocketAddr::from(([192, 168, 1, 1], 5351)));
        t.open();
        t.map(udp(4000)).take();
        t.answer(Some(udp(4000)), 9).says(&["0 = StatusChanged", "0 = granted UDP 4000 :4000 7200s"]);
    }
}

#[test]
fn success_without_a_lifetime_is_the_mappings_error_unless_it_was_deleted_lately() {
    let mut t = Table::known();
    let no_time = |bytes: &mut Vec<u8>| lifetime(bytes, 0);
    t.map(udp(4000)).answer_with(Some(udp(4000)), 1000, no_time);
    t.says(&["0 > map UDP 4000", "0 = refused UDP 4000, 0s"]);

    t.map(udp(4001)).answer(Some(udp(4001)), 1000).delete(udp(4001)).at(150).take();
    t.map(udp(4001)).at(250).says(&["250 > map UDP 4001"]);
    t.answer_with(Some(udp(4001)), 1000, no_time).says(&[]);
    t.answer(Some(udp(4001)), 1000).says(&["250 = granted UDP 4001 :4001 7200s"]);
}

#[test]
fn a_changed_mapping_is_heard_of_without_asking() {
    // RFC 6887 §14.2: a server tells of changes by an unsolicited MAP response.
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(60_000).take();
    t.answer_with(Some(udp(4000)), 1060, |bytes| bytes[56..60].copy_from_slice(&[198, 51, 100, 9]));
    t.says(&["60000 = granted UDP 4000 198.51.100.9:4000 7200s"]);
}

#[test]
fn external_port_zero_is_passed_on() {
    let mut t = Table::known();
    t.map(udp(4000)).answer_with(Some(udp(4000)), 1000, |bytes| bytes[42..44].fill(0));
    t.says(&["0 > map UDP 4000", "0 = granted UDP 4000 :0 7200s"]);
}

#[test]
fn a_restart_is_shown_by_the_answer_that_is_good_for_its_own_mapping() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(60_000).map(udp(4000)).take();
    t.answer(Some(udp(4000)), 3);
    t.says(&["60000 = restarted, shown by UDP 4000", "60000 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn a_restart_shown_by_an_error_a_deletion_or_an_announce_reply_spares_no_mapping() {
    let mut t = Table::known();
    t.at(60_000);
    t.call(|driver, cx| driver.check(cx));
    t.answer(None, 3).says(&["60000 > announce", "60000 = restarted"]);
    t.at(120_000).map(udp(4000)).answer_with(Some(udp(4000)), 2, |bytes| bytes[RESULT] = 8);
    t.says(&["120000 > map UDP 4000", "120000 = restarted", "120000 = refused UDP 4000, 7200s"]);
    t.at(180_000).map(udp(4000)).answer(Some(udp(4000)), 62).delete(udp(4000)).take();
    t.at(180_100).answer(Some(udp(4000)), 1).says(&["180100 = restarted", "180100 = deleted UDP 4000"]);
}

#[test]
fn an_answer_from_before_the_restart_changes_nothing() {
    let mut t = Table::known();
    t.at(60_000).map(udp(4000)).map(udp(4001)).take();
    t.at(60_020).answer(Some(udp(4000)), 0).take();
    t.answer(Some(udp(4001)), 1060).says(&[]);
    t.at(60_300).says(&["60270 > map UDP 4001"]);
    t.answer(Some(udp(4001)), 0).says(&["60300 = granted UDP 4001 :4001 7200s"]);
}

#[test]
fn a_decrease_by_one_second_after_the_higher_value_had_come_is_a_restart() {
    let mut t = Table::known();
    t.at(100).map(udp(4000)).answer(Some(udp(4000)), 999);
    t.says(&[
        "100 > map UDP 4000",
        "100 = restarted, shown by UDP 4000",
        "100 = granted UDP 4000 :4000 7200s",
    ]);
}

#[test]
fn check_asks_for_the_epoch_and_takes_silence_for_nothing() {
    let mut t = Table::known();
    t.call(|driver, cx| driver.check(cx));
    t.at(30_000).says(&["0 > announce", "250 > announce", "750 > announce", "1750 > announce"]);
    t.call(|driver, cx| driver.check(cx));
    t.answer_with(None, 1030, |bytes| bytes[RESULT] = 4).at(60_000).says(&["30000 > announce"]);
    // It still counts as a gateway that answers well: a race for another's sake leaves it alone.
    t.call(|driver, cx| driver.check(cx));
    t.at(90_000).take();
    t.call(|driver, cx| driver.probe(cx));
    assert_eq!(t.driver.status(), Status::Up);
}

#[test]
fn a_known_gateway_that_fell_silent_is_unknown_in_the_next_race() {
    let mut t = Table::known();
    t.map(udp(4000)).at(20_000).take();
    t.call(|driver, cx| driver.probe(cx));
    assert_eq!(t.driver.status(), Status::Unknown);
    assert!(t.driver.is_known());
    t.call(|driver, cx| driver.handle_refused(cx));
    t.map(udp(4000)).answer(Some(udp(4000)), 1020);
    t.says(&["20000 > map UDP 4000", "20000 = StatusChanged", "20000 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn an_announced_restart_makes_what_was_granted_doubtful_and_begins_an_era() {
    let mut t = Table::known();
    t.map(udp(4000)).map(udp(4001)).answer(Some(udp(4000)), 1000).answer(Some(udp(4001)), 1000).take();
    t.at(5000).map(udp(4002)).at(5005).take();
    assert_eq!(t.announce(0, false), Announced::Restarted);
    // What follows is for the core to say.
    assert!(!t.driver.requests.is_mapped(udp(4000)));
    t.says(&[]);
    // Asked before the restart was noticed: an answer of the old era is dropped, one of the new counts.
    t.at(5010).answer(Some(udp(4002)), 1005).says(&[]);
    t.answer(Some(udp(4002)), 0).says(&["5010 = granted UDP 4002 :4002 7200s"]);
    t.at(8000).map(udp(4000)).answer(Some(udp(4000)), 3);
    t.says(&["8000 > map UDP 4000", "8000 = granted UDP 4000 :4000 7200s"]);
    // It may have kept what it had: what is not wanted any more is deleted.
    t.delete(udp(4001))
        .answer(Some(udp(4001)), 3)
        .says(&["8000 > delete UDP 4001", "8000 = deleted UDP 4001"]);
}

#[test]
fn a_restart_of_a_gateway_that_has_just_started_is_announced_by_the_same_epoch() {
    let mut t = Table::new();
    t.map(udp(4000)).answer(Some(udp(4000)), 0).at(700).take();
    assert_eq!(t.announce(0, false), Announced::Restarted);
    assert_eq!(t.announce(0, true), Announced::Repeated);
    t.at(3000).map(udp(4000)).answer(Some(udp(4000)), 2);
    t.says(&["3000 > map UDP 4000", "3000 = granted UDP 4000 :4000 7200s"]);
}

#[test]
fn an_announcement_of_a_gateway_that_runs_on_changes_nothing() {
    let mut t = Table::known();
    t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(60_000).take();
    assert_eq!(t.announce(1060, false), Announced::RunsOn);
    assert!(t.driver.requests.is_mapped(udp(4000)));
    t.at(90_000).says(&[]);
}

#[test]
fn a_new_gateway_gets_new_nonces_and_hears_nothing_of_the_old() {
    let mut t = Table::known();
    t.map(udp(4000)).map(udp(4001)).delete(udp(4001)).take();
    let old = t.request(udp(4000));
    t.driver.start(SocketAddr::from(([192, 168, 7, 1], 5351)));
    t.driver.start(SocketAddr::from(([192, 168, 1, 1], 5351)));
    t.open();
    assert_eq!((t.driver.status(), t.driver.is_known()), (Status::Unknown, false));
    t.answer(Some(udp(4000)), 1000).at(20_000).says(&[]);
    t.map(udp(4000));
    assert_ne!(old[24..36], t.request(udp(4000))[24..36]);
}

#[test]
fn a_network_that_comes_back_finds_the_nonces_of_its_mappings() {
    let mut t = Table::known();
    let gateway = SocketAddr::from(([192, 168, 1, 1], 5351));
    t.driver.start(gateway);
    t.open();
    t.map(udp(4000)).take();
    let old = t.request(udp(4000));
    t.driver.start(None);
    t.driver.start(gateway);
    t.open();
    t.map(udp(4000));
    assert_eq!(old[24..36], t.request(udp(4000))[24..36]);
}

#[test]
fn without_a_gateway_nothing_is_asked() {
    let mut t = Table::known();
    t.driver.start(None);
    t.open();
    t.map(udp(4000)).says(&["0 = timed out UDP 4000"]);
    t.call(|driver, cx| driver.probe(cx));
    t.at(10_000).says(&[]);
    assert_eq!(t.driver.status(), Status::Out);
}
