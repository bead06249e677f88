//! Tests in a network namespace of their own: what they do to links and routes, nobody else sees.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MARK: &str = "PLUM_TEST_NAMESPACE";

/// Whether the caller, the test named `test`, runs in a namespace of its own. If not, it is run again in one here,
/// alone, and the caller has nothing left to do.
///
/// Needs root or unprivileged user namespaces. Without either it says so and goes on, but where CI is set it fails.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let Some(words) = way_in(test) else { return false };
    let output = Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(MARK, "1")
        .output()
        .expect("unshare runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // A name that fits no test would pass, too.
    assert!(output.status.success() && text[0].contains("1 passed"), "in the namespace:\n{}", text.join(""));
    false
}

/// The words before a command that run it in a namespace of its own. `None`: that is not possible here, and the caller,
/// `test`, has said so.
pub fn way_in(test: &str) -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "--net"], &["unshare", "--user", "--map-root-user", "--net"]];
    let leads_in = |words: &&&[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["ip", "link", "set", "lo", "up"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(leads_in).copied();
    if way.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root");
        let text = format!("{test} was NOT run: it needs root, unshare and ip\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    way
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

/// The flag of an address that is not to be used for new connections (rtnetlink(7): IFA_F_DEPRECATED).
pub const DEPRECATED: u8 = 0x20;
/// That of an address that is looked for elsewhere first (IFA_F_TENTATIVE).
const TENTATIVE: u8 = 0x40;

/// A machine with this address on a cable `name`, with a prefix of 64 bits and a default route, whose gateway answers nothing.
pub fn add_ipv6_network(name: &str, address: &str) {
    ip("link set lo up");
    // An address can be used at once, without a search for duplicates.
    for interface in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad");
        std::fs::write(path, "0").expect("it is the namespace's own");
    }
    add_cable(name, &format!("{address}/64"));
    ip(&format!("route add default via fe80::1 dev {name}"));
    for begins in ["fe80", address.split(':').next().expect("a first part")] {
        wait_for_ipv6_address(name, begins, 0);
    }
}

/// Waits until the kernel has an address of this interface that begins so (hexadecimal, without colons), deprecated or not, that can be
/// used. It sets and clears these flags some time after the address was added.
pub fn wait_for_ipv6_address(interface: &str, begins: &str, flags: u8) {
    let is_it = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, _, has, name] = words[..] else { return false };
        let has = u8::from_str_radix(has, 16).expect("hexadecimal");
        name == interface && address.starts_with(begins) && has & (DEPRECATED | TENTATIVE) == flags
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string("/proc/net/if_inet6").expect("procfs").lines().any(is_it) {
        assert!(Instant::now() < until, "there is no such address: {begins}");
        std::thread::yield_now();
    }
}
