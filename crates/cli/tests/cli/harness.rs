//! Starting the program, and waiting for what it does.

use super::json_page;
use plum_gateway::control::carry_out;
use plum_gateway::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::flag::register_conditional_default;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

/// Whatever has not happened after this long never will.
pub const LONG: Duration = Duration::from_secs(30);

pub fn gateway() -> Server {
    Server::start_on_own_address(|_| {}).expect("a gateway on loopback")
}

pub fn order(server: &Server, command: &str) {
    server.with_core(|core| carry_out(core, command)).expect("a command of the gateway's");
}

/// A gateway with every port closed.
pub fn dead_gateway() -> Server {
    let server = gateway();
    order(&server, "close all");
    server
}

/// Has the gateway lose its mappings, and make none until `no-faults`, by any protocol: its epoch shows the loss, and its grants are
/// not believed. Before it the epoch has to be set to something.
pub fn lose_mappings(server: &Server) {
    for command in ["silence natpmp", "close ssdp", "set wrong-nonce always", "restart-without-memory"] {
        order(server, command);
    }
}

/// What the gateway has mapped, as in `tcp 8080 -> 80`.
pub fn table(server: &Server) -> Vec<String> {
    server.with_core(|core| {
        let text = |entry: &plum_gateway::core::TableEntry| {
            format!("{:?} {} -> {}", entry.transport, entry.external_port, entry.internal.port())
        };
        core.table().iter().map(text).collect()
    })
}

/// Gives programs that are started from now on the default action of the signals that end a command. The tests may have been started
/// with these signals ignored, as a shell starts what runs behind it. A program that is started keeps what is ignored, but not a handler.
fn stop_ignoring_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            // The tests themselves still end by these signals.
            register_conditional_default(signal.as_raw(), Arc::new(AtomicBool::new(true)))
                .expect("a signal that can be handled");
        }
    });
}

/// The program with these words, in an environment that nobody has set anything in.
pub fn plum(words: &str) -> Command {
    stop_ignoring_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plum"));
    for name in ["PLUM_GATEWAY", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").args(words.split_whitespace()).stdin(Stdio::null());
    command
}

/// The program with these words, asking this gateway.
pub fn plum_at(server: &Server, words: &str) -> Command {
    let mut command = plum(words);
    command.env("PLUM_GATEWAY", server.address().to_string());
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub fn run(command: Command) -> (i32, String, String) {
    let (status, lines, errors) = Running::start(command).end();
    let output = lines.into_iter().map(|line| line + "\n").collect();
    (status.code().expect("it is not killed"), output, errors)
}

/// Runs `plum map` until it has written so many lines, then ends it by Ctrl-C: exit code, standard output, standard error.
pub fn run_for_lines(count: usize, command: Command) -> (i32, String, String) {
    let running = Running::start(command);
    let mut lines: Vec<String> = (0..count).map(|_| running.line()).collect();
    running.signal(Signal::INT);
    let (status, rest, errors) = running.end();
    lines.extend(rest);
    let output = lines.into_iter().map(|line| line + "\n").collect();
    (status.code().expect("it is not killed"), output, errors)
}

/// The subcommand of a command line with `--json`; another program may start it.
fn json_command(command: &Command) -> Option<String> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let commands = ["map", "unmap", "probe", "list", "address", "status"];
    let is_json = words.iter().any(|word| word == "--json");
    words.into_iter().find(|word| commands.contains(&word.as_str())).filter(|_| is_json)
}

/// The program as it runs; killed when dropped.
pub struct Running {
    child: Child,
    /// The subcommand, if it writes JSON.
    json_of: Option<String>,
    lines: Receiver<String>,
    stderr: Option<ChildStderr>,
}

impl Running {
    pub fn start(command: Command) -> Running {
        Running::start_into(command, Stdio::piped())
    }

    /// With its output going elsewhere, unless that is piped: then there are no lines.
    pub fn start_into(mut command: Command, stdout: Stdio) -> Running {
        let json_of = json_command(&command);
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("the program runs");
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    let sent = line.map(|line| sender.send(line));
                    if !matches!(sent, Ok(Ok(()))) {
                        break;
                    }
                }
            });
        }
        let stderr = child.stderr.take();
        Running { child, json_of, lines, stderr }
    }

    /// The next line of its output.
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(LONG).expect("the program writes another line");
        self.check(&line);
        line
    }

    /// Each line of JSON has to be as docs/json.md says.
    fn check(&self, line: &str) {
        if let Some(command) = &self.json_of {
            json_page::check(command, line);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program runs");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits until it has ended. (There is no event for it that comes with a limit.)
    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < until, "the program does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal again and again until it has ended.
    pub fn signal_until_its_end(&mut self, signal: Signal) {
        let until = Instant::now() + LONG;
        while !self.has_ended() {
            assert!(Instant::now() < until, "the program does not end");
            kill_process(Pid::from_child(&self.child), signal).expect("it is not waited for yet");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end: exit status, the lines that were left, standard error.
    pub fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(LONG) {
                Ok(line) => {
                    self.check(&line);
                    rest.push(line);
                }
                // The program has closed its output.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end"),
            }
        }
        let status = self.wait();
        let mut errors = String::new();
        if let Some(stderr) = &mut self.stderr {
            stderr.read_to_string(&mut errors).expect("the program writes UTF-8");
        }
        (status, rest, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The program may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
