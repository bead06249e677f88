//! The demonstration, completions, help.

use super::harness::{Running, plum, run, run_for_lines};
use rustix::process::Signal;
use std::process::{Command, Stdio};

#[test]
fn demo_maps_reaches_and_removes_by_each_protocol() {
    for (speaks, protocol) in [("all", "PCP"), ("natpmp", "NAT-PMP"), ("upnp", "UPnP-IGD")] {
        let (code, output, errors) = run(plum(&format!("demo --speaks {speaks}")));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(output.contains(&format!("Mapped by {protocol} in ")), "{output}");
        assert!(output.contains("\"hello from behind the gateway\""), "{output}");
        assert!(output.ends_with("Removed: the gateway has 0 mappings left.\n"), "{output}");
    }
}

#[test]
fn demo_stays_for_other_programs() {
    let demo = Running::start(plum("demo --keep"));
    let line = loop {
        let line = demo.line();
        if line.contains("PLUM_GATEWAY=") {
            break line;
        }
    };
    let mut words = line.split_whitespace();
    let (name, gateway) = words.next().and_then(|word| word.split_once('=')).expect("a setting");
    assert_eq!((name, words.collect::<Vec<_>>().join(" ").as_str()), ("PLUM_GATEWAY", "plum map 8080"));
    let mut command = plum("map 8080");
    command.env(name, gateway);
    let (code, output, _) = run_for_lines(1, command);
    assert_eq!(code, 0, "{output}");
    demo.signal(Signal::INT);
    assert_eq!(demo.end().0.code(), Some(0));
}

#[test]
fn completions_are_good_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(plum(&format!("completions {shell}")));
        assert_eq!(code, 0);
        assert!(script.contains("unmap") && script.contains("keep-trying"), "{shell}");
        // Where the shell is there it reads them.
        if Command::new(shell).arg("--version").stdout(Stdio::null()).status().is_ok() {
            let status = Command::new(shell).args(["-n", "-c", &script]).status().expect("the shell runs");
            assert!(status.success(), "{shell}");
        }
    }
}

/// The text of a manual page.
pub fn manual_page(name: &str) -> String {
    let folder = std::env::temp_dir().join(format!("plum-man-{name}-{}", std::process::id()));
    assert_eq!(run(plum(&format!("man {}", folder.display()))).0, 0);
    let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).expect("the page is there");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    ["\\fB", "\\fI", "\\fR", "\\"].iter().fold(page, |page, font| page.replace(font, ""))
}

#[test]
fn help_has_the_exit_codes_and_every_command() {
    let (code, help, _) = run(plum("--help"));
    assert_eq!(code, 0);
    for word in [
        "map",
        "unmap",
        "probe",
        "list",
        "address",
        "status",
        "demo",
        "completions",
        "man",
        "Exit codes:",
        "PLUM_GATEWAY",
        "NO_COLOR",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let (code, version, _) = run(plum("--version"));
    assert_eq!((code, version), (0, format!("plum {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn unknown_command_is_a_usage_error() {
    let (code, output, errors) = run(plum("umnap 8080"));
    assert_eq!((code, output.as_str()), (2, ""));
    assert!(errors.contains("'unmap'"), "it says what was meant: {errors}");
}
