use super::EpochCheck::{Fits, Restarted, Stale};
use super::*;

const RULES: [Protocol; 2] = [Protocol::Pcp, Protocol::NatPmp];

/// An epoch that answers have told so far: each as seconds at receipt, asked for just then, and its value.
fn told(rule: Protocol, answers: &[(u64, u32)]) -> Epoch {
    let mut epoch = Epoch::new(rule);
    for &(secs, value) in answers {
        epoch.judge(Time::from_secs(secs), Some(Time::from_secs(secs)), value);
    }
    epoch
}

/// An announcement that is no repetition.
fn announce(epoch: &mut Epoch, millis: u64, value: u32) -> EpochCheck {
    epoch.judge_announcement(Time::from_millis(millis), value, false)
}

/// (millis at receipt, millis of the request's first sending or `None`, epoch, expected)
type Row = (u64, Option<u64>, u32, EpochCheck);

fn check(rule: Protocol, rows: &[Row]) {
    let mut epoch = Epoch::new(rule);
    for &(at, asked_at, epoch_secs, expected) in rows {
        let judged = epoch.judge(Time::from_millis(at), asked_at.map(Time::from_millis), epoch_secs);
        assert_eq!(judged, expected, "{rule:?}: epoch {epoch_secs} at {at} ms in {rows:?}");
    }
}

#[test]
fn a_clock_that_runs_like_ours_fits() {
    for rule in RULES {
        check(
            rule,
            &[
                (0, Some(0), 1000, Fits),
                (10, Some(0), 1000, Fits),
                (1_000, Some(990), 1001, Fits),
                (3_600_000, Some(3_599_000), 4600, Fits),
                (90_000_000, Some(90_000_000), 91_000, Fits),
            ],
        );
    }
}

#[test]
fn a_clock_that_starts_anew_shows_a_restart() {
    for rule in RULES {
        check(
            rule,
            &[
                (0, Some(0), 1000, Fits),
                (60_000, Some(59_990), 3, Restarted),
                (61_000, Some(60_990), 4, Fits),
            ],
        );
    }
}

#[test]
fn pcp_allows_a_sixteenth_of_drift_and_two_seconds_either_way() {
    // RFC 6887 §8.5, worked by hand: 1600 s here, so 1500 - 2 is the least: 1498.
    check(Protocol::Pcp, &[(0, None, 1000, Fits), (1_600_000, None, 2498, Fits)]);
    check(Protocol::Pcp, &[(0, None, 1000, Fits), (1_600_000, None, 2497, Restarted)]);
    // 1600 s there: 1500 - 2 = 1498 s here is the least.
    check(Protocol::Pcp, &[(0, None, 1000, Fits), (1_498_000, None, 2600, Fits)]);
    check(Protocol::Pcp, &[(0, None, 1000, Fits), (1_497_000, None, 2600, Restarted)]);
}

#[test]
fn natpmp_allows_an_eighth_and_two_seconds_behind_and_anything_ahead() {
    // RFC 6886 §3.6: 800 s here, so at least 700 - 2 there.
    check(Protocol::NatPmp, &[(0, None, 1000, Fits), (800_000, None, 1698, Fits)]);
    check(Protocol::NatPmp, &[(0, None, 1000, Fits), (800_000, None, 1697, Restarted)]);
    check(Protocol::NatPmp, &[(0, None, 1000, Fits), (800_000, None, u32::MAX, Fits)]);
}

#[test]
fn one_second_back_is_an_answer_overtaken_when_it_was_asked_before_the_higher_value_came() {
    for rule in RULES {
        check(rule, &[(100, Some(0), 51, Fits), (101, Some(0), 50, Fits), (102, None, 50, Fits)]);
    }
}

#[test]
fn one_second_back_is_a_restart_when_it_was_asked_after_the_higher_value_had_come() {
    for rule in RULES {
        check(rule, &[(100, Some(0), 51, Fits), (1_200, Some(1_100), 50, Restarted)]);
        // Also when a lower one came in between, out of order.
        check(rule, &[(100, Some(0), 51, Fits), (130, Some(0), 50, Fits), (160, Some(120), 50, Restarted)]);
        // The first receipt of the value counts, not the last.
        check(rule, &[(100, Some(0), 51, Fits), (900, Some(800), 51, Fits), (950, Some(500), 50, Restarted)]);
    }
}

#[test]
fn a_restart_in_the_gateways_first_seconds_is_noticed() {
    for rule in RULES {
        check(rule, &[(1_000, Some(990), 1, Fits), (2_000, Some(1_990), 0, Restarted)]);
    }
}

