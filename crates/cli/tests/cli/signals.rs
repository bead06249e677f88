//! Signals that come twice, that are ignored, and a pipe that nobody reads any more.

use super::harness::{LONG, Running, gateway, order, plum, plum_at, run, table};
use plum_gateway::server::Server;
use rustix::process::Signal;
use std::process::Command;

/// A shell that becomes the program, after these commands; it asks this gateway.
fn shell(server: &Server, before: &str, words: &str) -> Command {
    let program = plum("");
    let mut command = Command::new("sh");
    let script = format!("{before} \"$0\" {words}");
    command.args(["-c", &script]).arg(program.get_program());
    command.env("PLUM_GATEWAY", server.address().to_string());
    command
}

#[test]
fn second_signal_ends_it_at_once() {
    let server = gateway();
    let mut running = Running::start(plum_at(&server, "map 8080"));
    running.line();
    order(&server, "silence pcp always");
    server.with_core(|core| core.counts.reset());
    running.signal(Signal::INT);
    // The program waits for the answer to the removal now.
    assert!(server.wait_until(LONG, |core| core.counts.total() > 0), "the removal was sent");
    running.signal_until_its_end(Signal::INT);
    assert_eq!(running.end().0.code(), Some(130));
}

#[test]
fn two_signals_at_once_are_one() {
    let server = gateway();
    let running = Running::start(plum_at(&server, "map 8080"));
    running.line();
    // As `timeout` does. (Two of one number may arrive as one.)
    running.signal(Signal::TERM);
    running.signal(Signal::HUP);
    let (status, rest, errors) = running.end();
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
    assert_eq!(rest, ["8080/tcp removed"]);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn timeout_ends_it_in_order() {
    let server = gateway();
    let mut command = shell(&server, "exec timeout 2", "map 8080");
    command.env("TERM", "xterm");
    let (code, output, errors) = run(command);
    assert_eq!((code, errors.as_str()), (124, ""), "what timeout says");
    assert!(output.ends_with("8080/tcp removed\n"), "{output}");
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn ignored_signals_stay_ignored() {
    for (name, ignored, other) in [
        ("HUP", Signal::HUP, Signal::INT),
        ("INT", Signal::INT, Signal::TERM),
        ("TERM", Signal::TERM, Signal::HUP),
    ] {
        let server = gateway();
        order(&server, "set epoch 1000");
        let before = format!("trap '' {name}; exec");
        let running = Running::start(shell(&server, &before, "map 8080 --recheck 100ms"));
        assert_eq!(running.line(), "8080/tcp mapped 203.0.113.7:8080 by PCP");
        running.signal(ignored);
        // If it ended now, it would remove the mapping, and take notice of nothing.
        order(&server, "restart-without-memory");
        let mut line = running.line();
        if line == "8080/tcp lost, is being made again" {
            line = running.line();
        }
        assert_eq!(line, "8080/tcp mapped 203.0.113.7:8080 by PCP", "{name} is ignored");
        running.signal(other);
        let (status, rest, _) = running.end();
        assert_eq!((status.code(), &rest[..]), (Some(0), &["8080/tcp removed".to_owned()][..]));
    }
}

#[test]
fn output_that_nobody_reads_any_more_ends_it_without_an_error() {
    let server = gateway();
    // Lines follow when all readers are gone.
    for words in ["map 8080 --for 1s", "map 8080 --for 1s --json", "list", "man", "completions bash"] {
        let command = shell(&server, "{", &format!("{words}; echo $? >&2; }} | :"));
        let (code, output, errors) = run(command);
        assert_eq!((code, output.as_str()), (0, ""));
        // What was written before the reader went is not known.
        assert!(errors == "141\n" || !words.starts_with("map") && errors == "0\n", "{words}: {errors}");
        assert_eq!(table(&server), [""; 0]);
    }
}
