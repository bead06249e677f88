//! What both protocols do alike.

use super::timetable::{Timetable, tcp, udp};

/// Each test for both drivers, at a gateway that is known.
macro_rules! both {
    ($(fn $name:ident($t:ident) $body:block)*) => {
        mod pcp {
            use super::*;
            $(#[test] fn $name() { let mut $t = Timetable::<crate::engine::pcp::Pcp>::known(); $body })*
        }
        mod natpmp {
            use super::*;
            $(#[test] fn $name() { let mut $t = Timetable::<crate::engine::natpmp::NatPmp>::known(); $body })*
        }
    };
}

/// NO_RESOURCES of PCP; NAT-PMP does not assign it.
const SHORT_OF_SOMETHING: u8 = 8;

both! {
    fn a_renewal_is_another_request(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(3_600_000).map(udp(4000));
        t.at(3_600_010).answer(Some(udp(4000)), 4600).at(7_000_000).says(&[
            "0 > map UDP 4000",
            "0 = granted UDP 4000 :4000 7200s",
            "3600000 > map UDP 4000",
            "3600010 = granted UDP 4000 :4000 7200s",
        ]);
    }

    fn a_deletion_is_sent_again_after_200_and_500_ms_and_given_up_after_800(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(100).take();
        t.delete(udp(4000)).at(60_000).says(&[
            "100 > delete UDP 4000",
            "300 > delete UDP 4000",
            "600 > delete UDP 4000",
            "900 = deletion given up UDP 4000",
        ]);
    }

    fn any_answer_ends_a_deletion(t) {
        t.map(udp(4000)).map(udp(4001)).answer(Some(udp(4000)), 1000).answer(Some(udp(4001)), 1000).take();
        t.delete(udp(4000)).delete(udp(4001)).at(10);
        t.answer(Some(udp(4000)), 1000).refuse(Some(udp(4001)), 1000, 2).at(60_000).says(&[
            "0 > delete UDP 4000",
            "0 > delete UDP 4001",
            "10 = deleted UDP 4000",
            "10 = deleted UDP 4001",
        ]);
    }

    fn an_answered_deletion_makes_the_others_wait_on(t) {
        t.map(udp(4000)).map(udp(4001)).answer(Some(udp(4000)), 1000).answer(Some(udp(4001)), 1000).take();
        // A slow gateway: the one answer at 150 ms says that the other's turn may be yet to come. It is there, so
        // that the first wait counts for nothing, and two more repeats follow.
        t.delete(udp(4000)).delete(udp(4001)).at(150).answer(Some(udp(4000)), 1000).at(60_000).says(&[
            "0 > delete UDP 4000",
            "0 > delete UDP 4001",
            "150 = deleted UDP 4000",
            "350 > delete UDP 4001",
            "550 > delete UDP 4001",
            "850 > delete UDP 4001",
            "950 = deletion given up UDP 4001",
        ]);
    }

    fn nothing_is_deleted_that_the_gateway_never_had(t) {
        t.delete(udp(4000)).says(&["0 = deleted UDP 4000"]);
        t.map(udp(4001)).refuse(Some(udp(4001)), 1000, SHORT_OF_SOMETHING).take();
        t.delete(udp(4001)).says(&["0 = deleted UDP 4001"]);
    }

    fn a_request_without_answer_is_deleted_too(t) {
        t.map(udp(4000)).delete(udp(4000)).says(&["0 > map UDP 4000", "0 > delete UDP 4000"]);
        t.map(udp(4001)).at(20_000).take();
        t.delete(udp(4001)).answer(Some(udp(4001)), 1020);
        t.says(&["20000 > delete UDP 4001", "20000 = deleted UDP 4001"]);
    }

    fn a_grant_for_a_mapping_being_destroyed_sends_its_deletion_again(t) {
        t.map(udp(4000)).at(50).delete(udp(4000)).at(60).grant(udp(4000), 1000);
        t.at(70).answer(Some(udp(4000)), 1000).at(60_000).says(&[
            "0 > map UDP 4000",
            "50 > delete UDP 4000",
            "60 > delete UDP 4000",
            "70 = deleted UDP 4000",
        ]);
    }

    fn a_grant_after_the_deletion_was_given_up_is_deleted_too(t) {
        t.map(udp(4000)).delete(udp(4000)).at(2000).take();
        t.grant(udp(4000), 1002).at(60_000).says(&["2000 > delete UDP 4000"]);
    }

    fn a_flood_of_late_grants_is_not_answered_without_end(t) {
        t.map(udp(4000)).delete(udp(4000)).take();
        for _ in 0..1000 {
            t.grant(udp(4000), 1000);
        }
        assert!(t.take().len() <= 3);
    }

    fn a_new_request_drops_a_deletion_that_is_not_sent(t) {
        for port in 5000..5128 {
            t.map(udp(port));
        }
        // The window is full of requests to a gateway that says nothing.
        t.map(udp(4000)).take();
        t.delete(udp(4000)).says(&["0 = deleted UDP 4000"]);
        t.map(udp(4000)).says(&[]);
    }

    fn a_new_request_follows_the_answer_of_the_deletion(t) {
        t.map_as(udp(4000), 9000).answer(Some(udp(4000)), 1000).at(10).delete(udp(4000)).take();
        t.at(20).map(udp(4000)).at(30).answer(Some(udp(4000)), 1000);
        t.at(40).answer(Some(udp(4000)), 1000).at(1030).answer(Some(udp(4000)), 1001).at(60_000);
        t.says(&[
            "30 > map UDP 4000 as 9000",
            "40 = granted UDP 4000 :9000 7200s",
            "1030 > map UDP 4000 as 9000",
            "1030 = granted UDP 4000 :9000 7200s",
        ]);
    }

    fn a_new_request_follows_an_unanswered_deletion_after_250_ms(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).take();
        t.at(100).map(udp(4000)).at(260).answer(Some(udp(4000)), 1000).at(60_000);
        t.says(&["250 > map UDP 4000", "260 = granted UDP 4000 :4000 7200s", "1250 > map UDP 4000"]);
    }

    fn a_mapping_that_a_late_deletion_removed_is_made_again_by_the_second_request(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).take();
        t.map(udp(4000)).at(260).answer(Some(udp(4000)), 1000).take();
        t.at(1260).answer_with(Some(udp(4000)), 1001, |bytes| {
            let port = bytes.len() - if bytes.len() == 60 { 18 } else { 6 };
            bytes[port..port + 2].copy_from_slice(&[0x23, 0x28]);
        });
        t.says(&["1250 > map UDP 4000", "1260 = granted UDP 4000 :9000 7200s"]);
    }

    fn a_new_request_that_is_destroyed_at_once_deletes_again(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).take();
        t.at(10).map(udp(4000)).at(20).delete(udp(4000)).at(30).answer(Some(udp(4000)), 1000).at(60_000);
        t.says(&["20 > delete UDP 4000", "30 = deleted UDP 4000"]);
    }

    fn a_refused_deletion_lets_the_new_request_go_as_well(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).take();
        t.at(100).map(udp(4000)).at(110).refuse(Some(udp(4000)), 1000, SHORT_OF_SOMETHING);
        t.says(&["110 > map UDP 4000"]);
    }

    fn a_mapping_made_after_its_deletion_ended_begins_anew(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).answer(Some(udp(4000)), 1000).take();
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).at(60_000);
        t.says(&["0 > map UDP 4000", "0 = granted UDP 4000 :4000 7200s"]);
    }

    fn an_abandoned_request_is_deleted_once_and_not_waited_for(t) {
        t.map(udp(4000)).map(tcp(4000)).take();
        t.abandon(udp(4000)).at(60_000);
        assert_eq!(t.take().iter().filter(|line| line.contains("UDP")).collect::<Vec<_>>(), ["0 > delete UDP 4000"]);
    }

    fn an_abandoned_request_is_destroyed_without_waiting(t) {
        t.map(udp(4000)).abandon(udp(4000)).at(3000).take();
        t.delete(udp(4000)).at(60_000);
        t.says(&["3000 > delete UDP 4000", "3000 = deletion given up UDP 4000"]);
        t.map(udp(4001)).abandon(udp(4001)).answer(Some(udp(4001)), 1060).take();
        t.delete(udp(4001)).says(&["60000 = deleted UDP 4001"]);
    }

    fn an_unsent_request_is_abandoned_without_a_word(t) {
        for port in 5000..5128 {
            t.map(udp(port));
        }
        t.map(udp(4000)).take();
        t.abandon(udp(4000)).says(&[]);
    }

    fn an_unsent_renewal_is_abandoned_without_a_word_and_its_mapping_not_forgotten(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000);
        for port in 5000..5128 {
            t.map(udp(port));
        }
        t.map(udp(4000)).take();
        t.abandon(udp(4000)).says(&[]);
        t.delete(udp(4000)).answer(Some(udp(5000)), 1000);
        assert_eq!(t.take()[0], "0 > delete UDP 4000");
    }

    fn a_request_that_waits_for_a_deletion_is_abandoned_without_a_word(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000).delete(udp(4000)).take();
        t.at(100).map(udp(4000)).abandon(udp(4000)).at(110).answer(Some(udp(4000)), 1000).at(60_000).says(&[]);
    }

    fn a_request_that_was_answered_or_refused_is_abandoned_without_a_word(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000);
        t.map(udp(4001)).refuse(Some(udp(4001)), 1000, SHORT_OF_SOMETHING).take();
        t.abandon(udp(4000)).abandon(udp(4001)).abandon(udp(4002)).says(&[]);
    }

    fn a_request_that_timed_out_is_abandoned_by_a_deletion(t) {
        t.map(udp(4000)).at(20_000).take();
        t.abandon(udp(4000)).says(&["20000 > delete UDP 4000"]);
    }

    fn a_late_grant_of_an_abandoned_request_is_made_sure_of(t) {
        t.map(udp(4000)).at(100).abandon(udp(4000)).at(150).grant(udp(4000), 1000);
        t.says(&["0 > map UDP 4000", "100 > delete UDP 4000"]);
        // The deletion's answer lets the new request go.
        t.at(160).answer(Some(udp(4000)), 1000).at(170).answer(Some(udp(4000)), 1000);
        t.at(60_000).says(&[
            "160 > map UDP 4000",
            "170 = granted UDP 4000 :4000 7200s",
            "1160 > map UDP 4000",
        ]);
    }

    fn a_late_grant_waits_250_ms_for_the_deletions_answer(t) {
        t.map(udp(4000)).at(100).abandon(udp(4000)).at(150).grant(udp(4000), 1000).at(360).take();
        t.answer(Some(udp(4000)), 1000).says(&["360 = granted UDP 4000 :4000 7200s"]);
    }

    fn a_grant_that_overtook_the_deletions_answer_is_asked_for_again_at_once(t) {
        t.map(udp(4000)).abandon(udp(4000)).at(10).answer(Some(udp(4000)), 1000).take();
        t.at(20).grant(udp(4000), 1000).says(&["20 > map UDP 4000"]);
    }

    fn what_became_of_our_own_idea_is_nobodys_business_but_nothing_is_left_behind(t) {
        t.map(udp(4000)).abandon(udp(4000)).at(10).grant(udp(4000), 1000).take();
        t.at(60_000);
        let said = t.take();
        assert!(said.iter().all(|line| line.contains(" > ")), "{said:?}");
        assert_eq!(said.first().map(String::as_str), Some("250 > map UDP 4000"));
        assert_eq!(said.last().map(String::as_str), Some("10250 > delete UDP 4000"));
    }

    fn a_mapping_wanted_again_takes_an_abandoned_request_over(t) {
        t.map(udp(4000)).at(100).abandon(udp(4000)).at(110).take();
        t.map(udp(4000)).at(400).refuse(Some(udp(4000)), 1000, SHORT_OF_SOMETHING);
        let said = t.take();
        assert_eq!(said[0], "350 > map UDP 4000");
        assert!(said[1].starts_with("400 = refused UDP 4000"), "{said:?}");
    }

    fn a_late_error_of_an_abandoned_request_changes_nothing(t) {
        t.map(udp(4000)).abandon(udp(4000)).at(10).take();
        t.refuse(Some(udp(4000)), 1000, SHORT_OF_SOMETHING).at(60_000).says(&[]);
    }

    fn a_forgotten_key_is_heard_of_no_more(t) {
        t.map(udp(4000)).map(udp(4001)).answer(Some(udp(4001)), 1000).delete(udp(4001)).take();
        t.call(|driver, cx| {
            driver.forget(cx, udp(4000));
            driver.forget(cx, udp(4001));
        });
        t.answer(Some(udp(4000)), 1000).answer(Some(udp(4001)), 1000).at(60_000).says(&[]);
    }

    fn deletions_go_before_the_requests_that_wait(t) {
        t.map(udp(4000)).answer(Some(udp(4000)), 1000);
        for port in 5000..5100 {
            t.map(udp(port));
        }
        t.delete(udp(4000)).take();
        t.answer(Some(udp(5000)), 1000);
        let said = t.take();
        assert_eq!(said[..2], ["0 > delete UDP 4000", "0 = granted UDP 5000 :5000 7200s"]);
    }

    fn nothing_is_kept_of_what_was_deleted(t) {
        for round in 0..100 {
            t.at(round * 11_000);
            let epoch = 1000 + u32::try_from(round).unwrap() * 11;
            t.map(udp(4000)).answer(Some(udp(4000)), epoch).delete(udp(4000)).answer(Some(udp(4000)), epoch);
            // Whatever the key, the next one finds the last one forgotten.
            t.map(udp(5000)).answer(Some(udp(5000)), epoch).answer(None, epoch);
            assert!(t.driver.poll_timeout().is_none());
        }
    }
}
