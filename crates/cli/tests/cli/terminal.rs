//! `plum map` on a terminal: the live view, colours, Ctrl-C.

use super::harness::{LONG, gateway, order, plum_at, table};
use plum_gateway::server::Server;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

pub const GREEN: &str = "\u{1b}[32m";

pub fn watch(server: &Server, words: &str, environment: &[(&str, &str)]) -> PtySession {
    let mut command = plum_at(server, words);
    command.envs(environment.iter().copied());
    let millis = u64::try_from(LONG.as_millis()).expect("it fits");
    spawn_command(command, Some(millis)).expect("the program runs on a terminal")
}

/// Waits for its end; all that it wrote since the last thing that was waited for.
pub fn end(mut session: PtySession) -> (i32, String) {
    let rest = session.exp_eof().expect("the program ends");
    match session.process().wait().expect("it can be waited for") {
        WaitStatus::Exited(_, code) => (code, rest),
        other => panic!("it ended by {other:?}"),
    }
}

#[test]
fn shows_mappings_live_and_removes_them_by_ctrl_c() {
    let server = gateway();
    let mut session = watch(&server, "map 8080 6881/udp:16881", &[]);
    session.exp_string("PORT        STATE    EXTERNAL              BY       RENEWS IN").expect("the head");
    // 7200 s are granted; 1/2 to 5/8 of that is 60 to 75 minutes.
    session.exp_regex("8080/tcp    mapped   203.0.113.7:8080      PCP      (59|1 h)").expect("the first");
    session.exp_regex("6881/udp    mapped   203.0.113.7:16881     PCP      (59|1 h)").expect("the second");
    session.exp_string("Ctrl-C removes them.").expect("the foot");
    assert_eq!(table(&server).len(), 2);
    session.send_control('c').expect("the terminal takes it");
    session.exp_string("8080/tcp    removed").expect("the first is removed");
    session.exp_string("6881/udp    removed").expect("the second is removed");
    assert_eq!(end(session).0, 0);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn redraws_in_place_and_counts_down() {
    let server = gateway();
    order(&server, "set lifetime 100");
    let mut session = watch(&server, "map 8080", &[]);
    let secs = |session: &mut PtySession| -> u64 {
        let (_, shown) =
            session.exp_regex("mapped   203.0.113.7:8080      PCP      [0-9]+ s").expect("a row");
        let number = shown.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok());
        number.expect("a number of seconds")
    };
    let first = secs(&mut session);
    assert!((30..=62).contains(&first), "{first}");
    session.exp_string("\u{1b}[3F").expect("it goes up as many lines as it has drawn");
    while secs(&mut session) >= first {}
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn lost_mapping_is_shown_as_pending_and_a_failure_with_its_reason() {
    let server = gateway();
    order(&server, "close all");
    let mut session = watch(&server, "map 8080 --keep-trying --recheck 100ms", &[]);
    session.exp_string("8080/tcp    failed   the gateway ").expect("the reason");
    order(&server, "open all");
    session.exp_string("8080/tcp    mapped ").expect("it is made");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn colours_are_off_with_no_color() {
    let server = gateway();
    let mut session = watch(&server, "map 8080", &[]);
    session.exp_string(&format!("{GREEN}8080/tcp    mapped")).expect("colours");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
    let mut session = watch(&server, "map 8080", &[("NO_COLOR", "1")]);
    let before = session.exp_string("8080/tcp    mapped").expect("no colours");
    session.send_control('c').expect("the terminal takes it");
    let (code, after) = end(session);
    assert_eq!(code, 0);
    for output in [before, after] {
        assert!(!contains_style(&output), "{output:?}");
    }
}

/// Whether there is an SGR sequence in it (ECMA-48: CSI, numbers, `m`).
pub fn contains_style(text: &str) -> bool {
    text.split("\u{1b}[")
        .skip(1)
        .any(|after| after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

#[test]
fn dumb_terminals_and_logs_get_lines() {
    for (words, environment) in [
        ("map 8080", &[("TERM", "dumb")][..]),
        ("map 8080 --plain", &[]),
        ("map 8080 -v", &[("NO_COLOR", "1")]),
    ] {
        let server = gateway();
        let mut session = watch(&server, words, environment);
        let before = session.exp_string("8080/tcp mapped 203.0.113.7:8080 by PCP\r\n").expect("a line");
        session.send_control('c').expect("the terminal takes it");
        let (code, after) = end(session);
        assert_eq!(code, 0, "{after}");
        assert!(after.contains("8080/tcp removed\r\n"), "{words}: {after}");
        for output in [before, after] {
            assert!(!output.contains('\u{1b}'), "{words}: {output:?}");
        }
    }
}
