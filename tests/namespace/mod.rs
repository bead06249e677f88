//! Tests in a network namespace of their own: what they do to links and routes, nobody else sees.

use std::io::Write;
use std::process::{Command, Stdio};

const MARK: &str = "PLUM_TEST_NAMESPACE";

/// Whether the caller, the test named `test`, runs in a namespace of its own. If not, it is run again in one here,
/// alone, and the caller has nothing left to do.
///
/// Needs root or unprivileged user namespaces. Without either it says so and goes on, but where CI is set it fails.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let privileges: &[&[&str]] = &[&["--net"], &["--user", "--map-root-user", "--net"]];
    let Some(arguments) = privileges.iter().find(|arguments| can_unshare(arguments)) else {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root");
        let text = format!("{test} was NOT run: it needs root, unshare and ip\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        return false;
    };
    let output = Command::new("unshare")
        .args(*arguments)
        .arg(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("unshare runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // A name that fits no test would pass, too.
    assert!(output.status.success() && text[0].contains("1 passed"), "in the namespace:\n{}", text.join(""));
    false
}

fn can_unshare(arguments: &[&str]) -> bool {
    let status = Command::new("unshare")
        .args(arguments)
        .args(["ip", "link", "set", "lo", "up"])
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Runs `ip` with these words.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs many `ip` commands, one a line, in one go.
#[allow(dead_code)]
pub fn ip_batch(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip runs");
    child.stdin.take().expect("its input").write_all(lines.as_bytes()).expect("ip reads");
    assert!(child.wait().expect("ip ends").success());
}

/// A cable from the interface `name` with this address (and prefix length) to its far end, `name` with an `x`.
#[allow(dead_code)]
pub fn add_cable(name: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name {name}x"));
    ip(&format!("link set {name}x up"));
    ip(&format!("link set {name} up"));
    ip(&format!("addr add {address} dev {name}"));
}

/// The index of an interface.
#[allow(dead_code)]
pub fn index(name: &str) -> u32 {
    let output = Command::new("ip").args(["-o", "link", "show", name]).output().expect("ip runs");
    let text = String::from_utf8(output.stdout).expect("ip writes UTF-8");
    text.split(':').next().and_then(|number| number.parse().ok()).expect("a line starts with the index")
}