#[test]
fn answers_from_before_the_restart_are_stale() {
    for rule in RULES {
        check(
            rule,
            &[
                (0, Some(0), 5000, Fits),
                (10_000, Some(9_500), 1, Restarted),
                (10_010, Some(9_500), 5010, Stale),
                (10_020, Some(9_500), 1, Fits),
                (10_700, Some(9_500), 5010, Stale),
            ],
        );
    }
}

#[test]
fn what_was_asked_after_the_restart_was_noticed_is_never_stale() {
    // By NAT-PMP's rule a jump ahead is no restart, by PCP's it is another one.
    check(
        Protocol::NatPmp,
        &[(0, Some(0), 5000, Fits), (10_000, Some(9_500), 1, Restarted), (10_700, Some(10_100), 5010, Fits)],
    );
    check(
        Protocol::Pcp,
        &[
            (0, Some(0), 5000, Fits),
            (10_000, Some(9_500), 1, Restarted),
            (10_700, Some(10_100), 5010, Restarted),
        ],
    );
}

#[test]
fn eras_a_second_apart_are_told_by_the_nearer_one() {
    // The old era would show 2 at 1100 ms, the new one 0.
    let before = [(0, Some(0), 1, Fits), (1_050, Some(900), 0, Restarted)];
    for (epoch, expected) in [(0, Fits), (2, Stale)] {
        let mut rows = before.to_vec();
        rows.push((1_100, Some(900), epoch, expected));
        check(Protocol::Pcp, &rows);
    }
}

#[test]
fn nothing_wraps_at_the_ends_of_the_range() {
    check(
        Protocol::Pcp,
        &[(0, None, 0, Fits), (10, None, u32::MAX, Restarted), (20, Some(15), 0, Restarted)],
    );
    check(Protocol::Pcp, &[(0, None, u32::MAX, Fits), (1_000, Some(900), 0, Restarted)]);
    let mut epoch = Epoch::new(Protocol::Pcp);
    assert_eq!(epoch.judge(Time::from_micros(u64::MAX), None, u32::MAX), Fits);
    assert_eq!(epoch.judge(Time::ZERO, None, 0), Restarted);
    assert_eq!(
        epoch.judge(Time::from_micros(u64::MAX), Some(Time::from_micros(u64::MAX)), u32::MAX),
        Restarted
    );
}

#[test]
fn an_announcement_not_above_the_highest_value_known_shows_a_restart() {
    for rule in RULES {
        // Restarted within its first second, and a little later.
        for (known, announced) in [(0, 0), (3, 0), (1, 1)] {
            let mut epoch = told(rule, &[(10, known)]);
            assert_eq!(announce(&mut epoch, 10_800, announced), Restarted, "{rule:?} {known}");
            // It began the era of the answers that follow.
            let at = Time::from_secs(13);
            assert_eq!(epoch.judge(at, Some(at), announced + 2), Fits, "{rule:?} {known}");
        }
    }
}

#[test]
fn an_announcement_in_range_and_higher_is_recorded() {
    for rule in RULES {
        let mut epoch = told(rule, &[(0, 1000)]);
        assert_eq!(announce(&mut epoch, 60_000, 1060), Fits);
        assert_eq!(announce(&mut epoch, 61_000, 1061), Fits);
        let (asked_at, at) = (Time::from_millis(61_100), Time::from_millis(61_200));
        assert_eq!(epoch.clone().judge(at, Some(asked_at), 1060), Restarted, "{rule:?}: below it");
        assert_eq!(epoch.clone().judge(at, Some(asked_at), 1061), Fits, "{rule:?}");
        assert_eq!(announce(&mut epoch, 62_100, 1061), Restarted, "{rule:?}: not above it");
    }
}

#[test]
fn an_announcement_of_the_second_that_was_told_is_no_restart() {
    for rule in RULES {
        let mut epoch = told(rule, &[(0, 1000), (60, 1060)]);
        assert_eq!(announce(&mut epoch, 60_003, 1060), Fits, "{rule:?}");
        assert_eq!(announce(&mut epoch, 60_003, 1059), Fits, "{rule:?}: sent before the answer");
        assert_eq!(announce(&mut epoch, 60_999, 1060), Fits, "{rule:?}");
        assert_eq!(announce(&mut epoch, 61_000, 1060), Restarted, "{rule:?}: the clock stands");
        let mut young = told(rule, &[(0, 1)]);
        assert_eq!(announce(&mut young, 900, 1), Restarted, "{rule:?}: may have started since");
    }
}

