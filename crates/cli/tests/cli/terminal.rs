//! `plum map` on a terminal: the live view, colours, Ctrl-C.

use super::harness::{LONG, dead_gateway, gateway, lose_mappings, order, plum, plum_at, table};
use plum_gateway::server::Server;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::termios::{Winsize, tcsetwinsize};
use std::process::Command;
use std::time::{Duration, Instant};

pub const GREEN: &str = "\u{1b}[32m";

pub fn watch(server: &Server, words: &str, environment: &[(&str, &str)]) -> PtySession {
    let mut command = plum_at(server, words);
    command.envs(environment.iter().copied());
    start(command)
}

/// Starts a command on a terminal.
pub fn start(command: Command) -> PtySession {
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
fn a_failure_is_said_once_where_one_terminal_has_both_outputs() {
    let server = dead_gateway();
    for options in ["", "--plain"] {
        let session = watch(&server, &format!("map 8080 {options} --discover-timeout 300ms"), &[]);
        let (code, shown) = end(session);
        let last = shown.rsplit("\u{1b}[J").next().expect("what follows the table");
        assert!(last.ends_with("plum: nothing is mapped (plum probe tells more)\r\n"), "{shown:?}");
        // A table has the sentence in its row and below it.
        let advice = if options.is_empty() { 0 } else { 1 };
        assert_eq!((code, last.matches("switch on UPnP").count()), (3, advice), "{shown:?}");
    }
}

#[test]
fn the_foot_says_that_the_removal_is_waited_for() {
    let server = gateway();
    let mut session = watch(&server, "map 8080", &[]);
    session.exp_string("8080/tcp    mapped ").expect("it is made");
    order(&server, "silence pcp always");
    session.send_control('c').expect("the terminal takes it");
    session
        .exp_string("The gateway is asked to remove them; Ctrl-C ends the wait for its answer.")
        .expect("the foot");
    session.exp_string("8080/tcp    removed, not confirmed by the gateway").expect("its end");
    let (code, rest) = end(session);
    assert_eq!(code, 1);
    let last = rest.rsplit('F').next().expect("the last frame");
    assert!(last.contains("removed") && !last.contains("Ctrl-C"), "{last:?}");
}

#[test]
fn both_families_of_a_port_have_a_row_each() {
    let server = gateway();
    let mut session = watch(&server, "map 8080 --both", &[]);
    session.exp_string("8080/tcp    mapped   203.0.113.7:8080      PCP").expect("IPv4");
    // The gateway that is named has an IPv4 address.
    session.exp_string("8080/tcp    failed   by IPv6: the gateway that is named").expect("IPv6, and why not");
    session.send_control('c').expect("the terminal takes it");
    session.exp_string("8080/tcp    removed").expect("the mapping is removed");
    assert_eq!(end(session).0, 1);
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
fn a_loss_and_a_failure_are_shown_until_they_are_over() {
    let server = gateway();
    order(&server, "close all");
    let mut session = watch(&server, "map 8080 --keep-trying --recheck 100ms", &[]);
    session.exp_string("8080/tcp    failed   the gateway ").expect("the reason");
    session.exp_string("does not answer: switch on UPnP, ").expect("what to do");
    order(&server, "set epoch 1000");
    order(&server, "open all");
    session.exp_string("8080/tcp    mapped ").expect("it is made");
    lose_mappings(&server);
    session.exp_string("8080/tcp    lost, is being made again").expect("the loss");
    order(&server, "no-faults");
    session.exp_string("8080/tcp    mapped ").expect("it is made again");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn a_long_reason_ends_with_an_ellipsis_and_the_next_try() {
    let server = gateway();
    ["refuse pcp-map 2", "silence natpmp", "close ssdp"].iter().for_each(|command| order(&server, command));
    let mut session = watch(&server, "map 8080 --keep-trying", &[]);
    session
        .exp_regex(r"failed   the gateway [0-9.]+ refuses[^.]*\.\.\., next try in [0-9]+ s")
        .expect("the row");
    session.exp_string("8080/tcp: the gateway ").expect("all of it");
    session.exp_string("(PCP: ").expect("and what was said");
    session.send_control('c').expect("the terminal takes it");
    let (code, rest) = end(session);
    assert_eq!(code, 11);
    let last = rest.rsplit('F').next().expect("the last frame");
    assert!(last.contains("failed") && !last.contains("Ctrl-C"), "{last:?}");
}

#[test]
fn what_is_odd_about_an_address_stands_below_the_table() {
    let server = gateway();
    order(&server, "set external-address 100.64.1.2");
    order(&server, "set assigned-port +10");
    let mut session = watch(&server, "map 8080", &[]);
    session.exp_string("8080/tcp    mapped   100.64.1.2:8090       PCP").expect("the row");
    session
        .exp_string("8080/tcp: 100.64.1.2 belongs to the provider's carrier-grade NAT")
        .expect("the sentence");
    session
        .exp_string("8080/tcp: the external port is 8090, because 8080 was not to be had.")
        .expect("the other");
    session.exp_string("Ctrl-C removes them.").expect("the foot");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn a_narrower_terminal_gets_a_table_without_leftovers() {
    let server = gateway();
    let mut session = watch(&server, "map 8080", &[]);
    session.exp_string("8080/tcp    mapped   203.0.113.7:8080      PCP").expect("the row");
    session.exp_string("Ctrl-C removes them.").expect("the foot");
    let terminal = session.process().get_file_handle().expect("the terminal");
    let size = Winsize { ws_row: 24, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("it is a terminal");
    // By now the head and the row take two lines each.
    session.exp_string("\u{1b}[5F").expect("it goes up to where the table begins");
    session.exp_string("PORT        STATE    EXTERNAL...").expect("the head is cut");
    session.exp_string("8080/tcp    mapped   203.0.113.7:808...").expect("the row is cut");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

/// `plum map 8080` on a terminal, with its table, and its process.
fn watch_process(server: &Server) -> (PtySession, Pid) {
    let mut command = Command::new("sh");
    command.args(["-c", "echo \"number $$.\"; exec \"$0\" map 8080"]).arg(plum("").get_program());
    command.env("PLUM_GATEWAY", server.address().to_string()).env("TERM", "xterm");
    let mut session = start(command);
    let (_, shown) = session.exp_regex("number [0-9]+\\.").expect("its number");
    let number = shown.trim_start_matches("number ").trim_end_matches('.').parse().ok();
    let process = number.and_then(Pid::from_raw).expect("a number");
    session.exp_string("Ctrl-C removes them.").expect("the table");
    (session, process)
}

fn wait_until_stopped(process: Pid) {
    let until = Instant::now() + LONG;
    while waitpid(Some(process), WaitOptions::UNTRACED | WaitOptions::NOHANG).expect("a child").is_none() {
        assert!(Instant::now() < until, "it does not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ctrl_z_takes_the_table_away_and_fg_draws_it_anew() {
    let server = gateway();
    let (mut session, process) = watch_process(&server);
    session.send_control('z').expect("the terminal takes it");
    session.exp_string("\u{1b}[3F\u{1b}[J").expect("the table is taken away");
    wait_until_stopped(process);
    kill_process(process, Signal::CONT).expect("it is there");
    let between = session.exp_string("PORT  ").expect("the table");
    assert!(!between.contains('F'), "it goes up nowhere: {between:?}");
    session.exp_string("8080/tcp    mapped").expect("all of it");
    session.send_control('c').expect("the terminal takes it");
    let (code, rest) = end(session);
    assert_eq!(code, 0);
    assert!(!rest.contains(RESTART), "one table: {rest:?}");
}

/// What a table begins with that is drawn anew on the line of the cursor (ECMA-48: clear to the end of the screen).
const RESTART: &str = "\r\u{1b}[J";

#[test]
fn after_a_stop_from_outside_the_table_is_drawn_anew() {
    let server = gateway();
    let (mut session, process) = watch_process(&server);
    kill_process(process, Signal::STOP).expect("it is there");
    wait_until_stopped(process);
    kill_process(process, Signal::CONT).expect("it is there");
    session.exp_string(RESTART).expect("a new table");
    let between = session.exp_string("PORT  ").expect("the table");
    assert!(!between.contains('F'), "it goes up nowhere: {between:?}");
    session.exp_string("8080/tcp    mapped").expect("all of it");
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
