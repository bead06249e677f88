use super::Verdict::{Fits, Restarted, Stale};
use super::*;

/// (millis at receipt, millis of the request's first sending or `None`, epoch, verdict)
type Row = (u64, Option<u64>, u32, Verdict);

fn check(rule: Rule, rows: &[Row]) {
    let mut epoch = Epoch::new(rule);
    for &(at, asked_at, epoch_secs, verdict) in rows {
        let judged = epoch.judge(Time::from_millis(at), asked_at.map(Time::from_millis), epoch_secs);
        assert_eq!(judged, verdict, "{rule:?}: epoch {epoch_secs} at {at} ms in {rows:?}");
    }
}

#[test]
fn a_clock_that_runs_like_ours_fits() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
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
    for rule in [Rule::Pcp, Rule::NatPmp] {
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
    check(Rule::Pcp, &[(0, None, 1000, Fits), (1_600_000, None, 2498, Fits)]);
    check(Rule::Pcp, &[(0, None, 1000, Fits), (1_600_000, None, 2497, Restarted)]);
    // 1600 s there: 1500 - 2 = 1498 s here is the least.
    check(Rule::Pcp, &[(0, None, 1000, Fits), (1_498_000, None, 2600, Fits)]);
    check(Rule::Pcp, &[(0, None, 1000, Fits), (1_497_000, None, 2600, Restarted)]);
}

#[test]
fn natpmp_allows_an_eighth_and_two_seconds_behind_and_anything_ahead() {
    // RFC 6886 §3.6: 800 s here, so at least 700 - 2 there.
    check(Rule::NatPmp, &[(0, None, 1000, Fits), (800_000, None, 1698, Fits)]);
    check(Rule::NatPmp, &[(0, None, 1000, Fits), (800_000, None, 1697, Restarted)]);
    check(Rule::NatPmp, &[(0, None, 1000, Fits), (800_000, None, u32::MAX, Fits)]);
}

#[test]
fn one_second_back_is_an_answer_overtaken_when_it_was_asked_before_the_higher_value_came() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
        check(rule, &[(100, Some(0), 51, Fits), (101, Some(0), 50, Fits), (102, None, 50, Fits)]);
    }
}

#[test]
fn one_second_back_is_a_restart_when_it_was_asked_after_the_higher_value_had_come() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
        check(rule, &[(100, Some(0), 51, Fits), (1_200, Some(1_100), 50, Restarted)]);
        // Also when a lower one came in between, out of order.
        check(rule, &[(100, Some(0), 51, Fits), (130, Some(0), 50, Fits), (160, Some(120), 50, Restarted)]);
        // The first receipt of the value counts, not the last.
        check(rule, &[(100, Some(0), 51, Fits), (900, Some(800), 51, Fits), (950, Some(500), 50, Restarted)]);
    }
}

#[test]
fn a_restart_in_the_gateways_first_seconds_is_noticed() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
        check(rule, &[(1_000, Some(990), 1, Fits), (2_000, Some(1_990), 0, Restarted)]);
    }
}

#[test]
fn answers_from_before_the_restart_are_stale() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
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
        Rule::NatPmp,
        &[(0, Some(0), 5000, Fits), (10_000, Some(9_500), 1, Restarted), (10_700, Some(10_100), 5010, Fits)],
    );
    check(
        Rule::Pcp,
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
    for (epoch, verdict) in [(0, Fits), (2, Stale)] {
        let mut rows = before.to_vec();
        rows.push((1_100, Some(900), epoch, verdict));
        check(Rule::Pcp, &rows);
    }
}

#[test]
fn nothing_wraps_at_the_ends_of_the_range() {
    check(Rule::Pcp, &[(0, None, 0, Fits), (10, None, u32::MAX, Restarted), (20, Some(15), 0, Restarted)]);
    check(Rule::Pcp, &[(0, None, u32::MAX, Fits), (1_000, Some(900), 0, Restarted)]);
    let mut epoch = Epoch::new(Rule::Pcp);
    assert_eq!(epoch.judge(Time::from_micros(u64::MAX), None, u32::MAX), Fits);
    assert_eq!(epoch.judge(Time::ZERO, None, 0), Restarted);
    assert_eq!(
        epoch.judge(Time::from_micros(u64::MAX), Some(Time::from_micros(u64::MAX)), u32::MAX),
        Restarted
    );
}

#[test]
fn a_clock_that_stands_still_is_taken_for_a_restart_a_few_times_only() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
        let mut epoch = Epoch::new(rule);
        let judge = |epoch: &mut Epoch, secs: u64, value: u32| {
            let at = Time::from_secs(secs);
            epoch.judge(at, Some(at), value)
        };
        let verdicts: Vec<Verdict> = (0..100).map(|n| judge(&mut epoch, n * 300, 7)).collect();
        assert_eq!(verdicts.iter().filter(|&&verdict| verdict == Restarted).count(), 3, "{rule:?}");
        // The gateway is replaced by one whose clock runs: believed once it has been seen to.
        assert_eq!(judge(&mut epoch, 40_000, 1000), Fits);
        assert_eq!(judge(&mut epoch, 40_300, 1300), Fits);
        assert_eq!(judge(&mut epoch, 40_600, 5), Restarted);
    }
}

#[test]
fn restarts_of_a_clock_that_runs_between_them_are_all_seen() {
    for rule in [Rule::Pcp, Rule::NatPmp] {
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
