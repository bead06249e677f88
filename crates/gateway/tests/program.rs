//! The program `plum-gateway`, as a script uses it.

use plum_gateway::server::unique_loopback;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plum-gateway"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Program { input: child.stdin.take(), child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }

    /// The lines before `ok`, or the error.
    fn command(&mut self, command: &str) -> Vec<String> {
        writeln!(self.input.as_mut().expect("its input"), "{command}").expect("written");
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line == "ok" {
                return lines;
            }
            assert!(!line.is_empty(), "the program has ended");
            lines.push(line);
            if lines.last().is_some_and(|line| line.starts_with("error: ")) {
                return lines;
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Has mostly ended by itself; a failed test must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn obeys_commands_and_ends_with_its_input() {
    let address = unique_loopback().to_string();
    let options =
        ["--address", &address, "--external-address=198.51.100.9", "--control", "--fault", "set epoch 500"];
    let mut program = Program::start(&options);
    assert_eq!(program.line(), format!("ready {address}"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("a timeout");
    socket.connect((address.as_str(), 5351)).expect("a route");
    let mut reply = [0; 12];
    socket.send(&[0, 0]).expect("sent");
    assert_eq!(socket.recv(&mut reply).expect("an answer"), 12);
    assert_eq!(reply[8..], [198, 51, 100, 9]);
    assert!(u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]) >= 500);

    assert!(program.command("counts")[0].contains("natpmp-address 1 "));
    assert_eq!(program.command("table"), [""; 0]);
    assert_eq!(program.command("occupy udp 9 127.0.0.1:9"), [""; 0]);
    assert_eq!(program.command("table"), ["UDP 9 127.0.0.1:9 Script until never"]);
    assert!(program.command("dance")[0].starts_with("error: not a command"));
    assert_eq!(program.command("close all"), [""; 0]);
    socket.send(&[0, 0]).expect("sent");
    let refused = socket.recv(&mut reply).expect_err("a closed port");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    program.input = None;
    assert!(program.child.wait().expect("its end").success());
}

#[test]
fn quits_on_command() {
    let address = unique_loopback().to_string();
    let mut program = Program::start(&["--address", &address, "--control", "--igd", "none"]);
    assert_eq!(program.line(), format!("ready {address}"));
    writeln!(program.input.as_mut().expect("its input"), "quit").expect("written");
    assert!(program.child.wait().expect("its end").success());
}

#[test]
fn helps_and_complains() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_plum-gateway")).args(arguments).output().expect("run");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (success, help, _) = run(&["--help"]);
    assert!(success && help.starts_with("Usage: plum-gateway"));
    // Those that the README names are there.
    let words = include_str!("../README.md")
        .split(|c: char| c != '-' && !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let is_option =
        |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
    let options: Vec<&str> = words.filter(is_option).collect();
    assert!(options.len() > 10);
    for option in options {
        assert!(help.contains(&format!("\n  {option} ")), "{option}");
    }
    for wrong in [
        &["--dance"][..],
        &["--address"],
        &["--address", "gateway.example"],
        &["--igd", "3"],
        &["--control=yes"],
        &["--ipv6"],
        &["--address=127.77.0.2", "--fault", "dance"],
        &["--address=203.0.113.1"],
    ] {
        let (success, out, error) = run(wrong);
        assert!(!success && out.is_empty() && error.starts_with("plum-gateway: "), "{wrong:?}: {error}");
    }
}
