//! `plum map --exec`: the command at each change, one at a time, with the last state.

use super::harness::{LONG, Running, gateway, lose_mappings, order, plum, plum_at, table};
use super::terminal::{end, start};
use plum_gateway::server::Server;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A folder for what commands write, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("plum-exec-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a command has written so many lines.
    fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + LONG;
        while self.lines(name).len() < count {
            assert!(Instant::now() < until, "{:?}", self.lines(name));
            thread::sleep(Duration::from_millis(2));
        }
        self.lines(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `plum map` with a command, in which FILE is a file's name.
fn map(server: &Server, words: &str, command: &str, file: &Path) -> Command {
    let mut program = plum_at(server, words);
    program.args(["--exec", &command.replace("FILE", &file.display().to_string())]);
    program
}

/// Writes all of its environment that is documented.
const ALL: &str = "echo $PLUM_STATE $PLUM_EXTERNAL_HOST $PLUM_EXTERNAL_PORT $PLUM_INTERNAL_PORT $PLUM_TRANSPORT \
                   $PLUM_PROTOCOL $PLUM_FAMILY >>FILE";

const STATE: &str = "echo $PLUM_STATE >>FILE";

#[test]
fn the_command_runs_at_each_change_and_at_the_end() {
    let folder = Folder::new("changes");
    let server = gateway();
    order(&server, "set epoch 1000");
    let file = folder.file("told");
    let running = Running::start(map(&server, "map 8080/udp:9000 --recheck 100ms", ALL, &file));
    running.line();
    let mapped = "mapped 203.0.113.7 9000 8080 udp PCP ipv4";
    assert_eq!(folder.wait_for_lines("told", 1), [mapped]);
    lose_mappings(&server);
    folder.wait_for_lines("told", 2);
    order(&server, "no-faults");
    folder.wait_for_lines("told", 3);
    running.signal(Signal::INT);
    let (status, _, errors) = running.end();
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
    let lost = "lost 203.0.113.7 9000 8080 udp PCP ipv4";
    let removed = "removed 203.0.113.7 9000 8080 udp PCP ipv4";
    assert_eq!(folder.lines("told"), [mapped, lost, mapped, removed]);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_was_never_mapped_has_failed_and_is_not_removed() {
    let folder = Folder::new("failed");
    let server = gateway();
    order(&server, "close all");
    let file = folder.file("told");
    let (status, ..) = Running::start(map(&server, "map 8080", ALL, &file)).end();
    assert_eq!(status.code(), Some(3));
    assert_eq!(folder.lines("told"), ["failed 8080 tcp ipv4"], "what is not known is empty");
}

#[test]
fn mappings_that_are_left_are_not_removed() {
    let folder = Folder::new("left");
    let server = gateway();
    let file = folder.file("told");
    let (status, lines, _) = Running::start(map(&server, "map 8080 --leave", STATE, &file)).end();
    assert_eq!((status.code(), folder.lines("told")), (Some(0), vec!["mapped".to_owned()]), "{lines:?}");
    assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
}

#[test]
fn one_runs_at_a_time_and_the_last_state_wins() {
    let folder = Folder::new("one");
    let server = gateway();
    order(&server, "set epoch 1000");
    let (told, gate) = (folder.file("told"), folder.file("gate"));
    // The first one runs until there is a file.
    let command = format!("{STATE}; until [ -e {} ]; do sleep 0.01; done; echo done >>FILE", gate.display());
    let running = Running::start(map(&server, "map 8080 --recheck 100ms", &command, &told));
    running.line();
    folder.wait_for_lines("told", 1);
    lose_mappings(&server);
    // The command delays nothing of that.
    assert_eq!(running.line(), "8080/tcp lost, is being made again");
    order(&server, "no-faults");
    assert_eq!(running.line(), "8080/tcp mapped 203.0.113.7:8080 by PCP");
    assert_eq!(folder.lines("told"), ["mapped"]);
    fs::write(&gate, "").expect("a file");
    assert_eq!(folder.wait_for_lines("told", 4), ["mapped", "done", "mapped", "done"]);
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(folder.lines("told")[4..], ["removed", "done"]);
}

#[test]
fn each_mapping_has_its_own_last_state() {
    let folder = Folder::new("several");
    let server = gateway();
    let file = folder.file("told");
    let command = "echo $PLUM_STATE $PLUM_TRANSPORT $PLUM_EXTERNAL_PORT >>FILE";
    let running = Running::start(map(&server, "map 7000-7001/both", command, &file));
    folder.wait_for_lines("told", 4);
    running.signal(Signal::TERM);
    assert_eq!(running.end().0.code(), Some(0));
    let mut lines = folder.lines("told");
    assert!(lines[..4].iter().all(|line| line.starts_with("mapped ")), "{lines:?}");
    lines.sort();
    let expected = |state: &str| {
        let of = |transport: &str| [7000, 7001].map(|port| format!("{state} {transport} {port}"));
        [of("tcp"), of("udp")].concat()
    };
    assert_eq!(lines, [expected("mapped"), expected("removed")].concat());
}

#[test]
fn a_failure_is_said_and_changes_nothing_else() {
    let folder = Folder::new("failure");
    let server = gateway();
    let file = folder.file("told");
    let command = "echo output; echo $PLUM_STATE >>FILE; [ $PLUM_STATE = removed ] || exit 3";
    let running = Running::start(map(&server, "map 8080", command, &file));
    folder.wait_for_lines("told", 1);
    running.signal(Signal::INT);
    let (status, lines, errors) = running.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        lines,
        ["8080/tcp mapped 203.0.113.7:8080 by PCP", "8080/tcp removed"],
        "its output is not here"
    );
    let failure = "plum: 8080/tcp: the command for the state mapped failed: exit status: 3\n";
    // The failure is said while the next command may run.
    assert_eq!(errors.replacen(failure, "", 1), "output\noutput\n");
    assert!(errors.contains(failure), "{errors}");
}

#[test]
fn a_failure_stands_below_the_table_until_the_next_success() {
    let folder = Folder::new("table");
    let server = gateway();
    order(&server, "set epoch 1000");
    let gate = folder.file("gate");
    let mut session =
        start(map(&server, "map 8080 --recheck 100ms", "echo in the table >&2; [ -e FILE ]", &gate));
    session
        .exp_string("8080/tcp: the command for the state mapped failed: exit status: 1.")
        .expect("the failure");
    fs::write(&gate, "").expect("a file");
    order(&server, "restart-without-memory");
    let lost = session.exp_string("\u{1b}[4F").expect("the table is redrawn");
    let smaller = session.exp_string("\u{1b}[3F").expect("the table has no note any more");
    assert!(!(lost + &smaller).contains("in the table"), "the command does not write into it");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn a_command_that_hangs_does_not_outlive_the_end() {
    let folder = Folder::new("hangs");
    let server = gateway();
    let file = folder.file("told");
    // What it starts is killed with it, and cannot keep standard error open.
    let running = Running::start(map(&server, "map 8080", "echo $$ >>FILE; sleep 1000; true", &file));
    folder.wait_for_lines("told", 1);
    running.signal(Signal::INT);
    let (status, lines, errors) = running.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines.last().map(String::as_str), Some("8080/tcp removed"));
    assert!(errors.contains("the command for the state mapped failed: it was killed"), "{errors}");
    assert!(errors.contains("the command for the state removed failed: there was no time left"), "{errors}");
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn the_second_signal_does_not_wait_for_the_command() {
    let folder = Folder::new("second");
    let server = gateway();
    let file = folder.file("told");
    // Ctrl-C of a terminal does not reach it; it ends when its file is gone.
    let command = format!("{STATE}; while [ -e FILE ]; do sleep 0.05; done");
    let mut running = Running::start(map(&server, "map 8080", &command, &file));
    assert_eq!(running.line(), "8080/tcp mapped 203.0.113.7:8080 by PCP");
    folder.wait_for_lines("told", 1);
    running.signal(Signal::INT);
    assert_eq!(running.line(), "8080/tcp removed");
    running.signal_until_its_end(Signal::INT);
    fs::remove_file(&file).expect("it is there");
    assert_eq!(running.end().0.code(), Some(130));
}

#[test]
fn help_says_how_it_is_run_and_what_it_is_told() {
    let (code, help, _) = super::harness::run(plum("map --help"));
    assert_eq!(code, 0);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["sh -c COMMAND", "cmd /C COMMAND", "10 s", "lost"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    for name in ALL.split(['$', ' ']).filter(|word| word.starts_with("PLUM_")) {
        assert!(help.contains(name), "{name}: {help}");
    }
}