#[test]
fn an_announcement_out_of_range_shows_a_restart() {
    for (rule, value) in [(Protocol::Pcp, 1030), (Protocol::Pcp, 1100), (Protocol::NatPmp, 1030)] {
        let mut epoch = told(rule, &[(0, 1000)]);
        assert_eq!(announce(&mut epoch, 60_000, value), Restarted, "{rule:?} {value}");
    }
    // RFC 6886 §3.6 sees nothing wrong with a clock that is ahead.
    assert_eq!(announce(&mut told(Protocol::NatPmp, &[(0, 1000)]), 60_000, 1100), Fits);
}

#[test]
fn a_repeated_announcement_changes_nothing() {
    for rule in RULES {
        let mut epoch = told(rule, &[(10, 500)]);
        assert_eq!(announce(&mut epoch, 11_000, 0), Restarted);
        let repeat = |epoch: &mut Epoch, millis, value| {
            epoch.judge_announcement(Time::from_millis(millis), value, true)
        };
        assert_eq!(repeat(&mut epoch, 11_250, 0), EpochCheck::Unclear);
        assert_eq!(repeat(&mut epoch, 11_750, 0), EpochCheck::Unclear);
        assert_eq!(repeat(&mut epoch, 12_750, 1), Fits);
        let at = Time::from_secs(15);
        assert_eq!(epoch.judge(at, Some(at), 4), Fits, "{rule:?}: the era of the first of them");
    }
}

#[test]
fn answers_from_before_an_announced_restart_are_stale() {
    for rule in RULES {
        let mut epoch = told(rule, &[(0, 5000)]);
        assert_eq!(announce(&mut epoch, 10_000, 0), Restarted);
        let judge = |epoch: &mut Epoch, asked_at, at, value| {
            epoch.judge(Time::from_millis(at), Some(Time::from_millis(asked_at)), value)
        };
        assert_eq!(judge(&mut epoch, 9_900, 10_050, 5010), Stale, "{rule:?}");
        assert_eq!(judge(&mut epoch, 9_900, 10_060, 0), Fits, "{rule:?}");
    }
}

#[test]
fn an_announcement_says_nothing_where_no_answer_has_or_the_epoch_is_no_clock() {
    for rule in RULES {
        let mut epoch = Epoch::new(rule);
        assert_eq!(announce(&mut epoch, 1000, 7), EpochCheck::Unclear);
        assert!(!epoch.is_known());
        let at = Time::from_secs(2);
        assert_eq!(epoch.judge(at, Some(at), 3), Fits, "it was not recorded");

        let standing = [(0, 7), (300, 7), (600, 7), (900, 7)];
        let mut epoch = told(rule, &standing);
        assert_eq!(announce(&mut epoch, 1_200_000, 7), EpochCheck::Unclear, "{rule:?}: after four eras");
        // Such restarts are eras like others.
        let mut epoch = told(rule, &standing[..1]);
        let shown: Vec<EpochCheck> = (1..6).map(|n| announce(&mut epoch, 300_000 * n, 7)).collect();
        assert_eq!(shown.iter().filter(|&&shown| shown == Restarted).count(), 3);
        assert_eq!(shown.last(), Some(&EpochCheck::Unclear));
    }
}

#[test]
fn a_clock_that_stands_still_is_taken_for_a_restart_a_few_times_only() {
    for rule in RULES {
        let mut epoch = Epoch::new(rule);
        let judge = |epoch: &mut Epoch, secs: u64, value: u32| {
            let at = Time::from_secs(secs);
            epoch.judge(at, Some(at), value)
        };
        let shown: Vec<EpochCheck> = (0..100).map(|n| judge(&mut epoch, n * 300, 7)).collect();
        assert_eq!(shown.iter().filter(|&&shown| shown == Restarted).count(), 3, "{rule:?}");
        // The gateway is replaced by one whose clock runs: believed once it has been seen to, after a recheck.
        assert_eq!(judge(&mut epoch, 40_000, 1000), Fits);
        assert_eq!(judge(&mut epoch, 40_300, 1300), Fits);
        assert_eq!(judge(&mut epoch, 40_600, 5), Fits);
        epoch.note_recheck();
        assert_eq!(judge(&mut epoch, 40_900, 305), Fits);
        assert_eq!(judge(&mut epoch, 41_200, 5), Restarted);
    }
}

#[test]
fn restarts_of_a_clock_that_runs_between_them_are_all_seen() {
    for rule in RULES {
        let mut epoch = Epoch::new(rule);
        for round in 0..20u64 {
            for (after, value) in [(0, 1), (5, 6), (60, 61)] {
                let at = Time::from_secs(1000 * round + after);
                let expected = if round > 0 && after == 0 { Restarted } else { Fits };
                assert_eq!(epoch.judge(at, Some(at), value), expected, "{rule:?}, round {round}, {after} s");
            }
        }
    }
}
